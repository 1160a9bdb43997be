"""No progress depends on the caller, and no call into the pool is forbidden from within it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import millpond
import pytest
from testkit.ledger import Ledger, wait_for_file, wait_until
from testkit.pools import running
from testkit.work import identity, journalled_square, meet, square, touch


def test_a_generator_throttled_by_a_semaphore_that_the_consumer_releases() -> None:
    """A recipe for a bounded `imap`: the drawer blocks until the consumer has taken one."""
    throttle = threading.Semaphore(3)

    def numbers() -> Iterator[int]:
        for x in range(200):
            throttle.acquire()
            yield x

    with running(2) as pool:
        got = []
        for value in pool.imap(square, numbers()):
            got.append(value)
            throttle.release()
        assert got == [x * x for x in range(200)]


def test_a_generator_fed_by_the_consumers_queue() -> None:
    """Each result makes the next argument: the drawer may not run ahead, nor hold a result back."""
    feed: queue.Queue[int | None] = queue.Queue()
    feed.put(2)
    with running(2) as pool:
        got = []
        for value in pool.imap(square, iter(feed.get, None)):
            got.append(value)
            feed.put(value if value < 1 << 64 else None)
    assert got == [1 << (1 << n) for n in range(1, 7)]


@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
@pytest.mark.parametrize("lazy", [False, True])
def test_an_imap_that_is_never_consumed_runs_to_its_end(
    method: str, lazy: bool, tmp_path: Path
) -> None:
    """A program may want the effects of the tasks and not their results."""
    ledger = Ledger.at(tmp_path)
    arguments = [(ledger, x) for x in range(500)]
    with running(2) as pool:
        unread = getattr(pool, method)(apply_pair, iter(arguments) if lazy else arguments)
        wait_until(lambda: ledger.count("end") == 500, "all tasks to be done")
        assert pool.apply(square, (3,)) == 9
        del unread
    assert ledger.judge(range(500), resolved=range(500)).fair


def apply_pair(pair: tuple[Ledger, int]) -> int:
    return journalled_square(*pair)


def test_ready_turns_true_though_only_polled() -> None:
    with running(2) as pool:
        single = pool.apply_async(square, (3,))
        many = pool.map_async(square, iter(range(1000)), chunksize=1)
        wait_until(single.ready, "the single task")
        wait_until(many.ready, "the map")
        assert single.get(timeout=0) == 9
        assert many.get(timeout=0) == [x * x for x in range(1000)]


def test_a_parent_waits_for_a_file_that_a_task_writes(tmp_path: Path) -> None:
    """And asks nothing of the pool meanwhile; the file is of the last of many tasks."""
    with running(2) as pool:
        for number in range(300):
            pool.apply_async(touch, (str(tmp_path / str(number)),))
        wait_for_file(tmp_path / "299")
        lazily = pool.imap(touch, (str(tmp_path / f"lazy-{number}") for number in range(300)))
        wait_for_file(tmp_path / "lazy-299")
        assert len(list(lazily)) == 300


def test_a_callback_may_submit() -> None:
    """A chain of a thousand, each link submitted from the callback of the one before."""
    done = threading.Event()

    def step(value: int) -> None:
        if value >= 1000:
            done.set()
        else:
            pool.apply_async(successor, (value,), callback=step)

    with running(2) as pool:
        pool.apply_async(successor, (0,), callback=step)
        assert done.wait(50)


def successor(x: int) -> int:
    return x + 1


current: millpond.Pool | None = None
submitted: list[Any] = []


class SubmitsWhenPickled:
    """Its `__reduce__` uses the pool that is just pickling it."""

    def __reduce__(self) -> tuple[Callable[[int], int], tuple[int]]:
        assert current is not None
        submitted.append(current.apply_async(square, (len(submitted),)))
        return int, (7,)


def test_an_arguments_reduce_may_submit() -> None:
    global current
    submitted.clear()
    with running(2) as pool:
        current = pool
        try:
            assert pool.apply(identity, (SubmitsWhenPickled(),)) == 7
            assert pool.map(identity, [SubmitsWhenPickled() for _ in range(20)]) == [7] * 20
            assert list(pool.imap(identity, [SubmitsWhenPickled() for _ in range(20)])) == [7] * 20
            assert [result.get() for result in submitted] == [x * x for x in range(41)]
        finally:
            current = None
            submitted.clear()


class WaitsWhenPickled:
    """Its `__reduce__` waits for an answer of the pool that is just pickling it."""

    def __init__(self, x: int) -> None:
        self.x = x

    def __reduce__(self) -> tuple[Callable[[int], int], tuple[int]]:
        assert current is not None
        whole = current.map(square, range(self.x))
        return int, (current.apply(square, (self.x,)) + len(whole),)


def polled(result: Any) -> Any:
    """A result that nobody waits for, so that the keeper dispatches."""
    wait_until(result.ready, "the result")
    return result.get()


@pytest.mark.parametrize(
    "way",
    [
        lambda pool, given: [pool.apply(identity, (item,)) for item in given],
        lambda pool, given: pool.map(identity, given),
        lambda pool, given: pool.map(identity, iter(given), 1),
        lambda pool, given: list(pool.imap(identity, given)),
        lambda pool, given: list(pool.imap(identity, iter(given))),
        lambda pool, given: sorted(pool.imap_unordered(identity, iter(given), 3)),
        lambda pool, given: list(pool.imap(identity, iter(given), 1, 2)),
        lambda pool, given: polled(pool.map_async(identity, given, 1)),
        lambda pool, given: polled(pool.map_async(identity, iter(given))),
    ],
)
def test_an_arguments_reduce_may_wait_for_the_pool_that_pickles_it(
    way: Callable[[millpond.Pool, list[WaitsWhenPickled]], list[int]],
) -> None:
    """Whichever thread pickles it: a caller, a feeder while a caller leads, the keeper."""
    global current
    with running(2) as pool:
        current = pool
        try:
            assert way(pool, [WaitsWhenPickled(x) for x in range(20)]) == [
                x * x + x for x in range(20)
            ]
        finally:
            current = None


@pytest.mark.parametrize("call", ["apply", "apply_async", "map", "imap"])
def test_an_iterable_may_use_the_pool_that_draws_it(call: str) -> None:
    """`apply_async` works in the standard library; what waits for its answer hangs there."""
    calls: dict[str, Callable[[int], object]] = {
        "apply": lambda x: pool.apply(square, (x,)),
        "apply_async": lambda x: pool.apply_async(square, (x,)) and x * x,
        "map": lambda x: pool.map(square, [x])[0],
        "imap": lambda x: next(pool.imap(square, [x])),
    }
    with running(2) as pool:
        iterable = (calls[call](x) for x in range(20))
        assert list(pool.imap(identity, iterable)) == [x * x for x in range(20)]
        assert pool.map(identity, (calls[call](x) for x in range(20))) == [x * x for x in range(20)]


def test_a_blocked_iterable_lets_later_jobs_pass() -> None:
    """A deliberate difference: in the standard library it blocks the whole pool."""
    gate = threading.Event()

    def blocked() -> Iterator[int]:
        gate.wait()
        yield 5

    with running(1) as pool:
        results = pool.imap(square, blocked())
        try:
            assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]
        finally:
            gate.set()
        assert list(results) == [25]


@pytest.mark.limit_s(180)
@pytest.mark.slow
def test_a_million_queued_calls() -> None:
    """They wait in the parent, as references, in order; no pipe and no table can be full."""
    count = 1_000_000
    with running(2) as pool:
        results = [pool.apply_async(identity, (x,)) for x in range(count)]
        assert all(result.get() == x for x, result in enumerate(results))


def test_a_backlog_outlives_the_limit_of_its_workers(tmp_path: Path) -> None:
    """Row 4 of the known failures, gh-115634: a backlog and `maxtasksperchild`.

    Each worker is replaced, nothing is lost.
    """
    ledger = Ledger.at(tmp_path)
    with running(2, maxtasksperchild=3) as pool:
        results = [pool.apply_async(journalled_square, (ledger, x)) for x in range(100)]
        pool.close()
        pool.join()
        assert [result.get() for result in results] == [x * x for x in range(100)]
    assert ledger.judge(range(100), resolved=range(100)).fair
    assert len(ledger.pids()) >= 33


@pytest.mark.limit_s(120)
def test_sixty_four_workers_on_few_cores_do_every_task_once(tmp_path: Path) -> None:
    """And all of them can be in tasks at once."""
    ledger = Ledger.at(tmp_path)
    (tmp_path / "met").mkdir()
    with running(64) as pool:
        results = pool.imap_unordered(apply_pair, ((ledger, x) for x in range(3000)))
        assert sorted(results) == [x * x for x in range(3000)]
        meetings = [(str(tmp_path / "met"), number, 64) for number in range(64)]
        assert len(set(pool.starmap(meet, meetings, chunksize=1))) == 64
    assert ledger.judge(range(3000), resolved=range(3000)).fair
