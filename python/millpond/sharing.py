"""``millpond.share``: a value that each worker gets once and keeps."""

from __future__ import annotations

from typing import TypeVar

from millpond._native import Shared

__all__ = ["Shared", "share"]

T = TypeVar("T")


def share(value: T) -> Shared[T]:
    """Return a handle to ``value`` that may stand anywhere in a callable or in arguments.

    A task finds the value where the handle stood. It is pickled once for each pool, at the first task
    that brings it, and loaded once by each worker. There is one live copy in each worker: what a task
    changes in it is there for the next task of that worker, and nowhere else. What the parent changes
    after the first task is not seen. This is the one thing in Millpond that is not exact, which is
    why it has to be asked for.

    The pool's copies are freed when the handle is. Given to anything else than a Millpond pool, a
    handle is pickled as its value.

    Args:
        value: Any object that can be pickled.
    """
    return Shared(value)


def value_of(value: T) -> T:
    """Return ``value``: what a handle is pickled as where nothing knows handles."""
    return value
