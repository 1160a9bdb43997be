"""The crash matrix: each stage of a worker's life by each way to fail, under each start method.

The standard library hangs in most of these cells. A pool serves one row: what a cell leaves behind
is what the next cell meets. The faults are real ones: memory that may not be read, a stack that is
used up, abort(3), and no signal in place of these.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import re
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
from testkit.forms import IS_LONG, by_form
from testkit.kill_points import resident
from testkit.ledger import Ledger, wait_until
from testkit.pools import pids_of, running, workers_of
from testkit.work import identity, square

EXIT_CODE = 3
MEMORY_LIMIT = 512 << 20
"""More than a worker has that was forked from a large session of pytest."""
PIECE = 16 << 20
APIS = ("apply_async", "map_async", "imap")
METHODS = ("fork", "spawn", "forkserver")


class Fault(Exception):
    pass


@dataclass(frozen=True)
class Promise:
    """What the caller of the task gets: an error of this kind, and what its message says."""

    error: type[BaseException]
    message: str = ""
    exitcode: int | None = None


def killed_by(name: str) -> Promise:
    number = signal.Signals[name]
    how = rf"was killed by signal {number:d} \({name}\)"
    return Promise(millpond.WorkerDied, how, -number)


AS_ERRORS = {
    "SIGINT": Promise(KeyboardInterrupt),
    "sys.exit": Promise(SystemExit, str(EXIT_CODE)),
    "raise": Promise(Fault, "as told"),
}
"""A signal that Python handles, and what Python code raises, are errors; all else is a death."""

AS_DEATHS = {
    "SIGKILL": killed_by("SIGKILL"),
    "SIGTERM": killed_by("SIGTERM"),
    "segfault": killed_by("SIGSEGV"),
    "abort": killed_by("SIGABRT"),
    "stack overflow": killed_by("SIGSEGV"),
    "os._exit": Promise(
        millpond.WorkerDied, f"ended with exit code {EXIT_CODE}", exitcode=EXIT_CODE
    ),
}

ANYWHERE = {**AS_ERRORS, **AS_DEATHS}

IN_A_TASK = {
    **ANYWHERE,
    # In a task only: the limit is not looked at between tasks, and an initializer may exceed it.
    "memory limit": Promise(
        millpond.WorkerMemoryError, rf"had [\d,]+ bytes .* its limit of {MEMORY_LIMIT:,},"
    ),
}

PROMISES: dict[str, dict[str, Promise]] = {
    "the callable is unpickled": IN_A_TASK,
    "an argument is unpickled": IN_A_TASK,
    "the function runs": IN_A_TASK,
    # As in the standard library.
    "the result is pickled": {**IN_A_TASK, "raise": Promise(MaybeEncodingError, "as told")},
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
    if fault == "segfault":
        ctypes.string_at(0)
    if fault == "abort":
        os.abort()
    if fault == "stack overflow":
        faulthandler._stack_overflow()
    if fault == "memory limit":
        hold_too_much()
    os.kill(os.getpid(), signal.Signals[fault])
    # The handler of SIGINT runs in here, and whatever is not handled ends the process in here.
    threading.Event().wait()
    raise AssertionError(fault)


def hold_too_much() -> NoReturn:
    """Pages that are written are resident, and it is the pool that ends this."""
    held: list[bytes] = []
    for _ in range(2 * MEMORY_LIMIT // PIECE):
        held.append(b"x" * PIECE)
        # The limit is looked at 50 times a second; the machine's memory shall not run out before.
        if resident() > MEMORY_LIMIT:
            threading.Event().wait()
    raise AssertionError("more than the limit was not resident")


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


CALLS: dict[str, tuple[str, Callable[[str], tuple[Callable[[Any], Any], object]]]] = {
    "the callable is unpickled": ("FailsWhenLoaded", lambda fault: (FailsWhenLoaded(fault), 1)),
    "an argument is unpickled": ("identity", lambda fault: (identity, FailsWhenLoaded(fault))),
    "the function runs": ("commit", lambda fault: (commit, fault)),
    "the result is pickled": ("FailsWhenPickled", lambda fault: (FailsWhenPickled, fault)),
}
"""For each stage, what errors call the function, and the call that fails there."""


def ask(pool: millpond.Pool, api: str, stage: str, fault: str) -> Callable[[], object]:
    """Start the task that fails there, and return what gives its answer."""
    function, argument = CALLS[stage][1](fault)
    if api == "apply_async":
        return pool.apply_async(function, (argument,)).get
    if api == "map_async":
        return pool.map_async(function, [argument]).get
    assert api == "imap"
    return partial(next, pool.imap(function, [argument]))


def apis_of(stage: str, fault: str, start_method: str) -> tuple[str, ...]:
    """All in the long form; in the short one all that ask for a fault do so by another API under
    each start method."""
    at = [*PROMISES].index(stage) + [*IN_A_TASK].index(fault) + METHODS.index(start_method)
    return APIS if IS_LONG else (APIS[at % len(APIS)],)


def check(error: BaseException, promise: Promise, task: str, pids: set[int]) -> None:
    """The error is of the kind, and says what happened to whom in which task."""
    assert type(error) is promise.error, error
    if isinstance(error, millpond.WorkerDied | millpond.WorkerMemoryError):
        assert error.pid in pids
        text = rf"worker process {error.pid} {promise.message}.* while it ran {task}"
        assert re.fullmatch(text, str(error)), (str(error), text)
    else:
        assert promise.message in str(error)
    if isinstance(error, millpond.WorkerDied):
        assert error.exitcode == promise.exitcode
    if isinstance(error, millpond.WorkerMemoryError):
        assert error.memory_limit == MEMORY_LIMIT < error.resident
    if isinstance(error, SystemExit):
        assert error.code == EXIT_CODE


def check_start(error: BaseException, promise: Promise, pids: set[int]) -> None:
    """Likewise, for the error of a pool whose workers cannot start."""
    assert type(error) is promise.error, error
    if isinstance(error, millpond.WorkerDied):
        assert error.exitcode == promise.exitcode
        assert error.pid in pids
        text = rf"3 workers in a row could not start; the last, process {error.pid}, "
        assert re.match(text + promise.message + r"\. ", str(error)), str(error)
    else:
        assert promise.message in str(error)


@contextmanager
def told(fault: str) -> Iterator[None]:
    """Names the cell in which a check failed."""
    try:
        yield
    except Exception as error:
        error.add_note(f"the fault was: {fault}")
        raise


@pytest.mark.limit_s(by_form(60, 300))
@pytest.mark.parametrize("stage", PROMISES)
def test_a_fault_in_a_task_is_that_tasks_error_and_nobody_elses(
    stage: str, start_method: str
) -> None:
    deaths = memory_kills = 0
    with running(2, start_method, memory_limit=MEMORY_LIMIT) as pool:
        for fault, promise in PROMISES[stage].items():
            for api in apis_of(stage, fault, start_method):
                with told(f"{fault}, by {api}"):
                    pids = pids_of(pool)
                    before = pool.map_async(square, range(20), 1)
                    failing = ask(pool, api, stage, fault)
                    after = pool.map_async(square, range(20), 1)
                    with pytest.raises(promise.error) as caught:
                        failing()
                    which = "items 0 to 0" if api == "map_async" else "task 0"
                    task = rf"{CALLS[stage][0]}, {which} of job \d+"
                    check(caught.value, promise, task, pids)
                    assert before.get() == after.get() == [x * x for x in range(20)]
                    deaths += promise.exitcode is not None
                    memory_kills += promise.error is millpond.WorkerMemoryError
                    wait_until(lambda: len(pids_of(pool)) == 2, "the pool to be whole again")
        stats = pool.stats()
    assert stats["memory_kills"] == memory_kills
    assert stats["worker_deaths"] == deaths


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
        for deaths, fault in enumerate(ANYWHERE, start=1):
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


@pytest.mark.parametrize("fault", ANYWHERE)
def test_an_initializer_that_always_fails_breaks_the_pool_with_that_failure(
    fault: str, start_method: str, tmp_path: Path
) -> None:
    ledger = Ledger.at(tmp_path)
    initargs = (ledger, fault, 1000)
    with running(1, start_method, initializer=fail_at_start, initargs=initargs) as pool:
        for _ in range(2):
            with pytest.raises(ANYWHERE[fault].error) as caught:
                pool.apply(square, (3,))
            check_start(caught.value, ANYWHERE[fault], ledger.pids())
        assert ledger.count("start") == 3
        pool.close()
        pool.join()


@pytest.mark.parametrize("fault", ANYWHERE)
def test_an_initializer_that_fails_once_breaks_nothing(
    fault: str, start_method: str, tmp_path: Path
) -> None:
    ledger = Ledger.at(tmp_path)
    initargs = (ledger, fault, 1)
    with running(1, start_method, initializer=fail_at_start, initargs=initargs) as pool:
        assert pool.map(square, range(20)) == [x * x for x in range(20)]
        assert ledger.count("start") == 2
