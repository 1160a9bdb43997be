"""What a program and its tasks have set for signals: a pool beside them changes nothing of it.

The kernel tells, for each thread, what is blocked, and for each process what is ignored and caught.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.pool
import os
import signal
from collections.abc import Iterator
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import millpond
import pytest
from testkit.ledger import wait_until
from testkit.pools import running
from testkit.work import die, square

LIBRARIES = {"millpond": millpond.Pool, "multiprocessing": multiprocessing.pool.Pool}
# The C library's own two are caught by it from a process's first thread on, whoever starts it.
OF_THE_C_LIBRARY = 1 << 31 | 1 << 32
# A fault of the thread's own kills whether it is blocked or not, but only an unblocked one is told to
# a handler such as faulthandler's. SIGKILL and SIGSTOP cannot be blocked.
NEVER_BLOCKED = {
    signal.SIGKILL,
    signal.SIGSTOP,
    signal.SIGSEGV,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGTRAP,
    signal.SIGSYS,
}


def state_of(thread: str = "thread-self") -> dict[str, int]:
    """What a thread of this process blocks, and what the process ignores and catches."""
    found = {}
    for line in Path("/proc", thread, "status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("SigBlk", "SigIgn", "SigCgt"):
            found[name] = int(value, 16) & ~OF_THE_C_LIBRARY
    return found


def masks_by_thread() -> dict[int, int]:
    """What each thread of this process blocks."""
    return {
        int(tid): state_of(f"self/task/{tid}")["SigBlk"] for tid in os.listdir("/proc/self/task")
    }


def state_and_masks(_: object = None) -> tuple[dict[str, int], dict[int, int], int, dict[int, Any]]:
    """Of the task's thread, of all threads, the number of the first, and the handlers by name."""
    handlers: dict[int, Any] = {}
    for number in signal.valid_signals():
        handler = signal.getsignal(number)
        handlers[number] = getattr(handler, "__qualname__", handler)
    return state_of(), masks_by_thread(), os.getpid(), handlers


@pytest.fixture
def a_state_of_its_own() -> Iterator[None]:
    """A mask, an ignored signal and a handler that a pool could disturb or lose."""
    # The standard library's own server would keep the mask, for the workers of later tests.
    forkserver.ensure_running()
    old = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2)}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGWINCH])
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGUSR2, lambda *_: None)
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    for number, handler in old.items():
        signal.signal(number, handler)


def of_workers(library: str, start_method: str, replaced: bool) -> Any:
    """The state in a worker as a task finds it: of a first one, or of one that came after it."""
    context = multiprocessing.get_context(start_method)
    limit = 1 if replaced else None
    with LIBRARIES[library](1, maxtasksperchild=limit, context=context) as pool:
        for _ in range(2):
            found = pool.apply(state_and_masks)
        pool.close()
        pool.join()
    return found


@pytest.mark.usefixtures("a_state_of_its_own")
def test_a_program_blocks_ignores_and_catches_what_it_did_while_a_pool_runs(
    start_method: str, tmp_path: Path
) -> None:
    before, handlers = state_of(), state_and_masks()[3]
    with running(2, start_method, timeout=30, memory_limit=1 << 40) as pool:
        assert state_of() == before
        assert pool.map(square, range(20), 1) == [x * x for x in range(20)]
        assert state_of() == before
        with pytest.raises(millpond.WorkerDied):
            pool.apply(die, ("kill",))
        assert list(pool.imap(square, iter(range(20)))) == [x * x for x in range(20)]
        assert state_of() == before
        assert state_and_masks()[3] == handlers
    assert (state_of(), state_and_masks()[3]) == (before, handlers)


@pytest.mark.usefixtures("a_state_of_its_own")
@pytest.mark.parametrize("replaced", [False, True], ids=["first", "replaced"])
def test_a_task_finds_the_state_that_it_finds_in_the_standard_librarys_worker(
    start_method: str, replaced: bool
) -> None:
    ours = of_workers("millpond", start_method, replaced)
    theirs = of_workers("multiprocessing", start_method, replaced)
    assert ours[0] == theirs[0]
    assert ours[3] == theirs[3]


def blocks_all(mask: int) -> bool:
    """Whether a thread takes no signal that could be meant for the program."""
    blockable = signal.valid_signals() - NEVER_BLOCKED
    return all(mask >> (number - 1) & 1 for number in blockable)


def test_native_threads_of_the_program_leave_all_signals_to_its_own() -> None:
    """A handler of the program's would else run late: only Python's threads look for signals."""
    with running(2, timeout=30, memory_limit=1 << 40) as pool:
        pool.map(square, range(20), 1)
        names = {
            int(tid): Path(f"/proc/self/task/{tid}/comm").read_text().strip()
            for tid in os.listdir("/proc/self/task")
        }
        native = [tid for tid, name in names.items() if name.startswith("millpond-lives")]
        assert native
        masks = masks_by_thread()
        assert all(blocks_all(masks[tid]) for tid in native)


def test_the_watcher_of_a_worker_leaves_all_signals_to_the_task(start_method: str) -> None:
    with running(1, start_method) as pool:
        wait_until(lambda: len(pool.apply(state_and_masks)[1]) > 1, "the watcher to be there")
        _, masks, first, _ = pool.apply(state_and_masks)
    assert masks.pop(first) == 0
    assert masks and all(blocks_all(mask) for mask in masks.values())
