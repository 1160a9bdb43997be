"""The two programs, and what they give to `imap`."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass

DEFAULT_MODULE = "millpond.demo.with_default"
PARTIAL_MODULE = "millpond.demo.with_partial"


def function_with_default(elements: int) -> Callable[[int], int]:
    """Return `f` of the first program, with a list of `elements` as its default argument.

    The list is made by the first import of its module, so one process has one length.
    """
    # Read when the module is imported, here and in spawned workers: so set before either.
    os.environ["MILLPOND_DEMO_ELEMENTS"] = str(elements)
    from millpond.demo.with_default import f

    made = len(f.__defaults__[0]) if f.__defaults__ else 0
    if made != elements:
        raise RuntimeError(f"{DEFAULT_MODULE} was imported before, with {made} elements")
    return f


def function_with_partial(elements: int) -> Callable[[int], int]:
    """Return `f` of the second program, with a fresh list of `elements` bound to it."""
    from millpond.demo.with_partial import f

    return functools.partial(f, dummy=list(range(elements)))


@dataclass(frozen=True)
class Program:
    """One of the asker's two programs."""

    title: str
    module: str
    """Where its function lives: workers import it before the clock starts."""
    before_pool: bool
    """Whether the list is there before the pool, as it is where a `def` makes it."""
    function: Callable[[int], Callable[[int], int]]
    """Makes what `imap` is given, from the length of the list."""


DEFAULT = Program("default argument", DEFAULT_MODULE, True, function_with_default)
PARTIAL = Program("partial", PARTIAL_MODULE, False, function_with_partial)
PROGRAMS = (DEFAULT, PARTIAL)
