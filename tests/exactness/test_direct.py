"""The direct codec: what crosses without pickle arrives as if it had been pickled."""

from __future__ import annotations

import copyreg
import math
import pickle
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import millpond
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from testkit.oracle import Pool, assert_same, outcome_of, run_on

from exactness.twin import same

ATOMS: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    -1,
    255,
    256,
    -6,
    2**31,
    -(2**31) - 1,
    2**63 - 1,
    -(2**63),
    2**63,
    2**200,
    0.0,
    -0.0,
    math.inf,
    struct.unpack("<d", b"\x01\x02\x03\x04\x05\x06\xf8\x7f")[0],
    "",
    "a",
    "é",
    "\x00",
    "naïve",
    "\u20ac" * 3,
    "\U0001f600x",
    "\ud800",
    "x" * 5000,
    "x" * 20_000,
    b"",
    b"\xff",
    b"\x00" * 300,
    (),
    (1,),
    (1, 2, 3, 4),
    (1.0, 2.0, 3.0, 4.0),
    (1, 2, 3, 2**70),
    (1, True, 3, 4),
    (1, 2.0, "three", b"four", None, (5, (6, ((),)))),
    tuple(range(3000)),
]


def describe(value: Any) -> Any:
    """All of a value that a program can see, without addresses."""
    if isinstance(value, tuple):
        return ("tuple", sys.getsizeof(value), [describe(item) for item in value])
    if isinstance(value, float):
        return ("float", struct.pack("<d", value))
    if isinstance(value, str):
        # The size of one that is not ASCII tells whether its UTF-8 was ever asked for.
        return ("str", sys.getsizeof(value) if value.isascii() else 0, repr(value))
    return (type(value).__name__, sys.getsizeof(value), repr(value))


def seen(*args: Any, **kwds: Any) -> Any:
    """What a task sees of its arguments: values, and which of them are one object."""
    flat = [*args, *kwds.values()]
    inner = [item for value in flat if type(value) is tuple for item in value[:9]]
    every = flat + inner
    same = [[a is b for b in every] for a in every]
    return [describe(value) for value in args], [(k, describe(v)) for k, v in kwds.items()], same


def identity(value: Any) -> Any:
    return value


@pytest.mark.parametrize("value", ATOMS, ids=lambda value: repr(value)[:30])
def test_an_argument_and_a_result_arrive_as_pickle_brings_them(value: Any) -> None:
    def program(pool: Pool) -> object:
        results = [
            pool.apply(seen, (value,)),
            pool.apply(seen, (value, value), {"k": value}),
            list(pool.imap(seen, [value, value])),
            pool.map(seen, [value] * 5, chunksize=3),
            pool.starmap(seen, [(value, value)] * 3),
        ]
        back = [pool.apply(identity, (value,)), *pool.map(identity, [value, value], chunksize=2)]
        return results, [describe(value) for value in back]

    assert_same(program)


def test_single_bytes_that_are_two_objects_arrive_as_two() -> None:
    """The interpreter keeps one object of each byte, but what is unpickled is another."""

    def program(pool: Pool) -> object:
        one, two = (pickle.loads(pickle.dumps(b"x")) for _ in range(2))
        assert one is not two
        here = [
            pool.apply(seen, (one, two)),
            pool.apply(seen, (b"x", one), {"k": two}),
            pool.starmap(seen, [(one, two), (two, one), (one, one)], chunksize=3),
        ]
        back = [pool.apply(identity, ((one, two, one),)), pool.map(identity, [two, one], 2)]
        # Even the interpreter's own one arrives as another.
        back.append([pool.apply(identity, (b"x",)), b"x", b"", pool.apply(identity, (b"",))])
        return here, [[a is b for a in values for b in values] for values in back]

    assert_same(program)


firsts: list[Any] = []


def like_the_first(value: Any) -> tuple[int, list[bool]]:
    """Which of the values that came before in this process this one is."""
    firsts.append(value)
    return len(firsts), [value is one for one in firsts]


def test_one_object_twice_in_a_task_arrives_as_one_and_numbers_as_two() -> None:
    text, data, pair, number, real = "ab" * 3, b"ab" * 3, ("p", 1), 10**15, 1.5

    def program(pool: Pool) -> object:
        args = (text, text, "ab" * 3, data, data, pair, pair, (pair, text), number, real, real)
        chunk = [text, text, number, number]
        return (
            pool.apply(seen, args, {"text": text, "pair": pair}),
            pool.starmap(seen, [(text, text), (number, number), (pair, pair)], chunksize=3),
            pool.map(like_the_first, chunk, chunksize=4),
        )

    assert_same(program, processes=1)


def returned_twice(value: Any) -> Any:
    return (value, value, "ab" + str(value), (value,))


def test_one_object_twice_in_a_result_arrives_as_one() -> None:
    def program(pool: Pool) -> object:
        one = pool.apply(returned_twice, ("text",))
        chunk = pool.map(identity, ["s1", "s1"], chunksize=2)
        shared = "shared" * 2
        same = pool.map(identity, [shared, shared], chunksize=2)
        return one[0] is one[1], one[3][0] is one[0], chunk, same[0] is same[1]

    assert_same(program)


values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(st.characters(exclude_categories=()), max_size=20),
        st.binary(max_size=20),
    ),
    lambda inner: st.lists(inner, max_size=6).map(tuple),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(args=st.lists(values, max_size=4), pick=st.data())
def test_composed_atoms_arrive_as_pickle_brings_them(args: list[Any], pick: Any) -> None:
    if args:
        args.append(pick.draw(st.sampled_from(args)))
    items = tuple(args)

    def program(pool: Pool) -> object:
        return (
            pool.apply(seen, items),
            list(pool.imap(seen, items)),
            pool.map(seen, items, chunksize=3),
            [describe(value) for value in pool.map(identity, items, chunksize=2)],
        )

    assert_same(program)


# By name: what pickling checks is checked for each task.


def renamed() -> str:
    return "first"


def other() -> str:
    return "other"


@contextmanager
def rebound(value: Any) -> Iterator[None]:
    before = globals()["renamed"]
    globals()["renamed"] = value
    try:
        yield
    finally:
        globals()["renamed"] = before


class Holder:
    @staticmethod
    def inner(x: int) -> int:
        return x + 1


def test_a_function_that_its_name_does_not_lead_to_is_an_error_of_its_task() -> None:
    original = renamed

    def program(pool: Pool) -> object:
        with rebound(other):
            failed = outcome_of(lambda: pool.apply(original))
        return failed, pool.apply(original)

    assert_same(program)


def rebind_in_worker(x: int) -> int:
    globals()["renamed"] = other
    return x


def test_a_name_is_resolved_anew_for_each_task() -> None:
    original = renamed

    def program(pool: Pool) -> object:
        return pool.apply(original), pool.apply(rebind_in_worker, (1,)), pool.apply(original)

    assert assert_same(program, processes=1).value == ("first", 1, "other")


def remove_in_worker(x: int) -> int:
    del globals()["renamed"]
    return x


def test_a_name_that_is_gone_in_the_worker_is_an_error_of_its_task() -> None:
    original = renamed

    def program(pool: Pool) -> object:
        pool.apply(remove_in_worker, (1,))
        return outcome_of(lambda: pool.apply(original)).failure

    # The standard library's worker dies of it, and the job never ends: a deliberate difference.
    failure = run_on(millpond.Pool(1), program).value
    assert failure is not None
    assert failure.kind is AttributeError  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "func",
    [abs, int, str, len, math.floor, Holder.inner, struct.Struct, complex],
    ids=lambda func: func.__qualname__,
)
def test_built_in_functions_classes_and_dotted_names_are_called(func: Callable[..., Any]) -> None:
    argument: Any = {len: "abc", struct.Struct: "<d"}.get(func, 3)

    def program(pool: Pool) -> object:
        result = outcome_of(lambda: pool.apply(func, (argument,)))
        return result if result.failure is None else result.failure.kind

    assert_same(program)


def test_a_lambda_is_refused_as_pickling_refuses_it() -> None:
    def program(pool: Pool) -> object:
        return pool.apply(lambda: 1)

    assert assert_same(program).failure is not None


def test_names_with_an_extension_code_go_by_it() -> None:
    copyreg.add_extension(__name__, "renamed", 0xF001)
    try:
        assert_same(lambda pool: pool.apply(renamed))
    finally:
        copyreg.remove_extension(__name__, "renamed", 0xF001)


def test_a_hook_on_the_pickler_is_asked() -> None:
    from multiprocessing.reduction import ForkingPickler

    asked: list[Any] = []

    def reducer_override(_self: Any, value: Any) -> Any:
        asked.append(value)
        return NotImplemented

    def program(pool: Pool) -> object:
        asked.clear()
        pool.apply(identity, (1,))
        return [value for value in asked if value is identity]

    ForkingPickler.reducer_override = reducer_override  # type: ignore[method-assign]
    try:
        assert assert_same(program).value != []
    finally:
        del ForkingPickler.reducer_override


def test_many_threads_send_direct_tasks_at_once() -> None:
    def program(pool: Pool) -> object:
        got: dict[int, list[int]] = {}

        def run(number: int) -> None:
            got[number] = list(pool.imap(identity, range(number * 500, number * 500 + 500)))

        threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sorted(got.items())

    assert_same(program)


LONG: dict[str, Callable[[], Any]] = {
    "ints": lambda: list(range(-5000, 5000)),
    "wide ints": lambda: [x << 40 for x in range(-3000, 3000)],
    "huge ints": lambda: [*range(5000), 2**70],
    "floats": lambda: [x / 3 for x in range(5000)] + [float("inf"), -0.0],
    "bools": lambda: [x % 2 == 0 for x in range(5000)],
    "one bool": lambda: [*range(5000), True],
    "mixed": lambda: [x if x % 2 else x / 2 for x in range(5000)],
    "tuple of ints": lambda: tuple(range(5000)),
    "tuple of floats": lambda: tuple(x / 2 for x in range(5000)),
    "just below": lambda: list(range(2047)),
    "just enough": lambda: list(range(2048)),
    "a subclass": lambda: Listed(range(5000)),
}


class Listed(list[Any]):
    """A list of the user's."""


def long_result(kind: str) -> Any:
    return LONG[kind]()


def picture(value: Any) -> Any:
    types = sorted({type(item).__name__ for item in value})
    return type(value).__name__, types, repr(value)[:2000], hash(tuple(value)), sys.getsizeof(value)


@pytest.mark.parametrize("kind", LONG)
def test_a_long_result_of_numbers_is_what_pickle_makes(kind: str) -> None:
    def program(pool: Pool) -> object:
        results = [pool.apply(long_result, (kind,)) for _ in range(2)]
        results += pool.map(long_result, [kind] * 3, chunksize=2)
        results += pool.imap(long_result, [kind] * 2)
        return [picture(result) for result in results], results[1] is results[2]

    same(program)
