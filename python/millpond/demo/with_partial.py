"""The asker's second program: the same list, bound by `functools.partial`."""

from __future__ import annotations


def f(x: int, dummy: list[int]) -> int:
    return x
