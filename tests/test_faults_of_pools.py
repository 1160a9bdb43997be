"""What befalls a whole pool: initializers, callbacks, idle workers, its end, its parent's death."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import NoReturn

import millpond
import pytest
from testkit import procfs
from testkit.ledger import Ledger, wait_until
from testkit.pools import DeniedPool, pids_of, running, stop, workers_of
from testkit.scripts import orphans_of, start_script
from testkit.work import die, pid_of_worker, reciprocal, square, touch_and_wait

STARTS_BEFORE_GIVING_UP = 3


class BadStart(Exception):
    pass


def failing_initializer(ledger: Ledger) -> NoReturn:
    ledger.note(os.getpid(), "start")
    raise BadStart("no database")


def dying_initializer(ledger: Ledger, how: str) -> None:
    ledger.note(os.getpid(), "start")
    die(how)


def initializer_that_fails_twice(ledger: Ledger) -> None:
    ledger.note(os.getpid(), "start")
    if ledger.count("start") <= 2:
        raise BadStart("not yet")


def test_an_initializer_that_raises_breaks_the_pool_with_its_error(
    start_method: str, tmp_path: Path
) -> None:
    """The standard library starts workers for ever, a hundred a second, and answers never."""
    ledger = Ledger.at(tmp_path)
    with running(1, start_method, initializer=failing_initializer, initargs=(ledger,)) as pool:
        calls: list[Callable[[], object]] = [
            lambda: pool.apply(square, (1,)),
            lambda: pool.map(square, range(10)),
            lambda: next(pool.imap(square, range(10))),
            lambda: next(pool.imap_unordered(square, range(10))),
        ]
        for call in calls:
            with pytest.raises(BadStart, match="no database"):
                call()
        started = ledger.count("start")
        assert started == STARTS_BEFORE_GIVING_UP
        with pytest.raises(BadStart):
            pool.apply(square, (1,))
        assert ledger.count("start") == started, "no respawn storm"


def test_an_initializer_that_raises_in_many_workers_starts_few(tmp_path: Path) -> None:
    """All first workers are under way when the third fails; no more than these are started."""
    ledger = Ledger.at(tmp_path)
    with (
        running(4, initializer=failing_initializer, initargs=(ledger,)) as pool,
        pytest.raises(BadStart),
    ):
        pool.map(square, range(10))
    assert ledger.count("start") <= 4 + STARTS_BEFORE_GIVING_UP - 1


@pytest.mark.parametrize(("how", "exitcode"), [("exit", 3), ("kill", -signal.SIGKILL)])
def test_an_initializer_that_dies_breaks_the_pool_with_WorkerDied(
    how: str, exitcode: int, tmp_path: Path
) -> None:
    ledger = Ledger.at(tmp_path)
    with running(1, initializer=dying_initializer, initargs=(ledger, how)) as pool:
        with pytest.raises(millpond.WorkerDied) as caught:
            pool.apply(square, (1,))
        assert caught.value.exitcode == exitcode
        assert caught.value.pid in ledger.pids()
    assert ledger.count("start") == STARTS_BEFORE_GIVING_UP


def test_an_initializer_that_succeeds_at_last_breaks_nothing(tmp_path: Path) -> None:
    ledger = Ledger.at(tmp_path)
    with running(1, initializer=initializer_that_fails_twice, initargs=(ledger,)) as pool:
        assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]
    assert ledger.count("start") == 3


def test_a_broken_pool_can_be_closed_and_joined(tmp_path: Path) -> None:
    ledger = Ledger.at(tmp_path)
    pool = millpond.Pool(1, failing_initializer, (ledger,))
    result = pool.apply_async(square, (1,))
    pool.close()
    pool.join()
    with pytest.raises(BadStart):
        result.get()


class Rude(BaseException):
    pass


@pytest.mark.parametrize("error", [ValueError, Rude])
def test_a_callback_that_raises_becomes_its_jobs_result(error: type[BaseException]) -> None:
    """gh-83371: in all released versions it kills the thread that takes the results."""

    def callback(_: object) -> NoReturn:
        raise error("callback")

    with running(2) as pool:
        single = pool.apply_async(square, (3,), callback=callback)
        many = pool.map_async(square, range(10), callback=callback)
        for result in (single, many):
            with pytest.raises(error, match="callback"):
                result.get()
            assert not result.successful()
        assert pool.map(square, range(10)) == [x * x for x in range(10)]
        pool.close()
        pool.join()


def test_an_error_callback_that_raises_becomes_the_result_and_keeps_the_error() -> None:
    def error_callback(_: BaseException) -> NoReturn:
        raise LookupError("error callback")

    with running(2) as pool:
        single = pool.apply_async(reciprocal, (0,), error_callback=error_callback)
        many = pool.map_async(reciprocal, [0, 0], 1, error_callback=error_callback)
        for result in (single, many):
            with pytest.raises(LookupError, match="error callback") as caught:
                result.get()
            assert isinstance(caught.value.__context__, ZeroDivisionError)
        assert pool.apply(square, (3,)) == 9


def test_an_idle_worker_that_is_killed_is_replaced_and_breaks_nothing(start_method: str) -> None:
    """The standard library's worker dies holding the lock of the queue, and the pool is dead."""
    with running(2, start_method) as pool:
        for _ in range(5):  # more often than starts may fail
            before = pids_of(pool)
            assert pool.map(square, range(10)) == [x * x for x in range(10)]
            for pid in before:
                os.kill(pid, signal.SIGKILL)
            wait_until(partial(replaced, pool, before), "both workers to be replaced")
            assert pool.apply(pid_of_worker) not in before


def replaced(pool: millpond.Pool, before: set[int]) -> bool:
    now = pids_of(pool)
    return len(now) == len(before) and not now & before


def test_a_stopped_worker_is_not_a_dead_one(tmp_path: Path) -> None:
    """SIGSTOP, a debugger or a suspended machine: its task waits, and then ends well."""
    began, released = str(tmp_path / "began"), str(tmp_path / "released")
    with running(1) as pool:
        (worker,) = pids_of(pool)
        result = pool.apply_async(touch_and_wait, (began, released))
        wait_until(lambda: os.path.exists(began), "the task to begin")
        os.kill(worker, signal.SIGSTOP)
        Path(released).touch()
        with pytest.raises(multiprocessing.TimeoutError):
            result.get(timeout=0.2)
        os.kill(worker, signal.SIGCONT)
        assert result.get() is None
        assert pids_of(pool) == {worker}


def test_terminate_ends_every_pending_get_with_PoolTerminated(tmp_path: Path) -> None:
    """The standard library hangs there. Each kind of waiting, in a thread of its own."""
    gate, never = str(tmp_path / "gate"), str(tmp_path / "never")
    got: dict[str, BaseException | None] = {}
    pool = millpond.Pool(1)
    running_task = pool.apply_async(touch_and_wait, (gate, never))
    queued = pool.apply_async(square, (1,))
    many = pool.map_async(square, range(100), chunksize=1)
    lazy = pool.imap(square, range(100))
    unordered = pool.imap_unordered(square, range(100))
    calls: dict[str, Callable[[], object]] = {
        "running": running_task.get,
        "queued": queued.get,
        "map": many.get,
        "imap": lambda: next(lazy),
        "imap_unordered": lambda: next(unordered),
    }

    def wait(name: str) -> None:
        try:
            calls[name]()
            got[name] = None
        except BaseException as error:
            got[name] = error

    waiters = [threading.Thread(target=wait, args=(name,)) for name in calls]
    for waiter in waiters:
        waiter.start()
    wait_until(lambda: os.path.exists(gate), "the first task to begin")
    pool.terminate()
    pool.join()
    for waiter in waiters:
        waiter.join()
    assert {name: type(error) for name, error in got.items()} == dict.fromkeys(
        calls, millpond.PoolTerminated
    )
    assert issubclass(millpond.PoolTerminated, BrokenProcessPool)
    with pytest.raises(millpond.PoolTerminated):
        queued.get()


def test_terminate_from_a_callback_does_not_wait_for_itself() -> None:
    """gh-87129: in the standard library, `terminate()` from an error callback deadlocks."""
    pool = millpond.Pool(2)
    ended = threading.Event()

    def stop(_: object) -> None:
        pool.terminate()
        ended.set()

    pool.apply_async(reciprocal, (0,), error_callback=stop)
    assert ended.wait(30)
    pool.join()


def ignore(signum: int) -> None:
    signal.signal(signum, signal.SIG_IGN)


def test_terminate_ends_idle_workers_that_ignore_its_signal(start_method: str) -> None:
    """As forked workers do that have inherited a handler which returns. They are told otherwise."""
    with running(2, start_method, initializer=ignore, initargs=(signal.SIGTERM,)) as pool:
        assert pool.map(square, range(10)) == [x * x for x in range(10)]
        pool.terminate()
        pool.join()
        assert not pids_of(pool)


@pytest.mark.parametrize("is_stopped", [False, True], ids=["deaf", "stopped"])
def test_terminate_ends_busy_workers_that_do_not_heed_its_signal(
    is_stopped: bool, tmp_path: Path
) -> None:
    """The standard library waits for them, and so for ever."""
    began = tmp_path / "began"
    initargs = (signal.SIGUSR1 if is_stopped else signal.SIGTERM,)
    with running(1, initializer=ignore, initargs=initargs) as pool:
        result = pool.apply_async(touch_and_wait, (str(began), "/nonexistent/never"))
        wait_until(began.exists, "the task to begin")
        if is_stopped:
            stop(list(pids_of(pool)))
        pool.terminate()
        pool.join()
        assert not pids_of(pool)
        with pytest.raises(millpond.PoolTerminated):
            result.get(60)


PARENT = """
    import multiprocessing, sys, time
    from testkit.work import touch_and_wait, square
    import millpond

    if __name__ == "__main__":
        context = multiprocessing.get_context(sys.argv[1])
        pool = millpond.Pool(3, context=context)
        pool.map(square, range(30))
        pool.apply_async(touch_and_wait, (sys.argv[2], "/nonexistent/never"))
        big = pool.map_async(len, [bytes(1 << 20)] * 20)
        time.sleep(600)
"""


def test_workers_end_when_their_parent_is_killed(start_method: str, tmp_path: Path) -> None:
    """Idle ones, and one that is busy in a task; nothing is left in /dev/shm (says the census)."""
    began = tmp_path / "began"
    parent, mark = start_script(PARENT, tmp_path, start_method, str(began))
    with parent:
        wait_until(began.exists, "a task to begin", limit_s=30)
        workers = [process.pid for process in procfs.descendants(parent.pid)]
        assert len(workers) >= 3
        parent.kill()
        parent.wait()
        assert orphans_of(mark) == []


def test_the_end_of_the_thread_that_made_the_pool_ends_nobody() -> None:
    """PR_SET_PDEATHSIG would: it follows the thread, not the process."""
    pools: list[millpond.Pool] = []
    maker = threading.Thread(target=lambda: pools.append(millpond.Pool(2)))
    maker.start()
    maker.join()
    (pool,) = pools
    try:
        before = pids_of(pool)
        assert pool.map(square, range(100)) == [x * x for x in range(100)]
        assert pids_of(pool) == before
    finally:
        pools.clear()
        pool.terminate()
        pool.join()


def test_a_worker_that_the_system_denies_is_tried_again() -> None:
    pool = DeniedPool(2)
    try:
        DeniedPool.denials = 3
        victim = workers_of(pool)[0]
        os.kill(victim.pid, signal.SIGKILL)
        # The other worker goes on, and in time there are two again.
        assert pool.map(square, range(10), 1) == [x * x for x in range(10)]
        wait_until(lambda: len(pids_of(pool) - {victim.pid}) == 2, "two workers")
        assert DeniedPool.denials == 0
        assert pool.stats()["replacements"] == 1
    finally:
        DeniedPool.denials = 0
        pool.terminate()
        pool.join()
