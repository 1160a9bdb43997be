"""A parent that is killed leaves nobody: whatever its workers do at that moment.

A thread of each worker waits for the parent's end without the GIL, so it does not matter what holds
the GIL. A worker that was stopped can do nothing until it is continued, and then ends like any other.
Nor is any file left: each parent has a folder of its own for temporary ones, and what appears in
/dev/shm is looked at whatever its name is.
"""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from testkit import procfs
from testkit.forms import by_form, seeded
from testkit.ledger import wait_until
from testkit.pools import stop
from testkit.scripts import orphans_of, start_script

ROUNDS = by_form(1, 50)
ROUNDS_OF_STARTS = {"fork": by_form(12, 150), "spawn": by_form(2, 50), "forkserver": by_form(2, 50)}
"""Together with the others a thousand in the long form."""
GONE_S = 1.0
SHM = Path("/dev/shm")
SHM_GRACE_S = 5.0
"""Names of other programs on the machine come and go in less."""

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


STARTS = """
    import multiprocessing, sys
    from testkit.work import square
    from millpond import Pool

    if __name__ == "__main__":
        context = multiprocessing.get_context(sys.argv[1])
        print("begins", flush=True)
        while True:
            with Pool(4, maxtasksperchild=1, context=context) as pool:
                assert pool.map(square, range(12), 1) == [x * x for x in range(12)]
"""
STARTING_GONE_S = {"fork": GONE_S, "spawn": 10.0, "forkserver": 10.0}
"""An interpreter that is starting must come so far as to see that nobody waits for it, and so must the
standard library's helpers: on two cores with much else to do that takes four of them a second."""
SPANS_S = {"fork": 1.0, "spawn": 4.0, "forkserver": 2.0}
"""In which moments after its beginning that parent is killed: about the time of two pools."""


def workers_that_began(directory: Path) -> list[int]:
    return [int(path.suffix[1:]) for path in directory.glob("began.*")]


def are_gone(pids: list[int]) -> bool:
    return not any(map(procfs.alive, pids))


def names_in_shm() -> set[str]:
    return {path.name for path in SHM.iterdir()}


def temporary_folder(directory: Path) -> dict[str, str]:
    """The variable that names a new and empty one."""
    folder = directory / "tmp"
    folder.mkdir()
    return {"TMPDIR": str(folder)}


def check_files(directory: Path, method: str, names_before: set[str]) -> None:
    """Nothing is left; the standard library's forkserver may leave the folder of its socket."""
    left = {path.name for path in (directory / "tmp").iterdir()}
    if method == "forkserver":
        left = {name for name in left if not name.startswith("pymp-")}
    assert left == set()
    wait_until(
        lambda: names_in_shm() <= names_before,
        f"the new names in {SHM} to be gone: {names_in_shm() - names_before}",
        limit_s=SHM_GRACE_S,
    )


def kill_parent(
    directory: Path, method: str, what: str, before: Callable[[list[int]], None]
) -> tuple[list[int], str]:
    """Kill a parent whose two workers are in that state; their ids, and the mark of the family."""
    directory.mkdir()
    args = (method, what, str(directory / "began"))
    parent, mark = start_script(PARENT, directory, *args, extra=temporary_folder(directory))
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
    """Row 15 of the known failures, loky #360: such workers stay for ever. Row 20, bbot #3203: they
    even ignore the SIGTERM that is sent to them then, so they must end without one.
    """
    names = names_in_shm()
    for round_ in range(ROUNDS):
        workers, mark = kill_parent(tmp_path / str(round_), start_method, what, no_more)
        start = time.monotonic()
        wait_until(partial(are_gone, workers), "the workers to be gone", limit_s=GONE_S)
        print(f"{what}: gone after {(time.monotonic() - start) * 1e3:.0f} ms")
        assert orphans_of(mark) == []
        check_files(tmp_path / str(round_), start_method, names)


def are_stopped(pids: list[int]) -> bool:
    return all(procfs.state(pid) == "T" for pid in pids)


@pytest.mark.limit_s(by_form(60, 600))
def test_stopped_workers_are_gone_within_a_second_of_their_going_on(
    start_method: str, tmp_path: Path
) -> None:
    """Stopped, they run nothing; only SIGKILL, or the parent's death by a terminal, ends them so."""
    names = names_in_shm()
    for round_ in range(ROUNDS):
        workers, mark = kill_parent(tmp_path / str(round_), start_method, "busy_in_c", stop)
        try:
            assert are_stopped(workers)
        finally:
            for pid in workers:
                os.kill(pid, signal.SIGCONT)
        wait_until(partial(are_gone, workers), "the workers to be gone", limit_s=GONE_S)
        assert orphans_of(mark) == []
        check_files(tmp_path / str(round_), start_method, names)


@pytest.mark.limit_s(by_form(90, 1800))
def test_nobody_is_left_of_a_pool_that_was_starting_workers_when_its_parent_was_killed(
    start_method: str, tmp_path: Path
) -> None:
    """At random moments of a life in which each task needs a new worker, and each dozen a new pool.

    A worker that is not yet one has no thread that waits: it must find out by itself.
    """
    random = seeded()
    names = names_in_shm()
    family: list[int] = []
    took_s: list[float] = []
    for round_ in range(ROUNDS_OF_STARTS[start_method]):
        directory = tmp_path / str(round_)
        directory.mkdir()
        variables = temporary_folder(directory)
        parent, mark = start_script(STARTS, directory, start_method, extra=variables)
        with parent:
            assert parent.stdout is not None
            assert parent.stdout.readline() == "begins\n"
            time.sleep(random.uniform(0, SPANS_S[start_method]))
            assert parent.poll() is None
            family.append(len(procfs.with_environment(mark)) - 1)
            parent.kill()
            start = time.monotonic()
            assert orphans_of(mark, grace_s=STARTING_GONE_S[start_method]) == []
            took_s.append(time.monotonic() - start)
        check_files(directory, start_method, names)
    print(
        f"{start_method}: {sum(family)} children of {len(family)} parents were gone after "
        f"{statistics.median(took_s) * 1e3:.0f} ms (median), {max(took_s) * 1e3:.0f} ms (all)"
    )
    assert sum(family) > 0
