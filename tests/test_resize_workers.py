"""`Pool.resize` seen from the workers: who leaves, who stays, what the new ones have."""

from __future__ import annotations

import gc
import os
import random
import signal
import threading
from functools import partial
from pathlib import Path
from typing import Any

import millpond
import pytest
from testkit import census, procfs
from testkit.forms import by_form, seeded
from testkit.ledger import Ledger, wait_for_file, wait_until
from testkit.pools import pids_of, running
from testkit.scripts import run_script
from testkit.work import (
    identity,
    journalled_square,
    meet,
    pid_of_worker,
    square,
    touch_and_wait,
)

METHODS = pytest.mark.parametrize("start_method", ["fork", "spawn", "forkserver"])

NOT_RUNNING = r"^Pool not running$"

#: How many threads change the number of workers at once, and how often each.
STORM_THREADS, STORM_RESIZES = 3, by_form(30, 300)
STORM_TASKS = by_form(3_000, 60_000)


def process_count() -> int:
    """How many processes the kernel knows of, the ended ones that nobody reaped included."""
    return census.children().total()


def pids() -> list[int]:
    spared = census.stdlib_pids() | census.ignored_pids
    return [process.pid for process in procfs.descendants(os.getpid()) if process.pid not in spared]


def has_size(pool: Any, size: int) -> bool:
    """Whether the pool, and the system, have so many workers."""
    return len(pool._pool) == size and process_count() == size


def hold_workers(pool: Any, tmp_path: Path, count: int) -> tuple[list[Any], str]:
    """Give each of so many workers a task that lasts until a file is there."""
    released = str(tmp_path / "released")
    began = [str(tmp_path / f"began-{number}") for number in range(count)]
    held = [pool.apply_async(touch_and_wait, (path, released)) for path in began]
    for path in began:
        wait_for_file(path)
    return held, released


def test_dismissed_workers_that_still_work_are_recalled(tmp_path: Path) -> None:
    with running(3) as any_pool:
        pool: Any = any_pool
        held, released = hold_workers(pool, tmp_path, 3)
        before = pids_of(pool)
        for size in (1, 2, 1, 3):
            pool.resize(size)
            wait_until(lambda: len(pool._pool) == size, f"{size} that stay")  # noqa: B023
        Path(released).touch()
        assert [result.get() for result in held] == [None] * 3
        (tmp_path / "meeting").mkdir()
        meeting = [pool.apply_async(meet, (str(tmp_path / "meeting"), x, 3)) for x in range(3)]
        assert {result.get() for result in meeting} == before == set(pids())


@pytest.mark.parametrize("whom", ["stays", "leaves"])
def test_a_worker_that_dies_in_between_is_not_replaced_if_there_are_enough(
    whom: str, tmp_path: Path
) -> None:
    with running(3) as any_pool:
        pool: Any = any_pool
        held, released = hold_workers(pool, tmp_path, 3)
        before = pids_of(pool)
        pool.resize(2)
        wait_until(lambda: len(pool._pool) == 2, "the dismissal")
        stay = pids_of(pool)
        doomed = min(stay if whom == "stays" else before - stay)
        os.kill(doomed, signal.SIGKILL)
        survivors = before - {doomed}
        # One that leaves is recalled in the place of one that stays.
        wait_until(lambda: pids_of(pool) == survivors == set(pids()), "the survivors")
        Path(released).touch()
        outcomes = [outcome_of(result) for result in held]
        assert sorted(map(str, outcomes)) == ["None", "None", "died"]
        assert {pool.apply(pid_of_worker) for _ in range(20)} <= survivors
        assert pids_of(pool) == survivors == set(pids())
        assert pool.stats()["replacements"] == 0


def outcome_of(result: Any) -> Any:
    try:
        return result.get()
    except millpond.WorkerDied:
        return "died"


def test_a_worker_that_dies_is_replaced_if_there_are_too_few() -> None:
    with running(3) as pool:
        pool.resize(2)
        wait_until(lambda: has_size(pool, 2), "two workers")
        doomed = min(pids_of(pool))
        os.kill(doomed, signal.SIGKILL)
        wait_until(lambda: has_size(pool, 2) and doomed not in pids(), "the replacement")
        # It is counted once it has been started.
        wait_until(lambda: pool.stats()["replacements"] == 1, "the count")


def hold_memory(length: int, began: str) -> None:
    memory = bytearray(length)
    touch_and_wait(began, began + "-never")
    memory.clear()


def test_new_workers_are_under_the_memory_limit(tmp_path: Path) -> None:
    with running(1, memory_limit=400 << 20) as pool:
        held, released = hold_workers(pool, tmp_path, 1)
        pool.resize(2)
        with pytest.raises(millpond.WorkerMemoryError):
            pool.apply(hold_memory, (800 << 20, str(tmp_path / "began")))
        Path(released).touch()
        assert held[0].get() is None


def test_a_limit_of_tasks_replaces_only_those_that_stay(tmp_path: Path) -> None:
    with running(4, maxtasksperchild=2) as pool:
        results = [pool.apply_async(pid_of_worker) for _ in range(40)]
        pool.resize(2)
        assert len({result.get() for result in results}) >= 20
        wait_until(lambda: has_size(pool, 2), "two workers")


@pytest.mark.filterwarnings("ignore:unclosed running:ResourceWarning")
@pytest.mark.parametrize("size", [1, 6])
@pytest.mark.parametrize("end", ["close", "terminate", "drop"])
def test_a_pool_may_end_while_it_is_resized(end: str, size: int, tmp_path: Path) -> None:
    """The census tells whether anything was left, of workers that leave or that are started."""
    pool = millpond.Pool(3)
    held, released = hold_workers(pool, tmp_path, 3)
    pool.resize(size)
    if end == "close":
        wait_until(lambda: len(pool._pool) == size, "the resize")  # type: ignore[attr-defined]
        pool.close()
        Path(released).touch()
        pool.join()
        assert [result.get() for result in held] == [None] * 3
    elif end == "terminate":
        pool.terminate()
        pool.join()
        with pytest.raises(millpond.PoolTerminated):
            held[0].get()
    else:
        # A pool is kept as long as it has jobs.
        Path(released).touch()
        for result in held:
            assert result.get() is None
        del result
        held.clear()
        del pool
        gc.collect()
        wait_until(lambda: process_count() == 0, "the end of a dropped pool")


def held_by_this_process() -> dict[str, int]:
    """How much it holds. A worker that stays may be another one, with another pipe and range."""
    gc.collect()
    now = census.Census.take()
    parts = {"fds": now.fds, "threads": now.threads, "mappings": now.mappings, "shm": now.shm}
    return {name: counts.total() for name, counts in parts.items()}


def test_a_row_of_resizes_leaves_nothing_over() -> None:
    with running(1) as any_pool:
        pool: Any = any_pool
        long = "x" * 5000
        assert pool.apply(identity, (long,)) == long
        before = held_by_this_process()
        for size in (4, 2, 5, 1) * by_form(5, 200):
            pool.resize(size)
            assert pool.map(identity, [long] * 8, 1) == [long] * 8
            wait_until(lambda: has_size(pool, size), f"{size} workers")  # noqa: B023
        assert pool.apply(identity, (long,)) == long
        wait_until(lambda: held_by_this_process() == before, f"{before} as before")
        assert pool.stats()["rescued_wakeups"] == 0


class Storm:
    """Threads that resize a pool, each to a number that it knows, until it is told to stop."""

    def __init__(self, pool: Any, seed: random.Random, sizes: int) -> None:
        self._pool = pool
        self._sizes = sizes
        self._threads = [
            threading.Thread(target=self._run, args=(random.Random(seed.random()),))
            for _ in range(STORM_THREADS)
        ]

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.join()

    def _run(self, chance: random.Random) -> None:
        for _ in range(STORM_RESIZES):
            self._pool.resize(chance.randint(1, self._sizes))
            # Between two resizes the pool has time for some tasks, and not for all.
            self._pool.map(square, range(8), 1)


@METHODS
def test_every_task_is_done_once_while_threads_resize(start_method: str, tmp_path: Path) -> None:
    ledger = Ledger.at(tmp_path)
    function = partial(journalled_square, ledger)
    third = STORM_TASKS // 3
    limit = None if start_method == "fork" else 500
    with running(2, start_method, maxtasksperchild=limit) as any_pool:
        pool: Any = any_pool
        with Storm(pool, seeded(), 6 if start_method == "fork" else 3):
            mapped = pool.map_async(function, range(third), 5)
            streamed = pool.imap(function, iter(range(third, 2 * third)))
            singles = [pool.apply_async(function, (x,)) for x in range(2 * third, 3 * third)]
            resolved = [*mapped.get(), *streamed, *(single.get() for single in singles)]
        assert resolved == [x * x for x in range(3 * third)]
        assert ledger.judge(range(3 * third), resolved=range(3 * third)).fair
        # Nobody resizes any more: the last call holds.
        wait_until(lambda: has_size(pool, pool._processes), "the last number")
        pool.resize(2)
        wait_until(lambda: has_size(pool, 2), "two workers")
        assert pool.stats()["worker_deaths"] == 0


def test_buffers_outlive_the_workers_that_lent_or_leased_them(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    with running(4) as pool:
        bound = numpy.arange(500_000)
        function = partial(add_in_company, bound, str(tmp_path))
        results = pool.map(function, range(4), 1)
        assert pool.stats()["borrowed_bytes"] > 0 < pool.stats()["stored_bytes"]
        pool.resize(1)
        wait_until(lambda: has_size(pool, 1), "one worker")
        for x, result in enumerate(results):
            assert (result == bound + x).all()
        pool.resize(4)
        again = pool.map(identity, results, 1)
        assert all((one == other).all() for one, other in zip(again, results, strict=True))
        del function, results, result, again
        # The last of them is let go by a look once a second.
        wait_until(lambda: pool.stats()["stored_bytes"] == 0, "the end of what was stored")
        wait_until(lambda: pool.stats()["borrowed_bytes"] == 0, "the end of what was borrowed")


def add_in_company(bound: Any, directory: str, x: int) -> Any:
    meet(directory, x, 4)
    return bound + x


class ScarcePool(millpond.Pool):
    """A pool whose system denies processes for a while."""

    denials = 0

    @staticmethod
    def Process(ctx: Any, *args: Any, **kwds: Any) -> Any:
        if ScarcePool.denials:
            ScarcePool.denials -= 1
            raise BlockingIOError("denied")
        return millpond.Pool.Process(ctx, *args, **kwds)


def test_workers_that_the_system_denies_are_tried_again() -> None:
    with ScarcePool(1) as pool:
        ScarcePool.denials = 3
        pool.resize(3)
        wait_until(lambda: ScarcePool.denials < 3, "the first denial")
        assert pool.map(square, range(20), 1) == [x * x for x in range(20)]
        wait_until(lambda: has_size(pool, 3), "three workers")
        assert pool.stats()["replacements"] == 0
    pool.join()


def test_the_standard_librarys_names_change_the_number_as_well() -> None:
    with running(1) as any_pool:
        pool: Any = any_pool
        pool._processes += 2
        pool._repopulate_pool()
        wait_until(lambda: has_size(pool, 3), "three workers")


@pytest.mark.limit_s(180)
def test_a_pool_grows_to_its_limit_and_back(tmp_path: Path) -> None:
    """In the long form to 1 024 workers; the short one goes beyond the 64 of one word of sleepers."""
    size = by_form(100, 1024)
    ledger = Ledger.at(tmp_path)
    tasks = range(3000)
    with running(2) as any_pool:
        pool: Any = any_pool
        pool.resize(size)
        assert pool.map(partial(journalled_square, ledger), tasks, 1) == [x * x for x in tasks]
        wait_until(lambda: has_size(pool, size), "all workers", 150.0)
        assert pool.map(square, range(3000), 1) == [x * x for x in range(3000)]
        pool.resize(2)
        wait_until(lambda: has_size(pool, 2), "two workers")
        assert pool.map(square, range(20), 1) == [x * x for x in range(20)]
    assert ledger.judge(tasks, resolved=tasks).fair


LIMITED = """
    import resource, sys
    from testkit.ledger import wait_until
    from testkit.work import square
    from millpond import Pool

    if __name__ == "__main__":
        resource.setrlimit(resource.RLIMIT_FSIZE, (680 << 20, resource.RLIM_INFINITY))
        with Pool(2) as pool:
            # As long a result as without resizes.
            assert len(pool.apply(bytes, (7 << 20,))) == 7 << 20
            pool.resize(34)
            wait_until(lambda: len(pool._pool) == 34, "all workers")
            assert pool.map(square, range(100), 1) == [x * x for x in range(100)]
            try:
                pool.resize(35)
            except ValueError as error:
                print(error)
        pool.join()
"""


def test_a_limit_on_file_size_limits_the_workers_and_not_the_results(tmp_path: Path) -> None:
    ended = run_script(LIMITED, tmp_path)
    assert (ended.returncode, ended.orphans) == (0, []), ended.stderr
    assert ended.stdout == (
        "Number of processes must be at most 34 under this limit on file size, not 35\n"
    )
