"""Known failures of process pools that end: rows of the catalogue in `test_known_failures.py`.

Row 23 is of memory that one process opens while another cleans up. Here nothing has a name that could
be opened; what is nearest is a worker that starts while its pool ends.
"""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import millpond
import pytest
from testkit.forms import by_form, seeded
from testkit.ledger import wait_for_file, wait_until
from testkit.pools import asleep, running, stop
from testkit.work import identity, pid_of_worker, square, touch_and_wait

ENDS = ("close", "terminate")
ROUNDS = by_form(20, 500)
SIGNALS = by_form(5, 100)
"""Fewer, for a signal that comes just before the wait begins is seen a second later."""


def test_what_waits_when_a_pool_is_closed_runs_though_its_worker_reaches_its_limit(
    start_method: str, tmp_path: Path
) -> None:
    """Row 5, gh-119592: nobody replaces that worker any more, and the rest never runs."""
    began, released = tmp_path / "began", tmp_path / "released"
    with running(1, start_method, maxtasksperchild=1) as pool:
        first = pool.apply_async(touch_and_wait, (str(began), str(released)))
        rest = [pool.apply_async(pid_of_worker) for _ in range(4)]
        wait_until(began.exists, "the first task to begin")
        pool.close()
        released.touch()
        assert first.get() is None
        assert len({result.get() for result in rest}) == 4
        pool.join()


@pytest.mark.limit_s(by_form(60, 300))
def test_results_end_though_nobody_holds_the_pool_and_its_last_worker_retires() -> None:
    """Row 6, gh-152967: the executor is collected at that moment, and its futures never end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        for _ in range(ROUNDS):
            pool = millpond.Pool(1, maxtasksperchild=1)
            results = [pool.apply_async(square, (x,)) for x in range(3)]
            lazy = pool.imap(square, iter(range(3)))
            gone = weakref.ref(pool)
            del pool
            gc.collect()
            assert [result.get() for result in results] == list(lazy) == [0, 1, 4]
            del results, lazy
            wait_until(partial(is_collected, gone), "the pool to be collected")


def is_collected(reference: weakref.ref[millpond.Pool]) -> bool:
    return reference() is None


current: millpond.Pool | None = None
entered = threading.Event()


def fail_once_the_pool_ends() -> NoReturn:
    """Tell that the code of the user's runs, and raise when the end of the pool has begun."""
    entered.set()
    wait_until(lambda: current is None or current._state != "RUN", "the pool's end to begin")
    raise LookupError("too late")


class FailsWhenPickled:
    def __reduce__(self) -> NoReturn:
        fail_once_the_pool_ends()


def failing_iterable() -> Iterator[int]:
    yield 3
    fail_once_the_pool_ends()


def ask_in_a_thread(pool: millpond.Pool) -> Callable[[], object]:
    """A caller that waits is the one that pickles; its outcome is handed over."""
    outcome: list[Exception] = []

    def ask() -> None:
        try:
            pool.apply(identity, (FailsWhenPickled(),))
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=ask)
    thread.start()

    def get() -> NoReturn:
        thread.join()
        raise outcome[0]

    return get


def drain(results: Iterator[object]) -> None:
    for _ in results:
        pass


FAILING: dict[str, Callable[[millpond.Pool], Callable[[], object]]] = {
    "an argument": lambda pool: pool.apply_async(identity, (FailsWhenPickled(),)).get,
    "an argument of who waits": ask_in_a_thread,
    "an iterable": lambda pool: partial(drain, pool.imap(square, failing_iterable())),
    "an iterable in chunks": lambda pool: partial(drain, pool.imap(square, failing_iterable(), 2)),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("what", FAILING)
def test_what_fails_on_its_way_to_a_worker_may_do_so_while_the_pool_ends(
    what: str, end: str
) -> None:
    """Row 7, gh-125451: two threads take two locks in either order; and bpo-39205 of row 14."""
    global current
    for _ in range(ROUNDS):
        entered.clear()
        with running(2) as pool:
            current = pool
            try:
                get = FAILING[what](pool)
                assert entered.wait(30)
                getattr(pool, end)()
                pool.join()
                with pytest.raises((LookupError, millpond.PoolTerminated)) as caught:
                    get()
                assert end == "terminate" or caught.type is LookupError
            finally:
                current = None


@pytest.mark.parametrize("end", ENDS)
def test_calls_that_are_cancelled_right_before_the_end_keep_nobody(end: str) -> None:
    """Row 10, gh-94440: the end waits for what was taken off the line."""
    for _ in range(ROUNDS):
        with running(1) as pool:
            assert pool.apply(square, (3,)) == 9
            results: list[Any] = [pool.apply_async(square, (3,)) for _ in range(10)]
            results.append(pool.map_async(square, iter(range(10)), 1))
            lazy = pool.imap(square, iter(range(10)))
            for waiting in (*results, lazy):
                waiting.cancel()
            getattr(pool, end)()
            pool.join()
            for result in results[:-1]:
                assert is_nine_or_cancelled(result)
            assert results[-1].ready()
            with pytest.raises(CancelledError):
                drain(lazy)


def is_nine_or_cancelled(result: Any) -> bool:
    assert result.ready()
    try:
        return result.get() == 9
    except (CancelledError, millpond.PoolTerminated):
        return True


def fail(x: int) -> NoReturn:
    raise ValueError(x)


@pytest.mark.parametrize("workers", [2, 4])
def test_a_failing_task_and_a_limit_of_tasks_do_not_keep_a_closed_pool(
    workers: int, start_method: str
) -> None:
    """Row 11, gh-132969: who takes the results dies of what the shutdown has taken away."""
    with running(workers, start_method, maxtasksperchild=1) as pool:
        good, bad, last = (pool.apply_async(task, (3,)) for task in (square, fail, square))
        with pytest.raises(ValueError):
            bad.get()
        pool.close()
        assert good.get() == last.get() == 9
        pool.join()


@pytest.mark.parametrize("end", ENDS)
def test_a_pool_may_be_ended_in_a_signal_handler_while_its_result_is_waited_for(
    end: str, tmp_path: Path
) -> None:
    """Row 13, gh-88628: the handler interrupts `get()` where it holds locks that the end wants."""
    pools: list[millpond.Pool] = []

    def end_pool(_signum: int, _frame: object) -> None:
        getattr(pools[-1], end)()
        released.touch()

    def signal_main_thread() -> None:
        wait_for_file(began)
        os.kill(os.getpid(), signal.SIGUSR1)

    previous = signal.signal(signal.SIGUSR1, end_pool)
    try:
        for round_ in range(SIGNALS):
            began, released = tmp_path / f"began-{round_}", tmp_path / f"released-{round_}"
            with running(2) as pool:
                pools.append(pool)
                signaller = threading.Thread(target=signal_main_thread)
                signaller.start()
                result = pool.apply_async(touch_and_wait, (str(began), str(released)))
                if end == "close":
                    assert result.get() is None
                else:
                    with pytest.raises(millpond.PoolTerminated):
                        result.get()
                signaller.join()
                pool.join()
            pools.clear()
    finally:
        signal.signal(signal.SIGUSR1, previous)


@pytest.mark.parametrize("end", ENDS)
def test_a_pool_may_be_ended_while_its_queue_is_full_and_failing(end: str, tmp_path: Path) -> None:
    """Row 14, bpo-12364 and bpo-39205: the end waits for room in the queue, or for who has failed."""
    began, released = tmp_path / "began", tmp_path / "released"
    with running(1) as pool:
        first = pool.apply_async(touch_and_wait, (str(began), str(released)))
        wait_until(began.exists, "the first task to begin")
        good, bad = [], []
        for x in range(5_000):
            good.append(pool.apply_async(square, (x,)))
            if x % 100 == 0:
                bad.append(pool.apply_async(identity, (threading.Lock(),)))
                good.append(pool.apply_async(len, (bytes(1 << 16),)))
        getattr(pool, end)()
        released.touch()
        pool.join()
        assert all(result.ready() for result in (first, *good, *bad))
        if end == "close":
            assert all(result.successful() for result in (first, *good))
            for result in bad:
                with pytest.raises(TypeError, match="cannot pickle"):
                    result.get()


@pytest.mark.parametrize("tasks", [0, 5_000])
def test_all_workers_may_be_killed_while_the_pool_is_closed(
    tasks: int, start_method: str, tmp_path: Path
) -> None:
    """Row 17, loky #101: nobody is left to make room for the word that there is no more work."""
    with running(2, start_method) as pool:
        pids = asleep(pool, tmp_path, 2)
        stop(pids)
        results = [pool.apply_async(square, (x,)) for x in range(tasks)]
        pool.close()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        pool.join()
        assert [result.get() for result in results] == [x * x for x in range(tasks)]


@pytest.mark.parametrize("end", ENDS)
def test_a_pool_may_be_ended_while_its_workers_start(
    end: str, start_method: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Row 23, iceoryx2 #1578: clean-up races with opening. The moment is random."""
    random = seeded()
    rounds, start_s = (ROUNDS, 0.01) if start_method == "fork" else (by_form(4, 50), 0.3)
    for _ in range(rounds):
        with running(2, start_method) as pool:
            time.sleep(random.uniform(0, start_s))
            getattr(pool, end)()
            pool.join()
    assert capfd.readouterr().err == ""
