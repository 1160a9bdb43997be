"""What the workers call. Each answer depends on the argument, so a mix-up would be seen."""

from __future__ import annotations


def successor(x: int) -> int:
    return x + 1


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
