"""Rule 4: what is equal but distinct arrives distinct; only what cannot be told apart is stored
once."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from testkit.oracle import Pool

from exactness.calls import by_every_call
from exactness.material import BINDINGS, MATERIALS, glance, ints, materials, sizes, spoil, words
from exactness.twin import same


def one_spoilt(x: object, a: Any, b: Any) -> object:
    """Whether a change of a shows in b."""
    before = glance(a), glance(b), a is b
    spoil(a)
    return before, glance(a), glance(b)


def same_object(a: object, b: object) -> bool:
    return a is b


@sizes
@materials
def test_equal_parts_of_a_callable_arrive_apart(material: str, n: int) -> None:
    """Rule 4: two equal heavy parts are two objects, whichever way they are stored."""

    def program(pool: Pool) -> object:
        a, b = MATERIALS[material](n), MATERIALS[material](n)
        return by_every_call(
            pool,
            partial(one_spoilt, a=a, b=b),
            range(3),
            ["apply", "map 2", "imap 1", "imap_unordered 3"],
        )

    same(program)


@sizes
@materials
def test_an_argument_equal_to_what_is_bound_arrives_apart(material: str, n: int) -> None:
    """Rule 4, between callable and arguments, and between arguments."""

    def program(pool: Pool) -> object:
        a, b = MATERIALS[material](n), MATERIALS[material](n)
        return [
            pool.apply(partial(one_spoilt, 0, a), (b,)),
            pool.apply(partial(one_spoilt, 0, b=a), (b,)),
            pool.apply(one_spoilt, (0, a, b)),
            pool.apply(one_spoilt, (0,), {"a": a, "b": b}),
        ]

    same(program)


@sizes
@pytest.mark.parametrize("material", ["ints", "words", "tuple of lists", "dict", "opaque beside"])
def test_equal_items_of_a_chunk_arrive_apart(material: str, n: int) -> None:
    """Rule 4, within one pickle."""

    def program(pool: Pool) -> object:
        items = [MATERIALS[material](n) for _ in range(4)]
        return [pool.map(_spoilt_size, items, size) for size in (1, 2, 4)]

    same(program)


def _spoilt_size(d: Any) -> object:
    spoil(d)
    return glance(d)


@sizes
def test_slices_arrive_as_copies(n: int) -> None:
    """Rule 4: `partial(f, a=A, b=A[10:20])` is two lists."""

    def program(pool: Pool) -> object:
        a = ints(n)
        return list(pool.imap(partial(one_spoilt, a=a, b=a[1:4]), range(3)))

    same(program)


@pytest.mark.parametrize("kind", ["str", "bytes", "bytearray", "tuple"])
def test_equal_heavy_atoms_arrive_apart(kind: str) -> None:
    """Rule 4: texts and bytes of 200 kB, equal and distinct; a pool may store their bytes once."""

    def heavy() -> Any:
        return {
            "str": "x" * 200_000,
            "bytes": bytes(200_000),
            "bytearray": bytearray(200_000),
            "tuple": tuple(words(5000)),
        }[kind]

    def program(pool: Pool) -> object:
        a, b = heavy(), heavy()
        assert a is not b or kind == "bytes"
        return [
            pool.apply(same_object, (a, b)),
            pool.apply(same_object, (a, a)),
            pool.apply(partial(same_object, a), (b,)),
            list(pool.imap(partial(same_object, b=a), [a, b, a])),
            pool.starmap(same_object, [(a, b), (b, b)], 2),
        ]

    same(program)


@sizes
def test_two_callables_of_equal_content_do_not_meet(n: int) -> None:
    """Rule 4, between jobs: equal blobs may be stored once, the worker's copies are apart."""

    def program(pool: Pool) -> object:
        callees = [binding(_spoil_bound, ints(n)) for binding in BINDINGS.values()]
        seen = [pool.apply(callee, (0,)) for callee in callees]
        results = [pool.apply_async(callee, (0,)) for callee in [*callees, *callees]]
        return seen, [result.get() for result in results]

    same(program)


def _spoil_bound(x: object, d: Any) -> object:
    before = glance(d)
    spoil(d)
    return before


def copies(x: Any) -> list[Any]:
    return [x, x.copy() if hasattr(x, "copy") else x[:], x]


@sizes
@pytest.mark.parametrize("material", ["ints", "words", "list of lists", "dict", "bytearray", "set"])
def test_equal_parts_of_a_result_arrive_apart(material: str, n: int) -> None:
    """Rule 4 for results."""

    def program(pool: Pool) -> object:
        first, copy, again = pool.apply(copies, (MATERIALS[material](n),))
        spoil(first)
        return first is copy, first is again, glance(first), glance(copy), glance(again)

    same(program)


def test_overlapping_arrays_arrive_as_two() -> None:
    """Rule 4: `a=A, b=A[10:20]` share memory here and not there."""
    numpy = pytest.importorskip("numpy")

    def program(pool: Pool) -> object:
        array = numpy.arange(200_000)
        return list(
            pool.imap(partial(_write_first, a=array, b=array[0:20], c=array.copy()), range(3))
        )

    same(program)


def _write_first(x: int, a: Any, b: Any, c: Any) -> object:
    a[0] = 7 + x
    return int(b[0]), int(c[0]), bool(a.flags.owndata), bool(b.flags.owndata)
