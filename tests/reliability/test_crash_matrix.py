"""The crash matrix: each stage of a worker's life by each way to fail, under each start method.

The standard library hangs in most of these cells. A pool serves one row: what a cell leaves behind
is what the next cell meets.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.pool import MaybeEncodingError
from pathlib import Path
from typing import Any, NoReturn

import millpond
import pytest
from testkit import procfs
from testkit.ledger import Ledger, wait_until
from testkit.pools import pids_of, running, workers_of
from testkit.work import identity, square

EXIT_CODE = 3


class Fault(Exception):
    pass


@dataclass(frozen=True)
class Promise:
    """What the caller of the task gets: an error of this kind, and where it tells one, this code."""

    error: type[BaseException]
    exitcode: int | None = None


IN_A_TASK = {
    "SIGKILL": Promise(millpond.WorkerDied, -signal.SIGKILL),
    "SIGSEGV": Promise(millpond.WorkerDied, -signal.SIGSEGV),
    "SIGABRT": Promise(millpond.WorkerDied, -signal.SIGABRT),
    "SIGTERM": Promise(millpond.WorkerDied, -signal.SIGTERM),
    "SIGINT": Promise(KeyboardInterrupt),
    "os._exit": Promise(millpond.WorkerDied, EXIT_CODE),
    "sys.exit": Promise(SystemExit),
    "raise": Promise(Fault),
}
"""A signal that Python handles, and what Python code raises, are errors; all else is a death."""

PROMISES: dict[str, dict[str, Promise]] = {
    "the callable is unpickled": IN_A_TASK,
    "an argument is unpickled": IN_A_TASK,
    "the function runs": IN_A_TASK,
    # As in the standard library.
    "the result is pickled": {**IN_A_TASK, "raise": Promise(MaybeEncodingError)},
}


def commit(fault: str) -> NoReturn:
    """Fail in this way, here and now."""
    if fault == "os._exit":
        os._exit(EXIT_CODE)
    if fault == "sys.exit":
        sys.exit(EXIT_CODE)
    if fault == "raise":
        raise Fault("as told")
    faulthandler.disable()  # pytest's, which would dump the stacks of each death
    os.kill(os.getpid(), signal.Signals[fault])
    # The handler of SIGINT runs in here, and whatever is not handled ends the process in here.
    threading.Event().wait()
    raise AssertionError(fault)


class FailsWhenLoaded:
    """An argument, or a callable."""

    def __init__(self, fault: str) -> None:
        self.fault = fault

    def __reduce__(self) -> tuple[Callable[[str], NoReturn], tuple[str]]:
        return commit, (self.fault,)

    def __call__(self, x: int) -> int:
        return x


class FailsWhenPickled:
    def __init__(self, fault: str) -> None:
        self.fault = fault

    def __reduce__(self) -> NoReturn:
        commit(self.fault)


def ask(pool: millpond.Pool, stage: str, fault: str) -> Any:
    """Start the task that fails there."""
    if stage == "the callable is unpickled":
        return pool.apply_async(FailsWhenLoaded(fault), (1,))
    if stage == "an argument is unpickled":
        return pool.apply_async(identity, (FailsWhenLoaded(fault),))
    if stage == "the function runs":
        return pool.apply_async(commit, (fault,))
    assert stage == "the result is pickled"
    return pool.apply_async(FailsWhenPickled, (fault,))


def check(error: BaseException, promise: Promise) -> None:
    assert type(error) is promise.error, error
    if promise.exitcode is not None:
        assert isinstance(error, millpond.WorkerDied)
        assert error.exitcode == promise.exitcode
    if isinstance(error, SystemExit):
        assert error.code == EXIT_CODE


@contextmanager
def told(fault: str) -> Iterator[None]:
    """Names the cell in which a check failed."""
    try:
        yield
    except Exception as error:
        error.add_note(f"the fault was: {fault}")
        raise


@pytest.mark.parametrize("stage", PROMISES)
def test_a_fault_in_a_task_is_that_tasks_error_and_nobody_elses(
    stage: str, start_method: str
) -> None:
    deaths = 0
    with running(2, start_method) as pool:
        for fault, promise in PROMISES[stage].items():
            with told(fault):
                before = pool.map_async(square, range(20), 1)
                failing = ask(pool, stage, fault)
                after = pool.map_async(square, range(20), 1)
                with pytest.raises(promise.error) as caught:
                    failing.get()
                check(caught.value, promise)
                assert before.get() == after.get() == [x * x for x in range(20)]
                deaths += promise.exitcode is not None
                wait_until(lambda: len(pids_of(pool)) == 2, "the pool to be whole again")
        assert pool.stats()["worker_deaths"] == deaths


def arm(fault: str) -> int:
    """Let the fault happen whenever SIGUSR1 comes: between tasks, when it comes then."""

    def fail(_signum: int, _frame: object) -> None:
        commit(fault)

    signal.signal(signal.SIGUSR1, fail)
    return os.getpid()


def sleeps(pid: int) -> bool:
    """Whether it waits for a task. A signal that comes just before is looked at a second later."""
    return procfs.state(pid) == "S"


def has_left(pool: millpond.Pool, pid: int) -> bool:
    """Whether the worker has gone, and another is in its place."""
    pids = {worker.pid for worker in workers_of(pool)}
    return pid not in pids and len(pids) == 1


def test_a_fault_between_tasks_harms_no_task(start_method: str) -> None:
    """A worker that a handler of its own ends is replaced, more often than starts may fail."""
    with running(1, start_method) as pool:
        for deaths, fault in enumerate(IN_A_TASK, start=1):
            with told(fault):
                pid = pool.apply(arm, (fault,))
                wait_until(partial(sleeps, pid), "the worker to sleep")
                os.kill(pid, signal.SIGUSR1)
                wait_until(partial(has_left, pool, pid), "the worker to be replaced")
                assert pool.map(square, range(20)) == [x * x for x in range(20)]
                assert pool.stats()["worker_deaths"] == deaths


def test_an_idle_worker_that_gets_SIGINT_ends_without_a_traceback(
    start_method: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C reaches the whole process group, and the parent tells the user of it."""
    with running(1, start_method) as pool:
        pid = pool.apply(os.getpid)
        wait_until(lambda: sleeps(pid), "the worker to sleep")
        os.kill(pid, signal.SIGINT)
        wait_until(lambda: has_left(pool, pid), "the worker to be replaced")
        assert pool.apply(square, (3,)) == 9
    assert capfd.readouterr().err == ""


def fail_at_start(ledger: Ledger, fault: str, times: int) -> None:
    ledger.note(os.getpid(), "start")
    if ledger.count("start") <= times:
        commit(fault)


@pytest.mark.parametrize("fault", IN_A_TASK)
def test_an_initializer_that_always_fails_breaks_the_pool_with_that_failure(
    fault: str, start_method: str, tmp_path: Path
) -> None:
    ledger = Ledger.at(tmp_path)
    initargs = (ledger, fault, 1000)
    with running(1, start_method, initializer=fail_at_start, initargs=initargs) as pool:
        for _ in range(2):
            with pytest.raises(IN_A_TASK[fault].error) as caught:
                pool.apply(square, (3,))
            check(caught.value, IN_A_TASK[fault])
        assert ledger.count("start") == 3
        pool.close()
        pool.join()


@pytest.mark.parametrize("fault", IN_A_TASK)
def test_an_initializer_that_fails_once_breaks_nothing(
    fault: str, start_method: str, tmp_path: Path
) -> None:
    ledger = Ledger.at(tmp_path)
    initargs = (ledger, fault, 1)
    with running(1, start_method, initializer=fail_at_start, initargs=initargs) as pool:
        assert pool.map(square, range(20)) == [x * x for x in range(20)]
        assert ledger.count("start") == 2
