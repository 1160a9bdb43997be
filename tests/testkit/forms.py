"""Tests that have two forms: a short one for every change, and a long one for `make verify`."""

from __future__ import annotations

import os
import random
from typing import TypeVar

T = TypeVar("T")

IS_LONG = os.environ.get("MILLPOND_VERIFY") == "1"


def by_form(short: T, long: T) -> T:
    """What belongs to the form that runs."""
    return long if IS_LONG else short


def seeded() -> random.Random:
    """Random numbers whose seed is told, and can be given again as `MILLPOND_SEED`."""
    seed = int(os.environ.get("MILLPOND_SEED") or random.SystemRandom().getrandbits(32))
    print(f"MILLPOND_SEED={seed}")
    return random.Random(seed)
