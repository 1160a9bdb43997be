"""Programs with heavy objects, on both pools, for an interpreter that has no test runner.

`python run_heavy_programs.py START_METHOD` prints how many programs answered alike, and ends with 1
if one did not.
"""

from __future__ import annotations

import array
import collections
import dataclasses
import enum
import functools
import multiprocessing
import pickle
import sys
from typing import Any

import millpond
import numpy

SIZE = 3000


class Color(enum.Enum):
    RED = 0
    BLUE = 1


class Plain:
    def __init__(self, number: int) -> None:
        self.number = number
        self.items: list[Any] = [number]


@dataclasses.dataclass
class Point:
    x: int
    y: Any


@dataclasses.dataclass(frozen=True, slots=True)
class Cell:
    x: int
    y: Any


class Opaque:
    def __init__(self, value: Any = None) -> None:
        self.value = value

    def __reduce__(self) -> Any:
        return (Opaque, (self.value,))


DATA: dict[str, Any] = {
    "ints": list(range(200_000)),
    "floats": [x / 2 for x in range(SIZE)],
    "words": [f"word {x}" for x in range(SIZE)],
    "lists": [[x, [str(x)]] for x in range(SIZE)],
    "dict": {str(x): {"x": x} for x in range(SIZE)},
    "sets": [{x, -1 - x} for x in range(SIZE)],
    "instances": [Plain(x) for x in range(SIZE)],
    "points": [Point(x, [x]) for x in range(SIZE)],
    "cells": [Cell(x, (x,)) for x in range(SIZE)],
    "byte arrays": [bytearray(b"%d" % x) for x in range(SIZE)],
    "members of enums": [[Color(x % 2), x] for x in range(SIZE)],
    "deque": collections.deque([[x] for x in range(SIZE)]),
    "ordered dict": collections.OrderedDict((x, [x]) for x in range(SIZE)),
    "default dict": collections.defaultdict(list, {x: [x] for x in range(SIZE)}),
    "typed arrays": [array.array("i", [x]) for x in range(SIZE)],
    "partials": [functools.partial(print, [x]) for x in range(SIZE)],
    "numpy arrays": [numpy.arange(100_000.0), [numpy.arange(100_000)]],
    "opaque beside": [Opaque(1), [[x] for x in range(SIZE)]],
}


def look(x: Any, data: Any) -> Any:
    """What arrived, as bytes; and whether the argument is a part of what is bound."""
    tops = list(data.values()) if isinstance(data, dict) else list(data)
    return len(data), pickle.dumps(tops[:5]), [i for i, top in enumerate(tops) if top is x][:3]


def spoil(x: Any, data: Any) -> Any:
    seen = look(x, data)
    inner = next(iter(data.values())) if isinstance(data, dict) else data[0]
    if isinstance(inner, list):
        inner.append("spoilt")
    elif isinstance(inner, dict):
        inner["spoilt"] = 1
    elif isinstance(inner, numpy.ndarray):
        inner[1] = inner[-1] = 7
    elif isinstance(inner, Plain):
        inner.items.append("spoilt")
    elif isinstance(data, list):
        data.append(data[0])
    return seen


def programs(pool: Any, data: Any) -> Any:
    tops = list(data.values()) if isinstance(data, dict) else list(data)
    return (
        list(pool.imap(functools.partial(look, data=data), [1, tops[2 % len(tops)], tops[-1]])),
        list(pool.imap(functools.partial(spoil, data=data), range(3))),
        pool.map(functools.partial(spoil, data=data), range(4), chunksize=2),
        [pool.apply(spoil, (x, data)) for x in range(3)],
        pool.starmap(look, [(tops[0], data), (0, data)]),
    )


def main(method: str) -> int:
    context = multiprocessing.get_context(method)
    wrong: list[str] = []
    for name, data in DATA.items():
        answers: list[Any] = []
        for pool_class in (context.Pool, functools.partial(millpond.Pool, context=context)):
            with pool_class(1) as pool:
                answers.append(programs(pool, data))
            pool.join()
        if answers[0] != answers[1]:
            wrong.append(name)
    print(f"Ran {len(DATA)} heavy programs, {len(wrong)} differ {wrong}")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
