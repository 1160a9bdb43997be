"""What workers run in the tests. At module level, so that spawned workers find it too."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from pathlib import Path

from testkit.ledger import Ledger, wait_for_file, wait_until

set_by_initializer: object = None


def square(x: int) -> int:
    return x * x


def multiply(x: int, y: int = 1) -> int:
    return x * y


def identity(x: object) -> object:
    return x


def keywords(*args: object, **kwds: object) -> tuple[tuple[object, ...], dict[str, object]]:
    return args, kwds


def pid_of_worker(_: object = None) -> int:
    return os.getpid()


def reciprocal(x: int) -> float:
    return 1 / x


def initialize(value: object) -> None:
    global set_by_initializer
    set_by_initializer = value


def initialized(_: object = None) -> object:
    return set_by_initializer


def touch(path: str) -> str:
    Path(path).touch()
    return path


def wait_for(path: str) -> str:
    """Hold the worker until the test makes the file."""
    wait_for_file(path)
    return path


def touch_and_wait(began: str, released: str) -> None:
    """Tell that the task has begun, then hold the worker until the test lets it go."""
    Path(began).touch()
    wait_for_file(released)


def meet(directory: str, name: object, parties: int) -> int:
    """Return when that many tasks are in here at once: proof of that many workers."""
    (Path(directory) / f"met-{name}").touch()
    wait_until(
        lambda: len(list(Path(directory).glob("met-*"))) >= parties, f"{parties} tasks at once"
    )
    return os.getpid()


def journalled_square(ledger: Ledger, x: int) -> int:
    with ledger.task(x):
        return x * x


def die(how: str) -> None:
    """End this very process in one of the ways of the crash matrix."""
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(600)  # the signal needs no more than this call
    elif how == "segfault":
        ctypes.string_at(0)
    elif how == "exit":
        os._exit(3)
    elif how == "exit 0":
        os._exit(0)
    elif how == "abort":
        os.abort()
    else:
        raise AssertionError(how)


def journalled_square_or_death(ledger: Ledger, how: str, doomed: int, x: int) -> int:
    """The square of x; but the doomed x takes its process along."""
    with ledger.task(x):
        if x == doomed:
            die(how)
        return x * x
