"""Proofs of graphs with numpy's scalars and small arrays, and with keys that are atoms of C types."""

from __future__ import annotations

import copyreg
import datetime
import decimal
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from exactness.graph_material import Proof, assert_changed, assert_holds, assert_noticed, sides

SMALL, OWNED_BY_BYTES = 5, 500
"""Items: numpy keeps the bytes of a pickle as an array's memory where they are more than 1000."""


class MyArray(np.ndarray):
    """A subclass, whose pickling numpy does not answer for."""


def loaded(make: Callable[[], Any]) -> list[Any]:
    return [pickle.loads(pickle.dumps(make()))]


def arrays() -> dict[str, Callable[[], Any]]:
    scalars = [
        *(getattr(np, name)(1) for name in ("bool_", "int8", "uint16", "int32", "int64")),
        *(getattr(np, name)(1.5) for name in ("float16", "float32", "float64", "longdouble")),
        *(np.complex64(1j), np.datetime64("2020-01-01"), np.timedelta64(5, "s")),
    ]
    return {
        "numbers": lambda: np.arange(SMALL),
        "memory that is a bytes object's": lambda: np.arange(OWNED_BY_BYTES),
        "two dimensions": lambda: np.ones((3, 4)),
        "in Fortran's order": lambda: np.ones((3, 4), order="F"),
        "of no dimension": lambda: np.array(3.5),
        "empty": lambda: np.zeros((0, 3)),
        "of one item": lambda: np.zeros((1, 1, 1)),
        "bools": lambda: np.array([True, False]),
        "texts": lambda: np.array(["a", "bcd"]),
        "bytes": lambda: np.array([b"a", b"bcd"]),
        "times": lambda: np.array(["2020-01-01"], "M8[D]"),
        "in the other byte order": lambda: np.arange(4).astype(">i4"),
        "read only": lambda: np.frombuffer(b"12345678", "i4"),
        "many": lambda: {f"k{x}": np.full(7, x) for x in range(50)},
        "one twice": lambda: [np.arange(3)] * 2,
        "a dtype": lambda: [np.array(["ab"]), np.array(["cd"])],
        "scalars": lambda: scalars,
        "scalars as keys": lambda: {one: [x] for x, one in enumerate(scalars)},
        "dates as keys": lambda: {
            datetime.date(2020, 1, 1): [1],
            (datetime.timedelta(1), decimal.Decimal(2)): [2],
            datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC): 3,
        },
    }


@sides
@pytest.mark.parametrize("maker", arrays())
def test_what_nobody_touches_holds(maker: str, is_worker: bool) -> None:
    root = loaded(arrays()[maker])
    proof = Proof.take(root, is_worker)
    assert_holds(proof, root)
    pickle.dumps(root[0])
    repr(root[0])
    assert_holds(proof, root)


def write(index: Any, value: Any) -> Callable[[Any], None]:
    return lambda array: array.__setitem__(index, value)


CHANGES: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
    "an item": (lambda: np.arange(SMALL), write(-1, 7)),
    "an item of many": (lambda: np.arange(OWNED_BY_BYTES), write(-1, 7)),
    "the sign of a zero": (lambda: np.zeros(2), write(1, -0.0)),
    "an item by a view": (lambda: np.zeros((3, 4)), lambda a: a.T[1:].__setitem__((0, 0), 1)),
    "an item by its memory": (
        lambda: np.zeros(3),
        lambda a: memoryview(a).cast("B").__setitem__(0, 1),
    ),
    "its shape": (lambda: np.zeros((3, 4)), lambda a: setattr(a, "shape", (4, 3))),
    "another dimension": (lambda: np.zeros(4), lambda a: setattr(a, "shape", (4, 1))),
    "its dtype": (lambda: np.zeros(3), lambda a: setattr(a, "dtype", "i8")),
    "its size": (lambda: np.zeros(3), lambda a: a.resize(2, refcheck=False)),
    "its order": (
        lambda: [np.ones((3, 4))],
        lambda r: r.__setitem__(0, np.ones((3, 4), order="F")),
    ),
    "another array": (lambda: [np.zeros(3)], lambda r: r.__setitem__(0, np.zeros(3))),
    "another scalar": (
        lambda: [np.float64(0.0)],
        lambda r: r.__setitem__(0, np.float64(-0.0)),
    ),
    "a scalar that is an int by now": (
        lambda: [np.int64(1)],
        lambda r: r.__setitem__(0, 1),
    ),
    "a key": (lambda: {np.int64(1): 1}, lambda r: (r.clear(), r.update({1: 1}))),
}


@sides
@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_noticed(change: str, is_worker: bool) -> None:
    assert_noticed(CHANGES[change], is_worker)


KEPT: list[Any] = []
TRACES: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
    "an array that is kept": (lambda: [np.zeros(3)], lambda r: KEPT.append(r[0])),
    "a view that is kept": (lambda: [np.zeros(3)], lambda r: KEPT.append(r[0][1:])),
    "its memory that is kept": (lambda: [np.zeros(3)], lambda r: KEPT.append(memoryview(r[0]))),
    "its iterator that is kept": (lambda: [np.zeros(3)], lambda r: KEPT.append(r[0].flat)),
    "the bytes that it stands on": (
        lambda: [np.zeros(OWNED_BY_BYTES)],
        lambda r: KEPT.append(r[0].base),
    ),
    "a weak reference": (lambda: [np.zeros(3)], lambda r: KEPT.append(weakref.ref(r[0]))),
    "a flag": (lambda: np.zeros(3), lambda a: a.setflags(write=False)),
    "strides that say the same": (
        lambda: np.zeros((1, 3)),
        lambda a: setattr(a, "strides", (8, 8)),
    ),
    "other memory": (lambda: np.zeros(3), lambda a: a.resize(10_000, refcheck=False)),
}


@pytest.mark.parametrize("trace", TRACES)
@pytest.mark.filterwarnings("ignore:Setting the strides:DeprecationWarning")
def test_a_worker_notices_what_leaves_a_trace(trace: str) -> None:
    make, apply = TRACES[trace]
    root = loaded(make)
    proof = Proof.take(root, True)
    try:
        apply(root[0])
        assert_changed(proof, root)
    finally:
        KEPT.clear()


@pytest.mark.parametrize(
    "view",
    [
        lambda m: m[:, :2],
        lambda m: m[:, 1],
        lambda m: m[::2],
        lambda m: m[::-1, ::-1],
        lambda m: m.T[1:3],
        lambda m: m.reshape(2, 3, 10)[:, :, ::3],
        lambda m: np.broadcast_to(m[0], (4, 10)),
    ],
)
def test_of_a_view_just_what_it_shows_counts(view: Callable[[Any], Any]) -> None:
    """Its items need not lie side by side."""
    matrix = np.arange(60.0).reshape(6, 10)
    for index in np.ndindex(6, 10):
        root = [view(matrix)]
        shown = root[0].tobytes()
        proof = Proof.take([root], False)
        assert_holds(proof, [root])
        matrix[index] += 1
        (assert_holds if root[0].tobytes() == shown else assert_changed)(proof, [root])


def test_for_the_parent_only_what_is_pickled_counts() -> None:
    matrix = np.zeros((3, 4))
    root = [matrix, matrix[1]]
    proof = Proof.take([root], False)
    assert_holds(proof, [root])
    KEPT.append(root[1])
    matrix.setflags(write=False)
    assert_holds(proof, [root])
    KEPT.clear()
    matrix.setflags(write=True)
    matrix[1, 2] = 5
    assert_changed(proof, [root])


OPAQUE: dict[str, Callable[[], Any]] = {
    "an array of objects": lambda: np.array([[], None], dtype=object),
    "an array of records": lambda: np.zeros(2, [("a", "i4")]),
    "a scalar that is a record": lambda: np.zeros(2, [("a", "i4")])[0],
    "an array of a class": lambda: np.zeros(3).view(MyArray),
    "a large array": lambda: np.zeros(1 << 15),
    "a dtype with metadata": lambda: np.zeros(2, np.dtype("i4", metadata={"a": []})),
    "a masked array": lambda: np.ma.array([1, 2]),
}


@pytest.mark.parametrize("name", OPAQUE)
def test_what_is_not_known_is_opaque(name: str) -> None:
    for root in (OPAQUE[name](), [1, [OPAQUE[name]()]]):
        with pytest.raises(TypeError):
            Proof.take([root], False)


@sides
@pytest.mark.parametrize("kind", [np.ndarray, np.float64])
def test_a_reducer_that_is_registered_later_is_noticed(kind: Any, is_worker: bool) -> None:
    root = loaded(lambda: [np.zeros(3), np.float64(1)])
    proof = Proof.take(root, is_worker)
    assert_holds(proof, root)
    copyreg.pickle(kind, lambda one: (int, ()))  # type: ignore[arg-type]
    try:
        assert_changed(proof, root)
        with pytest.raises(TypeError):
            Proof.take(root, is_worker)
    finally:
        del copyreg.dispatch_table[kind]
    assert_holds(proof, root)
