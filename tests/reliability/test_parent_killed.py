"""A parent that is killed leaves nobody: whatever its workers do at that moment.

A thread of each worker waits for the parent's end without the GIL, so it does not matter what holds
the GIL. A worker that was stopped can do nothing until it is continued, and then ends like any other.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from testkit import procfs
from testkit.forms import by_form
from testkit.ledger import wait_until
from testkit.pools import stop
from testkit.scripts import orphans_of, start_script

ROUNDS = by_form(1, 50)
GONE_S = 1.0

PARENT = """
    import multiprocessing, os, signal, sys, time
    from millpond import Pool

    def idle(began):
        open(f"{began}.{os.getpid()}", "w").close()
        time.sleep(0.2)  # so that each worker gets one

    def busy_in_python(began):
        open(f"{began}.{os.getpid()}", "w").close()
        while True:
            pass

    def busy_in_c(began):
        open(f"{began}.{os.getpid()}", "w").close()
        return sum(range(10**12))  # holds the GIL for hours

    def deaf(began):
        for signum in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, signal.SIG_IGN)
        sleeping(began)

    def sleeping(began):
        open(f"{began}.{os.getpid()}", "w").close()
        time.sleep(600)

    if __name__ == "__main__":
        method, what, began = sys.argv[1:]
        pool = Pool(2, context=multiprocessing.get_context(method))
        results = [pool.apply_async(globals()[what], (began,)) for _ in range(2)]
        big = pool.map_async(len, [bytes(1 << 20)] * 20)
        if what == "idle":
            big.wait()
            print("idle", flush=True)
        time.sleep(600)
"""


def workers_that_began(directory: Path) -> list[int]:
    return [int(path.suffix[1:]) for path in directory.glob("began.*")]


def are_gone(pids: list[int]) -> bool:
    return not any(map(procfs.alive, pids))


def kill_parent(
    directory: Path, method: str, what: str, before: Callable[[list[int]], None]
) -> tuple[list[int], str]:
    """Kill a parent whose two workers are in that state; their ids, and the mark of the family."""
    directory.mkdir()
    parent, mark = start_script(PARENT, directory, method, what, str(directory / "began"))
    with parent:
        wait_until(lambda: len(workers_that_began(directory)) == 2, "both tasks to begin")
        if what == "idle":
            assert parent.stdout is not None
            parent.stdout.readline()
        workers = workers_that_began(directory)
        before(workers)
        parent.kill()
        parent.wait()
        return workers, mark


def no_more(_: list[int]) -> None:
    """There is nothing to do before."""


@pytest.mark.limit_s(by_form(60, 600))
@pytest.mark.parametrize("what", ["idle", "busy_in_python", "busy_in_c", "sleeping", "deaf"])
def test_workers_are_gone_within_a_second_of_their_parents_death(
    what: str, start_method: str, tmp_path: Path
) -> None:
    """Nothing is left in /dev/shm either, says the census.

    Row 15 of the known failures, loky #360: such workers stay for ever. Row 20, bbot #3203: they even
    ignore the SIGTERM that is sent to them then, so they must end without one.
    """
    for round_ in range(ROUNDS):
        workers, mark = kill_parent(tmp_path / str(round_), start_method, what, no_more)
        start = time.monotonic()
        wait_until(partial(are_gone, workers), "the workers to be gone", limit_s=GONE_S)
        print(f"{what}: gone after {(time.monotonic() - start) * 1e3:.0f} ms")
        assert orphans_of(mark) == []


def are_stopped(pids: list[int]) -> bool:
    return all(procfs.state(pid) == "T" for pid in pids)


@pytest.mark.limit_s(by_form(60, 600))
def test_stopped_workers_are_gone_within_a_second_of_their_going_on(
    start_method: str, tmp_path: Path
) -> None:
    """Stopped, they run nothing; only SIGKILL, or the parent's death by a terminal, ends them so."""
    for round_ in range(ROUNDS):
        workers, mark = kill_parent(tmp_path / str(round_), start_method, "busy_in_c", stop)
        try:
            assert are_stopped(workers)
        finally:
            for pid in workers:
                os.kill(pid, signal.SIGCONT)
        wait_until(partial(are_gone, workers), "the workers to be gone", limit_s=GONE_S)
        assert orphans_of(mark) == []
