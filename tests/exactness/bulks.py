"""Many objects of one kind, below and above what Millpond holds to be heavy."""

from __future__ import annotations

import array
import datetime
import enum
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from exactness.material import Holder, Opaque
from exactness.tasks import work

SMALL, LONG = 3, 2100
"""Elements: far below, and just above the 2 048 from which on a flat list is heavy."""

SIZES = ["small", "heavy", "small", "heavy", "long"]
"""A heavy bulk weighs as much as a long one of ints, with as few elements as that takes: the time that
a program needs is mostly that of drawing them."""


class Color(enum.Enum):
    RED = "red"
    BLUE = 2


@dataclass
class Point:
    """A plain dataclass."""

    x: int
    y: Any


@dataclass(frozen=True, slots=True)
class FrozenPoint:
    """One that restores itself."""

    x: int
    y: Any


class Row(NamedTuple):
    """A named tuple."""

    a: Any
    b: Any


class Members(set[Any]):
    """A set with a dict of its own."""


class Number(int):
    """An int with a dict of its own."""


class Text(str):
    """A text with a dict of its own."""


class Blob(bytearray):
    """A byte array with a dict of its own."""


class Phase(complex):
    """A complex with a dict of its own."""


class Owner(Holder):
    """One with a method."""

    def method(self) -> Any:
        return self


def _methods(count: int) -> list[Any]:
    return [[owner, owner.method] for owner in (Owner(work, [i]) for i in range(count))]


def _deep(count: int) -> list[Any]:
    """Lists in lists, not deeper than pickling goes."""
    flat: list[Any] = []
    for at in range(0, count, 50):
        inner: list[Any] = [at]
        for _ in range(49):
            inner = [inner]
        flat.append(inner)
    return flat


def _views(count: int) -> list[Any]:
    array = np.arange(float(count))
    return [array, array[:], array[1:], array.reshape(-1, 2).T]


def _shared(count: int) -> list[Any]:
    inner: list[Any] = ["shared"]
    return [inner if at % 3 else [at, inner] for at in range(count)]


OFFSET = datetime.timezone(datetime.timedelta(hours=2))

BULKS: dict[str, Callable[[int], list[Any]]] = {
    "ints": lambda n: list(range(500, 500 + n)),
    "small ints": lambda n: [i % 50 for i in range(n)],
    "big ints": lambda n: [10**18 + i for i in range(n)],
    "floats": lambda n: [i / 7 for i in range(n)],
    "words": lambda n: [f"word {i}" for i in range(n)],
    "bytes": lambda n: [b"%05d" % i for i in range(n)],
    "bools": lambda n: [i % 3 == 0 for i in range(n)],
    "nones": lambda n: [None] * n,
    "one word": lambda n: ["often"] * n,
    "few words": lambda n: [f"word {i}" for i in range(3)] * (n // 3),
    "mixed": lambda n: [(i, i / 2, f"{i}", b"%d" % i, None, i % 2 == 0)[i % 6] for i in range(n)],
    "one list inside": lambda n: [*range(n - 1), [1]],
    "lists": lambda n: [[i] for i in range(n)],
    "tuples": lambda n: [(i, f"{i}") for i in range(n)],
    "dicts": lambda n: [{"key": i, i: f"{i}"} for i in range(n)],
    "sets": lambda n: [{i, -1 - i} for i in range(n)],
    "byte arrays": lambda n: [bytearray(b"%d" % i) for i in range(n)],
    "instances": lambda n: [Holder(work, [i]) for i in range(n)],
    "points": lambda n: [Point(i, [f"{i}"]) for i in range(n)],
    "frozen points": lambda n: [FrozenPoint(i, (i,)) for i in range(n)],
    "one opaque inside": lambda n: [*([i] for i in range(n - 1)), Opaque([1])],
    "dates": lambda n: [[datetime.date.fromordinal(i + 1), Decimal(i)] for i in range(n)],
    "members": lambda n: [[i, (Color.RED, Color.BLUE)[i % 2]] for i in range(n)],
    "deques": lambda n: [deque([i, [i]], 5) for i in range(n)],
    "ordered dicts": lambda n: [OrderedDict([("a", i), (i, [i])]) for i in range(n)],
    "default dicts": lambda n: [defaultdict(list, {i: [i]}) for i in range(n)],
    "typed arrays": lambda n: [array.array("d", [i] * 9) for i in range(n)],
    "partials": lambda n: [partial(work, [i], d=i) for i in range(n)],
    "times": lambda n: [[datetime.datetime.fromtimestamp(i, OFFSET), i] for i in range(n)],
    "numpy arrays": lambda n: [np.arange(n * 20.0) + i for i in range(4)],
    "views of an array": lambda n: _views(n * 20),
    "one array twice": lambda n: [np.arange(n * 20)] * 2,
    "named tuples": lambda n: [Row(i, [i]) for i in range(n)],
    "counters": lambda n: [Counter({"a": i, i: 1}) for i in range(n)],
    "sets of a class": lambda n: [Members([i, f"{i}"]) for i in range(n)],
    "values of a class": lambda n: [[Number(i), Text(i)] for i in range(n)],
    "more values of a class": lambda n: [[Blob(b"%d" % i), Phase(i, -i)] for i in range(n)],
    "small numpy arrays": lambda n: [np.arange(9.0) + i for i in range(n)],
    "numpy scalars": lambda n: [(np.float64, np.int32, np.bool_)[i % 3](i) for i in range(n)],
    "keys of numpy and dates": lambda n: [
        {np.int64(i): [i], datetime.date.fromordinal(i + 1): i} for i in range(n)
    ],
    "methods": _methods,
    "deep": _deep,
    "shared lists": _shared,
}

WEIGHTS = {
    "lists": 2,
    "tuples": 3,
    "dicts": 5,
    "sets": 3,
    "instances": 6,
    "points": 6,
    "one opaque inside": 2,
    "dates": 3,
    "members": 3,
    "deques": 3,
    "ordered dicts": 5,
    "default dicts": 4,
    "named tuples": 4,
    "counters": 5,
    "values of a class": 3,
    "more values of a class": 3,
    "small numpy arrays": 2,
    "keys of numpy and dates": 5,
    "methods": 4,
    "typed arrays": 2,
    "times": 3,
}
"""References that an element of these brings along, itself included; one for all other kinds."""


def bulk(kind: str, size: str) -> list[Any]:
    """So many of that kind."""
    match size:
        case "small":
            count = SMALL
        case "heavy":
            count = LONG // WEIGHTS.get(kind, 1)
        case _:
            count = LONG
    return BULKS[kind](count)
