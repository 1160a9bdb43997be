"""What parent and workers do to the lists of a structure, in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from exactness.material import Holder, Opaque
from exactness.portrait import ATOMS


def lists_in(root: Any) -> list[list[Any]]:
    """Every list within, in the order of a walk, so that a number names the same one everywhere."""
    found: list[list[Any]] = []
    seen: set[int] = set()
    todo = [root]
    while todo:
        node = todo.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, list):
            found.append(node)
        if isinstance(node, list | tuple):
            # Of bulks the ends are enough.
            todo += [part for part in (*node[:4], *node[-2:]) if not isinstance(part, str | bytes)]
        elif isinstance(node, dict):
            todo += node.values()
        elif isinstance(node, Opaque | Holder):
            todo += vars(node).values()
    return found


def _self_in(d: list[Any]) -> None:
    d.append(d)


def _rank(part: Any) -> tuple[str, str]:
    """Containers by type only: their texts may be exponentially long."""
    return type(part).__name__, repr(part) if isinstance(part, tuple(ATOMS)) else ""


def _append_then_pop(d: list[Any]) -> None:
    d.append(0)
    d.pop()


def _extend_then_truncate(d: list[Any]) -> None:
    length = len(d)
    d.extend([0] * length)
    del d[length:]


def _equal_of_another_type(d: list[Any]) -> None:
    d[0] = float(d[0]) if type(d[0]) is int and abs(d[0]) < 2**50 else [d[0]]


ACTIONS: dict[str, Callable[[list[Any]], object]] = {
    "nothing": lambda d: None,
    "append": lambda d: d.append("added"),
    "set the first": lambda d: d.__setitem__(0, "changed") if d else None,
    "set the last": lambda d: d.__setitem__(-1, None) if d else None,
    "delete": lambda d: d.__delitem__(slice(0, 1)),
    "clear": lambda d: d.clear(),
    "reverse": lambda d: d.reverse(),
    "sort": lambda d: d.sort(key=_rank, reverse=True),
    "append then pop": _append_then_pop,
    "extend then truncate": _extend_then_truncate,
    "itself in it": _self_in,
    "equal of another type": lambda d: _equal_of_another_type(d) if d else None,
    "copy of an atom": lambda d: (
        d.__setitem__(0, "".join(list(d[0]))) if d and type(d[0]) is str else None
    ),
    "write into arrays": lambda d: [
        part.__setitem__(0, 9) for part in d if isinstance(part, np.ndarray)
    ],
    "write through a base": lambda d: [
        part.data.cast("B").__setitem__(8, 1)
        for part in d
        if isinstance(part, np.ndarray) and part.flags.c_contiguous and part.ndim == 1
    ],
    "same length, other content": lambda d: d.__setitem__(slice(None), [7] * len(d)),
}
