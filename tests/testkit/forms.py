"""Tests that have two forms: a short one for every change, and a long one for `make verify`."""

from __future__ import annotations

import functools
import os
import random
import subprocess
from pathlib import Path
from typing import TypeVar

from testkit import watchdog

T = TypeVar("T")

IS_LONG = os.environ.get("MILLPOND_VERIFY") == "1"


def by_form(short: T, long: T) -> T:
    """What belongs to the form that runs."""
    return long if IS_LONG else short


@functools.cache
def commit() -> str:
    """The commit that is tested, with a word if files differ from it; "unknown" where there is none."""
    here = Path(__file__).parent
    command = [
        "git",
        "-C",
        str(here),
        "describe",
        "--always",
        "--abbrev=12",
        "--dirty",
        "--exclude=*",
    ]
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        told = ""
    return told or "unknown"


def seeded() -> random.Random:
    """Random numbers whose seed is told, and can be given again as `MILLPOND_SEED`.

    The watchdog tells it too: what a test has printed goes with a process that is killed or crashes.
    """
    seed = int(os.environ.get("MILLPOND_SEED") or random.SystemRandom().getrandbits(32))
    told = f"MILLPOND_SEED={seed} commit={commit()}"
    print(told)
    watchdog.note(told)
    return random.Random(seed)
