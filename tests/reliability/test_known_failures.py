"""Known failures of process pools, each of which is a promise here: of workers, queues and threads.

The rows are those of a catalogue of 25 issues of CPython, loky, pebble, bbot and iceoryx, each of which
is the end of a program that had done nothing wrong. Where they are:

* rows 1, 2, 3, 12 and 19 in this file;
* rows 5, 6, 7, 10, 11, 13, 14, 17 and 23, of pools that end, in `test_known_failures_of_ends.py`;
* rows 8, 9, 16, 18, 22, 24 and 25, of whole programs, in `test_known_failures_of_programs.py`;
* row 4 in `tests/test_progress.py`: `test_a_backlog_outlives_the_limit_of_its_workers`;
* rows 15 and 20 in `test_parent_killed.py`:
  `test_workers_are_gone_within_a_second_of_their_parents_death`;
* row 21 in `test_system_calls.py`: `test_a_worker_may_be_killed_at_any_system_call`. There is no mutex
  in shared memory whose owner could die.

Issues of executors are read for a pool: `shutdown(wait=False)` is `close()` without `join()`, a future
is a result, a broken executor is `WorkerDied` for the task of the worker that died.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import millpond
import pytest
from testkit import procfs
from testkit.ledger import Ledger, wait_for_file, wait_until
from testkit.pools import DeniedPool, asleep, pids_of, running, stop
from testkit.work import die, pid_of_worker, square

SQUARES = [x * x for x in range(10)]
BIG = (4 << 20) + 1
"""More bytes than any pipe can hold."""


def test_the_only_worker_may_be_killed_while_it_waits_for_work(start_method: str) -> None:
    """Row 1, gh-96062 and bpo-22393: it dies with the lock of the queue, and nothing ever runs.

    The work comes before the pool can know of the death.
    """
    with running(1, start_method) as pool:
        for _ in range(4):  # more often than starts may fail
            pid = pool.apply(pid_of_worker)
            wait_until(partial(is_asleep, pid), "the worker to wait")
            os.kill(pid, signal.SIGKILL)
            assert pool.map(square, range(10)) == SQUARES


def is_asleep(pid: int) -> bool:
    return procfs.state(pid) == "S"


def die_of(_: bytes) -> None:
    die("kill")


def test_workers_that_die_of_big_arguments_end_these_tasks_only(start_method: str) -> None:
    """Row 2, gh-94777: the parent waits for ever for the rest of the argument to be read."""
    with running(2, start_method) as pool:
        results = [pool.apply_async(die_of, (bytes(BIG),)) for _ in range(4)]
        for result in results:
            with pytest.raises(millpond.WorkerDied):
                result.get()
        assert pool.map(len, [bytes(BIG)] * 4, chunksize=1) == [BIG] * 4


def test_big_arguments_outlive_workers_that_never_read_them(tmp_path: Path) -> None:
    """Row 2, gh-94777, where nobody reads at all: the caller is not held, and nothing is lost."""
    with running(2) as pool:
        pids = asleep(pool, tmp_path, 2)
        stop(pids)
        results = [pool.apply_async(len, (bytes(BIG),)) for _ in range(20)]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        assert [result.get() for result in results] == [BIG] * 20


def test_more_submissions_than_a_pipe_of_wakeups_can_hold_block_nobody(tmp_path: Path) -> None:
    """Row 3, gh-105829: a byte in a pipe for each wake-up, and nobody reads it while it is full."""
    count, threads = 80_000, 4
    results: list[list[Any]] = [[] for _ in range(threads)]

    def submit(at: int) -> None:
        for x in range(at, count, threads):
            results[at].append(pool.apply_async(square, (x,)))

    with running(2) as pool:
        pids = asleep(pool, tmp_path, 2)
        stop(pids)
        submitters = [threading.Thread(target=submit, args=(at,)) for at in range(threads)]
        for submitter in submitters:
            submitter.start()
        for submitter in submitters:
            submitter.join()
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        for at in range(threads):
            expected = [x * x for x in range(at, count, threads)]
            assert [result.get() for result in results[at]] == expected


def deny_thread(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """As the interpreter does while it ends, and the system when it has no more."""
    start = threading.Thread.start

    def denied(thread: threading.Thread) -> None:
        if thread.name == name:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", denied)


def test_a_pool_that_cannot_start_its_thread_is_refused_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Row 12, gh-109047: what cannot start a thread must break, not hang."""
    deny_thread(monkeypatch, "millpond-keeper")
    with pytest.raises(RuntimeError, match="can't start new thread"):
        millpond.Pool(2)


CALLS_WITH_FEEDER: dict[str, Callable[[millpond.Pool], object]] = {
    "map": lambda pool: pool.map(square, {1, 2}),
    "map_async": lambda pool: pool.map_async(square, {1, 2}),
    "imap": lambda pool: pool.imap(square, iter([1, 2])),
    "imap in chunks": lambda pool: pool.imap(square, iter([1, 2]), 2),
    "imap_unordered": lambda pool: pool.imap_unordered(square, iter([1, 2])),
}


@pytest.mark.parametrize("call", CALLS_WITH_FEEDER)
def test_a_call_that_cannot_start_its_thread_raises_and_the_pool_still_ends(
    call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 12, gh-109047, where an iterable needs a thread that draws it."""
    with running(2) as pool:
        with monkeypatch.context() as patch:
            deny_thread(patch, "millpond-feeder")
            with pytest.raises(RuntimeError, match="can't start new thread"):
                CALLS_WITH_FEEDER[call](pool)
            assert pool.map(square, range(10)) == SQUARES
        assert pool.map(square, iter(range(10))) == SQUARES
        pool.close()
        pool.join()


CALLS_WITH_CALLBACK: dict[str, Callable[[millpond.Pool, Callable[..., Any]], object]] = {
    "apply_async": lambda pool, told: pool.apply_async(square, (3,), callback=told),
    "error callback": lambda pool, told: pool.apply_async(square, (3,), error_callback=told),
    "map_async": lambda pool, told: pool.map_async(square, [3], callback=told),
    "map_async of a set": lambda pool, told: pool.map_async(square, {3}, callback=told),
}


@pytest.mark.parametrize("call", CALLS_WITH_CALLBACK)
def test_a_callback_that_can_have_no_thread_is_refused_and_the_pool_still_ends(
    call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 12, gh-109047, where a callback needs a thread that calls it."""
    told: list[object] = []
    with running(2) as pool:
        with monkeypatch.context() as patch:
            deny_thread(patch, "millpond-callbacks")
            for _ in range(2):
                with pytest.raises(RuntimeError, match="can't start new thread"):
                    CALLS_WITH_CALLBACK[call](pool, told.append)
            assert pool.map(square, range(10)) == SQUARES
        assert pool.apply_async(square, (3,), callback=told.append).get() == 9
        pool.close()
        pool.join()
    assert told == [9]


def hold(ledger: Ledger, released: str) -> None:
    with ledger.task("hold"):
        wait_for_file(released)


def test_a_parent_that_cannot_send_to_a_killed_worker_uses_next_to_no_cpu(tmp_path: Path) -> None:
    """Row 19, pebble #97: it spins, sending to a worker that the kernel has killed.

    The killed one is not replaced, the other is busy, and much is to be sent: for a second, a
    quarter of a CPU is far more than waiting takes, and far less than spinning.
    """
    ledger, released = Ledger.at(tmp_path), tmp_path / "released"
    pool = DeniedPool(2)
    try:
        pids = asleep(pool, tmp_path, 2)
        DeniedPool.denials = 1000
        busy = pool.apply_async(hold, (ledger, str(released)))
        wait_until(ledger.pids, "the task to begin")
        (idle,) = ledger.pids().symmetric_difference(pids)
        stop([idle])
        big = [pool.apply_async(len, (bytes(BIG),)) for _ in range(20)]
        os.kill(idle, signal.SIGKILL)
        wait_until(lambda: len(pids_of(pool)) == 1, "the death to be seen")
        before_s = time.process_time()
        time.sleep(1)
        used_s = time.process_time() - before_s
        released.touch()
        assert busy.get() is None
        assert [result.get() for result in big] == [BIG] * 20
        assert used_s < 0.25
    finally:
        DeniedPool.denials = 0
        pool.terminate()
        pool.join()
