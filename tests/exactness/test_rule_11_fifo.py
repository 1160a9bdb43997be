"""Rule 11: first in, first out: jobs, tasks, results of one worker, callbacks."""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import Any, ClassVar

import pytest
from testkit.oracle import Pool

from exactness.calls import RUNNERS, attempt
from exactness.gate import gate, let_through, pass_gate
from exactness.material import HEAVY, ints, sizes
from exactness.twin import same

log: list[Any] = []
"""A worker's own, in the order in which tasks ran."""


def note(x: Any, d: Any = None) -> Any:
    log.append(x)
    return x


def logged(x: Any = None) -> list[Any]:
    return log


@pytest.mark.parametrize("tasks", [20_000])
def test_an_imap_that_is_not_consumed_runs_before_a_later_apply(tasks: int) -> None:
    """Rule 11: `p.imap(add, range(20000))`, then `p.apply(read)` sees all, in order."""

    def program(pool: Pool) -> object:
        pool.imap(note, range(tasks))
        return pool.apply(logged) == list(range(tasks))

    assert same(program) is True


@sizes
def test_a_heavy_imap_that_is_not_consumed_runs_before_a_later_apply(n: int) -> None:
    """Rule 11, where most tasks wait unpickled."""

    def program(pool: Pool) -> object:
        pool.imap(partial(note, d=ints(n)), range(100))
        return pool.apply(logged) == list(range(100))

    assert same(program) is True


@sizes
def test_jobs_do_not_interleave(n: int) -> None:
    """Rule 11: every kind of job, one after the other, none consumed in between."""

    def program(pool: Pool) -> object:
        heavy = partial(note, d=ints(n))
        jobs: list[Any] = [
            pool.imap(heavy, [f"imap {i}" for i in range(12)]),
            pool.map_async(note, [f"map {i}" for i in range(12)], 3),
            pool.apply_async(heavy, ("apply",)),
            pool.imap_unordered(note, [f"unordered {i}" for i in range(12)], 5),
            pool.starmap_async(heavy, [(f"starmap {i}",) for i in range(12)], 1),
            pool.apply_async(note, ("apply again",)),
            pool.imap(note, (f"generated {i}" for i in range(12))),
            pool.map_async(heavy, [f"heavy map {i}" for i in range(12)], 4),
        ]
        order = list(pool.apply(logged))
        answers = [list(job) if hasattr(job, "__next__") else job.get() for job in reversed(jobs)]
        return order, answers

    assert len(same(program)[0]) == 74


@sizes
def test_many_applies_run_in_the_order_of_their_calls(n: int) -> None:
    """Rule 11: light and heavy ones mixed, so that only some have to wait unpickled."""

    def program(pool: Pool) -> object:
        for i in range(200):
            pool.apply_async(partial(note, d=ints(n)) if i % 7 == 0 else note, (i,))
        return pool.apply(logged)

    assert same(program) == list(range(200))


@sizes
@pytest.mark.parametrize("chunksize", [1, 3, 7])
def test_imap_unordered_on_one_worker_is_in_order(chunksize: int, n: int) -> None:
    """Rule 11: results of one worker arrive in the order of completion."""

    def program(pool: Pool) -> object:
        return list(pool.imap_unordered(partial(note, d=ints(n)), range(50), chunksize))

    assert same(program) == list(range(50))


@sizes
def test_imap_on_two_workers_is_in_order(n: int) -> None:
    """Rule 11: the order of the items, whoever was faster."""

    def program(pool: Pool) -> object:
        callee = partial(nap, d=ints(n))
        return list(pool.imap(callee, range(30))), list(pool.imap(callee, range(30), 4))

    same(program, processes=2)


def nap(x: int, d: Any = None) -> int:
    time.sleep(0.002 if x % 2 else 0)
    return x


def slow_fail(x: int, d: Any = None) -> int:
    if x % 3 == 0:
        raise ValueError(x)
    return x


@sizes
def test_callbacks_run_in_the_order_of_completion(n: int) -> None:
    """Rule 11: of all kinds of jobs, errors among them."""

    def program(pool: Pool) -> object:
        seen: list[Any] = []

        def failed(error: BaseException) -> None:
            seen.append(("failed", error.args))

        callee = partial(slow_fail, d=ints(n))
        for i in range(20):
            pool.apply_async(callee if i % 5 else slow_fail, (i,), {}, seen.append, failed)
            pool.map_async(slow_fail, [i, i], 1, seen.append, failed)
        pool.starmap_async(callee, [(1,), (2,)], 2, seen.append, failed).get()
        return seen

    same(program)


def test_callbacks_run_in_one_thread_one_at_a_time() -> None:
    """Rule 11: not in the caller's, though it waits; and never two at once."""

    def program(pool: Pool) -> object:
        threads: set[int] = set()
        inside = overlaps = 0

        def called(_: object) -> None:
            nonlocal inside, overlaps
            inside += 1
            overlaps += inside > 1
            threads.add(threading.get_ident())
            time.sleep(0.001)
            inside -= 1

        for _ in range(3):
            results = [pool.apply_async(note, (i,), callback=called) for i in range(20)]
            results[-1].get()
            pool.map_async(note, range(5), callback=called).get()
        return len(threads), overlaps, threading.main_thread().ident in threads

    assert same(program, processes=2) == (1, 0, False)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_callback_has_returned_before_get_does(processes: int) -> None:
    """Rule 11: also `wait`, and `ready` is not true earlier."""

    def program(pool: Pool) -> object:
        seen: list[Any] = []

        def slow(answer: object) -> None:
            time.sleep(0.005)
            seen.append(answer)

        facts = []
        for i in range(20):
            result = pool.apply_async(note, (i,), callback=slow)
            result.get()
            facts.append(len(seen))
        waited = pool.map_async(note, [20], callback=slow)
        waited.wait()
        facts.append(len(seen))
        polled = pool.apply_async(note, (21,), callback=slow)
        while not polled.ready():
            time.sleep(0.0005)
        facts.append(len(seen))
        failed = pool.apply_async(slow_fail, (0,), error_callback=slow)
        attempt(failed.get)
        facts.append(len(seen))
        return facts

    assert same(program, processes=processes) == list(range(1, 24))


def test_a_callback_may_submit_and_its_job_comes_after_all_before() -> None:
    """Rule 11: re-entrant calls take their place in the line."""

    def program(pool: Pool) -> object:
        later: list[Any] = []

        def submit(answer: Any) -> None:
            later.append(pool.apply_async(note, (f"after {answer}",)))

        results = [pool.apply_async(note, (i,), callback=submit) for i in range(5)]
        for result in results:
            result.get()
        answers = [result.get() for result in later]
        order = pool.apply(logged)
        return answers, [x for x in order if isinstance(x, int)], sorted(map(str, order))

    same(program)


class Submits:
    """An argument whose pickling submits another job."""

    pool: Any = None
    jobs: ClassVar[list[Any]] = []

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        self.jobs.append(self.pool.apply_async(note, (f"from inside {len(self.jobs)}",)))
        return str, ("submitter",)


@sizes
def test_an_argument_may_submit_while_it_is_pickled(n: int) -> None:
    """Rule 11: the job inside comes after those that were called before it."""

    def program(pool: Pool) -> object:
        Submits.pool, Submits.jobs = pool, []
        first = pool.apply(partial(note, d=ints(n)), (Submits(),))
        answers = list(pool.imap(partial(note, d=ints(n)), [Submits(), 1, Submits()]))
        inner = [job.get() for job in Submits.jobs]
        Submits.pool, Submits.jobs = None, []
        order = pool.apply(logged)
        return first, answers, inner, sorted(map(str, order))

    same(program)


def gated_note(x: Any, d: Any = None) -> Any:
    pass_gate()
    return note(x)


@sizes
def test_close_and_join_run_everything_that_was_submitted(n: int) -> None:
    """Rule 11: the line is served to its end; callbacks too, in order."""

    def program(pool: Pool) -> object:
        seen: list[Any] = []
        for i in range(30):
            pool.apply_async(partial(gated_note, d=ints(n)), (i,), callback=seen.append)
        pool.map_async(gated_note, ["a", "b"], 1, callback=seen.append)
        iterator = pool.imap(gated_note, (i for i in range(3)))
        pool.close()
        let_through(35)
        pool.join()
        return seen, list(iterator)

    with gate():
        assert same(program)[0][-1] == ["a", "b"]


def test_threads_that_call_at_once_keep_each_their_own_order() -> None:
    """Rule 11: between threads the order is a race, within one it is not."""

    def program(pool: Pool) -> object:
        def caller(name: str) -> None:
            for i in range(100):
                pool.apply_async(note, ((name, i),))

        callers = [threading.Thread(target=caller, args=(name,)) for name in "abcd"]
        for thread in callers:
            thread.start()
        for thread in callers:
            thread.join()
        order = pool.apply(logged)
        return [[i for name, i in order if name == one] for one in "abcd"]

    assert same(program) == [list(range(100))] * 4


@pytest.mark.parametrize("runner", RUNNERS)
def test_items_run_in_their_order(runner: str) -> None:
    """Rule 11, on one worker, by every call, with light and heavy callables in turn."""

    def program(pool: Pool) -> object:
        RUNNERS[runner](pool, note, range(11))
        RUNNERS[runner](pool, partial(note, d=ints(HEAVY)), range(11, 22))
        return pool.apply(logged)

    assert same(program) == list(range(22))
