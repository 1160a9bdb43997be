"""Takes and compares proofs of every kind of graph, for valgrind to watch: `tools/memcheck.sh`."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import gc
import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from millpond import _native


class Plain:
    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)

    def method(self) -> None:
        pass


class Slots:
    __slots__ = ("a", "b")

    def __init__(self, a: Any, b: Any) -> None:
        self.a, self.b = a, b


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    x: Any
    y: Any


class Row(NamedTuple):
    a: Any
    b: Any


class Blob(bytearray):
    pass


class Text(str):
    pass


def function() -> None:
    pass


MAKERS: list[Callable[[], Any]] = [
    lambda: [1, 2.5, "text", b"bytes", None, True, 3j, ..., 10**40, ()],
    lambda: [[1, [2, [3]]], ("a", ("b", ["c"]))],
    lambda: {"a": 1, 2: [3], (4, "b"): {"c": {}}},
    lambda: [{1, 2, 3}, {"a", (1, 2)}, frozenset({b"x"}), set()],
    lambda: [bytearray(b"abc"), bytearray()],
    lambda: [Plain(a=1, b=[2])],
    lambda: [Slots(1, [2]), Slots("x", Slots(3, None))],
    lambda: [Frozen(5, {"x": 6})],
    lambda: [function, Plain, int],
    lambda: [datetime.date(2026, 11, 23), decimal.Decimal("1.5")],
    lambda: [Row(1, [2]), Blob(b"abc"), Blob(), Text("text"), Plain(a=1).method],
    lambda: [np.arange(5), np.arange(500), np.ones((3, 4), order="F"), np.zeros(0), np.array(1)],
    lambda: {np.int64(x): np.full(3, x / 2) for x in range(500)},
    lambda: list(range(3000)),
    lambda: {str(x): [x] for x in range(2000)},
]


def holds(proof: _native.Proof, holder: list[Any]) -> bool:
    return proof.holds(holder)


def main() -> None:
    for make in MAKERS:
        for is_worker in (False, True):
            holder = [pickle.loads(pickle.dumps(make()))]
            proof = _native.Proof.take(holder, is_worker)
            assert holds(proof, holder) and proof.contains(holder[0]) and proof.node_count
            if isinstance(holder[0], list):
                holder[0].append(1)
            else:
                holder[0]["new"] = 1
            assert not holds(proof, holder)
            _native.is_heavy(holder[0], 100)
            _native.is_heavy(holder[0], 10**6)
            del proof, holder
            gc.collect()
    cycle: list[Any] = [1]
    cycle.append(cycle)
    assert holds(_native.Proof.take([cycle], False), [cycle])
    for opaque in (lambda: 1, gc, (x for x in "ab"), ValueError(1)):
        try:
            _native.Proof.take([opaque], False)
        except TypeError:
            continue
        raise AssertionError(opaque)
    deep: list[Any] = []
    for _ in range(20_000):
        deep = [deep]
    assert holds(_native.Proof.take([deep], True), [deep])
    while deep:
        deep = deep[0]
    print("walked all")


if __name__ == "__main__":
    main()
