"""What is bound in the tests, light and heavy, and the ways to bind it."""

from __future__ import annotations

import functools
import os
import pickle
import sys
import zlib
from collections.abc import Callable
from typing import Any

import pytest

LIGHT = 5
HEAVY = int(os.environ.get("MILLPOND_HEAVY", "30000"))
"""Pickles to more than the 64 KiB that may wait, and than any threshold of a heavy part."""
HEAVIEST = 200_000
sizes = pytest.mark.parametrize("n", [LIGHT, HEAVY], ids=["light", "heavy"])
"""Each promise in both: a pool that treats heavy callables specially must be tested there."""
all_sizes = pytest.mark.parametrize(
    "n", [LIGHT, HEAVY, HEAVIEST], ids=["light", "heavy", "heaviest"]
)

Task = Callable[..., Any]
"""Takes an item and what is bound, as `f(x, d)`."""


class Opaque:
    """An object with a pickler of its own, so that its neighbours are on another rung."""

    def __init__(self, tag: object) -> None:
        self.tag = tag

    def __getstate__(self) -> dict[str, object]:
        return {"tag": self.tag}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)


def ints(n: int) -> list[int]:
    return list(range(1000, 1000 + n))


def words(n: int) -> list[str]:
    return [f"word {i}" for i in range(n)]


def floats(n: int) -> list[float]:
    return [i / 7 for i in range(n)]


def mixed(n: int) -> list[object]:
    """Atoms of all kinds, equal ones of different types among them."""
    return [
        (i, i / 3, f"{i}", b"%d" % i, i % 2 == 0, None, 1, True, 1.0, -0.0, 10**30 + i)[i % 11]
        for i in range(n)
    ]


MATERIALS: dict[str, Callable[[int], Any]] = {
    "ints": ints,
    "small ints": lambda n: [i % 100 for i in range(n)],
    "big ints": lambda n: [10**20 + i for i in range(n // 10 + 2)],
    "words": lambda n: words(n // 10 + 2),
    "floats": floats,
    "mixed": lambda n: mixed(n // 4 + 11),
    "bytes": lambda n: [b"%d" % i for i in range(n // 10 + 2)],
    "one word often": lambda n: ["the very same"] * (n // 4 + 2),
    "tuple": lambda n: tuple(range(n)),
    "tuple of words": lambda n: tuple(words(n // 10 + 2)),
    "list of lists": lambda n: [[i, str(i)] for i in range(n // 20 + 2)],
    "tuple of lists": lambda n: ([0], list(range(n)), words(n // 20 + 1)),
    "dict": lambda n: {f"key {i}": i for i in range(n // 10 + 2)},
    "dict of a heavy list": lambda n: {"a": list(range(n)), "b": 0},
    "opaque beside": lambda n: [Opaque(0), list(range(n))],
    "opaque inside": lambda n: [*range(n), Opaque([0])],
    "bytearray": lambda n: bytearray(n),
    "set": lambda n: set(range(n // 10 + 2)),
}
materials = pytest.mark.parametrize("material", MATERIALS)


def spoil(d: Any) -> None:
    """Change whatever can be changed, in place."""
    if isinstance(d, list):
        for part in (d[0], d[-1]):
            spoil(part)
        d[0] = "spoilt"
        d.append("spoilt")
    elif isinstance(d, dict):
        for part in d.values():
            spoil(part)
        d["spoilt"] = len(d)
        d.pop(next(iter(d)))
    elif isinstance(d, tuple):
        for part in d[:3]:
            spoil(part)
    elif isinstance(d, Opaque):
        spoil(d.tag)
        d.tag = "spoilt"
    elif isinstance(d, bytearray):
        d[0] += 1
        d.append(7)
    elif isinstance(d, set):
        d.add("spoilt")


def glance(d: Any) -> tuple[object, ...]:
    """A small answer that tells any change of content, type, aliasing or allocation."""
    size = sys.getsizeof(d) if isinstance(d, list | dict | tuple) else None
    # Sets iterate by their table, texts hash by seed: both alike in forks only.
    content = sorted(map(repr, d)) if isinstance(d, set) else d
    return type(d).__name__, size, zlib.crc32(pickle.dumps(content))


class Holder:
    """An instance that holds what a task needs: its methods are bound to it, by value."""

    def __init__(self, task: Task, bound: Any) -> None:
        self.task = task
        self.bound = bound

    def run(self, x: Any) -> Any:
        return self.task(x, self.bound)

    def __call__(self, x: Any) -> Any:
        return self.task(x, self.bound)


def turned(task: Task, d: Any, x: Any) -> Any:
    return task(x, d)


def passed_on(inner: Callable[[Any], Any], x: Any) -> Any:
    return inner(x)


def _tagged(task: Task, d: Any) -> Callable[[Any], Any]:
    """A partial with an attribute is not merged into the partial around it."""
    inner = functools.partial(turned, task)
    inner.tag = "inner"  # type: ignore[attr-defined]
    return functools.partial(inner, d)


BINDINGS: dict[str, Callable[[Task, Any], Callable[[Any], Any]]] = {
    "by keyword": lambda task, d: functools.partial(task, d=d),
    "by position": lambda task, d: functools.partial(turned, task, d),
    "nested": lambda task, d: functools.partial(passed_on, functools.partial(task, d=d)),
    "nested twice": lambda task, d: functools.partial(
        passed_on, functools.partial(passed_on, functools.partial(turned, task, d))
    ),
    "around a tagged one": _tagged,
    "method": lambda task, d: Holder(task, d).run,
    "instance": Holder,
    "partial of a method": lambda task, d: functools.partial(passed_on, Holder(task, d).run),
}
bindings = pytest.mark.parametrize("binding", BINDINGS)
