"""What the workers call. Each answer depends on the argument, so a mix-up would be seen."""

from __future__ import annotations

import time
from typing import Any


def successor(x: int) -> int:
    return x + 1


def plus(x: int, y: int) -> int:
    return x + y


def swap(x: tuple[int, str, float]) -> tuple[str, float, int]:
    number, text, half = x
    return text, half, number


def nap(seconds: float) -> float:
    """Hold the worker, and no processor."""
    time.sleep(seconds)
    return seconds


def look_up(x: int, dummy: list[int]) -> tuple[int, int, int]:
    """Tell what arrived of the bound list: an element from each end, and the length."""
    return dummy[x], dummy[-1 - x], len(dummy)


def looked_up(x: int, elements: int) -> tuple[int, int, int]:
    """What `look_up` must return for `list(range(elements))`."""
    return x, elements - 1 - x, elements


def entry(x: int, table: dict[str, int]) -> tuple[int, int]:
    """Tell what arrived of the bound dict: an entry, and the length."""
    return table[str(x)], len(table)


def entry_of(x: int, entries: int) -> tuple[int, int]:
    """What `entry` must return for a dict of each number's text to the number."""
    return x, entries


def put(x: int, array: Any) -> tuple[float, float]:
    """Tell what arrived at two places, and write there."""
    seen = float(array[x]), float(array[0])
    array[x] = array[0] = -1.0
    return seen


def total(array: Any) -> float:
    """Tell what arrived at both ends."""
    return float(array[0]) + float(array[-1])


_ARRAYS: list[Any] = []


def full(x: int, items: int) -> Any:
    """An array that the worker has made before, so that its making is not timed. There are some, since
    mpire reads a result after its function has returned the next one."""
    import numpy

    if not _ARRAYS:
        _ARRAYS.extend(numpy.zeros(items) for _ in range(8))
    array = _ARRAYS[x % len(_ARRAYS)]
    array[0] = array[-1] = x
    return array
