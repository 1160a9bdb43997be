"""Rule 12: a chunk is the unit of dispatch, of failure, of `maxtasksperchild`, and of sharing."""

from __future__ import annotations

import collections
import os
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import TimeoutError as PoolTimeout
from typing import Any

import pytest
from testkit.oracle import Pool

from exactness.calls import RUNNERS, attempt, drain, told
from exactness.gate import gate, let_through, pass_gate
from exactness.material import ints, sizes
from exactness.twin import same

ran: list[Any] = []
"""A worker's own."""


def run(x: Any, bad: tuple[Any, ...] = (), d: Any = None) -> Any:
    ran.append(x)
    if x in bad:
        raise ValueError(x)
    return x


def what_ran(_: object = None) -> list[Any]:
    items = list(ran)
    ran.clear()
    return items


FAILURES = [(0,), (1, 3), (3, 1), (7,), (0, 4), (5, 2), tuple(range(8)), ()]


@sizes
@pytest.mark.parametrize("chunksize", [1, 2, 3, 4, 8, 20])
def test_an_item_that_raises_ends_its_chunk(chunksize: int, n: int) -> None:
    """Rule 12: `map(f, range(8), chunksize=4)` with f(0) raising never runs 1 to 3, and runs 4 to
    7."""

    def program(pool: Pool) -> object:
        seen = []
        for bad in FAILURES:
            callee = partial(run, bad=bad, d=ints(n))
            for call in (pool.map, pool.imap, pool.imap_unordered):
                seen.append(attempt(lambda: list(call(callee, range(8), chunksize))))  # noqa: B023
                seen.append(pool.apply(what_ran))
            seen.append(attempt(partial(pool.starmap, callee, [(i,) for i in range(8)], chunksize)))
            seen.append(pool.apply(what_ran))
        return seen

    answers = same(program)
    if chunksize == 4:
        assert answers[:2] == [("raised", "ValueError", (0,), "RemoteTraceback"), [0, 4, 5, 6, 7]]


@sizes
@pytest.mark.parametrize("chunksize", [1, 2, 3])
def test_an_imap_goes_on_after_a_chunk_that_failed(chunksize: int, n: int) -> None:
    """Rule 12: `next` raises for it; with chunks of several the error ends the generator over
    them."""

    def program(pool: Pool) -> object:
        callee = partial(run, bad=(1, 4, 5), d=ints(n))
        return [
            drain(pool.imap(callee, range(9), chunksize)),
            drain(pool.imap_unordered(callee, range(9), chunksize)),
            # Behind the chunks that nobody asked for any more: the standard library's `terminate` can
            # hang while it still sends large ones.
            pool.apply(len, ((),)),
        ]

    answers = same(program)
    if chunksize == 1:
        assert answers[0][1:3] == [("raised", "ValueError", (1,), "RemoteTraceback"), 2]


@sizes
def test_the_first_error_of_a_chunk_and_of_a_job_is_reported(n: int) -> None:
    """Rule 12: of items 1 and 3 in one chunk it is 1; of two chunks, the first to arrive."""

    def program(pool: Pool) -> object:
        callee = partial(run, bad=(1, 3, 6), d=ints(n))
        return [attempt(partial(pool.map, callee, range(8), size)) for size in (1, 2, 4, 8)]

    assert same(program) == [("raised", "ValueError", (1,), "RemoteTraceback")] * 4


def pid(x: Any, d: Any = None) -> int:
    return os.getpid()


def numbered(pids: list[int]) -> list[int]:
    """Processes by order of their first appearance."""
    order = list(dict.fromkeys(pids))
    return [order.index(one) for one in pids]


@sizes
@pytest.mark.parametrize("limit", [1, 2, 3])
@pytest.mark.parametrize("chunksize", [1, 2, 4])
def test_maxtasksperchild_counts_chunks(chunksize: int, limit: int, n: int) -> None:
    """Rule 12: limit 1, 8 items, chunks of 4: two workers live, not eight."""

    def program(pool: Pool) -> object:
        return numbered(pool.map(partial(pid, d=ints(n)), range(8), chunksize))

    expected = [i // chunksize // limit for i in range(8)]
    assert same(program, maxtasksperchild=limit) == expected


def test_maxtasksperchild_counts_tasks_of_all_jobs() -> None:
    """Rule 12: an `apply`, an item of an `imap`, a chunk: each is one."""

    def program(pool: Pool) -> object:
        pids = [pool.apply(pid, (0,)), *pool.imap(pid, range(3)), *pool.map(pid, range(4), 2)]
        return numbered([*pids, pool.apply(pid, (0,)), *pool.starmap(pid, [(1,), (2,)], 2)])

    same(program, maxtasksperchild=2)


def appended(x: Any, d: list[Any]) -> int:
    d.append(x)
    return len(d)


@sizes
@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("count", [0, 1, 4, 5, 23, 100])
def test_default_chunks_are_the_standard_librarys(count: int, processes: int, n: int) -> None:
    """Rule 12: what is shared shows where the chunks lie; sizes follow items and workers."""

    def program(pool: Pool) -> object:
        callee = partial(appended, d=ints(n))
        lengths = [
            pool.map(callee, range(count)),
            pool.starmap(callee, [(i,) for i in range(count)]),
            pool.map(callee, (i for i in range(count))),
            list(pool.imap(callee, range(min(count, 5)))),
        ]
        return [[length - n for length in one] for one in lengths]

    same(program, processes=processes)


@sizes
@pytest.mark.parametrize("chunksize", [1, 2, 4, 7, 1000])
def test_a_worker_global_is_shared_in_a_chunk_and_beyond(chunksize: int, n: int) -> None:
    """Rule 12: globals live on, what is bound lives for the chunk, on one worker."""

    def program(pool: Pool) -> object:
        callee = partial(both_lengths, d=ints(n))
        return [
            pool.map(callee, range(9), chunksize),
            list(pool.imap(callee, range(9), chunksize)),
        ]

    same(program)


def both_lengths(x: Any, d: list[Any]) -> tuple[int, int]:
    ran.append(x)
    d.append(x)
    return len(ran), len(d)


# --- iterables ----------------------------------------------------------------------------------


class Lying(list[int]):
    """Says that it has fewer items than it gives. One that says more hangs the standard library."""

    def __init__(self, items: Any, told_length: int) -> None:
        super().__init__(items)
        self.told_length = told_length

    def __len__(self) -> int:
        return self.told_length


class OnlyGetItem:
    """Iterable by the old protocol."""

    def __getitem__(self, index: int) -> int:
        if index == 6:
            raise IndexError
        return index * 2


class NoLength:
    def __iter__(self) -> Iterator[int]:
        return iter([5, 6, 7])

    def __len__(self) -> int:
        raise ValueError("no length today")


ITERABLES: dict[str, Callable[[], Any]] = {
    "dict": lambda: {"a": 1, "b": 2, "c": 3},
    "dict items": lambda: {"a": 1, "b": 2, "c": 3}.items(),
    "set of ints": lambda: {3, 1, 2},
    "str": lambda: "a text",
    "bytes": lambda: b"bytes",
    "range": lambda: range(3, 20, 4),
    "tuple": lambda: (1, "x", None),
    "deque": lambda: collections.deque([1, 2, 3]),
    "generator": lambda: (i * i for i in range(7)),
    "map object": lambda: map(str, range(5)),
    "zip": lambda: zip("abc", [1, 2, 3], strict=True),
    "enumerate": lambda: enumerate("abc"),
    "reversed": lambda: reversed([1, 2, 3]),
    "empty": list,
    "empty generator": lambda: iter(()),
    "empty dict": dict,
    "getitem only": OnlyGetItem,
    "tells two of five": lambda: Lying(range(5), 2),
    "tells none of five": lambda: Lying(range(5), 0),
    "length raises": NoLength,
    "not iterable": lambda: 5,
    "None": lambda: None,
    "memoryview": lambda: memoryview(b"seen"),
    "list of tuples": lambda: [(1,), (2,), (3,)],
}


def kind_and_value(x: Any, *rest: Any) -> tuple[str, Any]:
    return type(x).__name__, x


@pytest.mark.parametrize("kind", ITERABLES)
def test_any_iterable_gives_its_items(kind: str) -> None:
    """Rule 12: its length is asked where the standard library asks it, and its items drawn as
    there."""

    def program(pool: Pool) -> object:
        make = ITERABLES[kind]
        return [
            attempt(lambda: pool.map(kind_and_value, make())),
            attempt(lambda: pool.map(kind_and_value, make(), 1)),
            attempt(lambda: pool.map(kind_and_value, make(), 2)),
            attempt(lambda: drain(pool.imap(kind_and_value, make()))),
            attempt(lambda: drain(pool.imap(kind_and_value, make(), 2))),
            attempt(lambda: drain(pool.imap_unordered(kind_and_value, make()))),
            attempt(lambda: pool.starmap(kind_and_value, make())),
            attempt(lambda: pool.starmap(kind_and_value, make(), 1)),
            attempt(lambda: pool.map_async(kind_and_value, make(), 3).get()),
        ]

    same(program)


def breaking(at: int, drawn: list[int]) -> Iterator[int]:
    for i in range(9):
        if i == at:
            raise LookupError(i)
        drawn.append(i)
        yield i


@sizes
@pytest.mark.parametrize("at", [0, 1, 2, 5])
@pytest.mark.parametrize("chunksize", [1, 2, 3])
def test_an_iterable_that_raises_fails_where_the_standard_library_does(
    chunksize: int, at: int, n: int
) -> None:
    """Rule 12: `map` at the call, with nothing run; `imap` in its place, after the items before."""

    def program(pool: Pool) -> object:
        callee = partial(run, d=ints(n))
        seen: list[Any] = []
        for call in (pool.map, pool.imap, pool.imap_unordered):
            drawn: list[int] = []
            answer: Any = attempt(lambda: call(callee, breaking(at, drawn), chunksize))  # noqa: B023
            seen.append(drain(answer) if hasattr(answer, "__next__") else answer)
            seen.append((drawn, pool.apply(what_ran)))
        answer = attempt(lambda: pool.starmap(callee, ((i,) for i in breaking(at, [])), chunksize))
        return [*seen, answer, pool.apply(what_ran)]

    same(program)


@pytest.mark.parametrize("chunksize", [0, -1])
def test_a_chunksize_below_one_is_refused_alike(chunksize: int) -> None:
    """Rule 12: by `imap` with ValueError; `map` with 0 or less is what it is in the standard
    library."""

    def program(pool: Pool) -> object:
        return [
            attempt(lambda: pool.imap(run, range(3), chunksize)),
            attempt(lambda: pool.imap_unordered(run, range(3), chunksize)),
        ]

    same(program)


def test_chunksizes_that_are_no_ints_are_treated_alike() -> None:
    """Rule 12: errors come at the call or with the answer, as there."""

    def program(pool: Pool) -> object:
        return [
            attempt(lambda: pool.map(run, range(3), True)),
            attempt(lambda: pool.imap(run, range(3), "2")),  # type: ignore[arg-type]
            attempt(lambda: list(pool.imap(run, range(5), True))),
            attempt(lambda: pool.map(run, [], 3)),
        ]

    same(program)


# --- the iterators of imap ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["imap", "imap_unordered"])
@pytest.mark.parametrize("chunksize", [1, 2])
def test_an_exhausted_imap_stays_exhausted(name: str, chunksize: int) -> None:
    """Rule 12: StopIteration again and again, with and without a timeout."""

    def program(pool: Pool) -> object:
        iterator: Any = getattr(pool, name)(run, range(3), chunksize)
        answers = [next(iterator) for _ in range(3)]
        ends = [stopped(lambda: next(iterator)) for _ in range(3)]
        if chunksize == 1:
            ends.append(stopped(lambda: iterator.next(timeout=0.01)))
        return answers, ends, iter(iterator) is iterator, list(iterator)

    same(program)


def stopped(call: Callable[[], object]) -> bool:
    try:
        call()
    except StopIteration as end:
        return end.value is None
    return False


def gated(x: Any, d: Any = None) -> Any:
    pass_gate()
    return x


@sizes
@pytest.mark.parametrize("name", ["imap", "imap_unordered"])
def test_next_with_a_timeout_loses_nothing(name: str, n: int) -> None:
    """Rule 12: a timeout is no end; the item comes later."""

    def program(pool: Pool) -> object:
        iterator: Any = getattr(pool, name)(partial(gated, d=ints(n)), range(3))
        seen: list[Any] = []
        for _ in range(2):
            try:
                seen.append(iterator.next(timeout=0.02))
            except PoolTimeout as error:
                seen.append(told(error))
        let_through(3)
        return seen, iterator.next(timeout=30), list(iterator)

    with gate():
        same(program)


def test_get_with_a_timeout_loses_nothing() -> None:
    """Rule 12, for results."""

    def program(pool: Pool) -> object:
        result = pool.map_async(gated, range(3), 1)
        seen: list[object] = [
            attempt(lambda: result.get(timeout=0.02)),
            result.ready(),
            # The message names the result's class, which is another on purpose.
            str(attempt(result.successful))[:22],
        ]
        result.wait(0.01)
        let_through(3)
        return seen, result.get(30), result.ready(), result.successful()

    with gate():
        same(program)


@pytest.mark.parametrize("runner", RUNNERS)
def test_no_items_are_no_trouble(runner: str) -> None:
    """Rule 12: an empty job is done at once, by every call."""

    def program(pool: Pool) -> object:
        return RUNNERS[runner](pool, run, []), RUNNERS[runner](
            pool, partial(run, d=ints(50_000)), []
        )

    assert same(program) == ([], [])


def test_the_callback_of_an_empty_job_is_called_as_there() -> None:
    """Rules 11 and 12: the standard library calls none."""

    def program(pool: Pool) -> object:
        seen: list[Any] = []
        results = [
            pool.map_async(run, [], callback=seen.append),
            pool.starmap_async(run, [], callback=seen.append),
        ]
        return [result.get() for result in results], seen, [result.ready() for result in results]

    same(program)
