"""`resize`: another number of workers, while the pool runs; no task is lost, none is done twice."""

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
import numpy as np
import pytest
from testkit import procfs
from testkit.forms import seeded
from testkit.ledger import Ledger, wait_until
from testkit.pools import pids_of, running
from testkit.work import (
    initialize,
    initialized,
    journalled_square,
    meet,
    pid_of_worker,
    square,
    touch_and_wait,
)


def have(pool: millpond.Pool, count: int) -> Callable[[], bool]:
    """That the pool has just so many workers, and the process so many children of its making."""
    return lambda: len(pool._pool) == count == len(pids_of(pool))


def test_more_workers_take_what_waits(start_method: str, tmp_path: Path) -> None:
    with running(1, start_method) as pool:
        results = [pool.apply_async(meet, (str(tmp_path), x, 3)) for x in range(3)]
        pool.resize(3)
        assert len({result.get(60) for result in results}) == 3
        assert have(pool, 3)()
        assert pool._processes == 3


def test_fewer_workers_stay_and_the_others_end_in_order(start_method: str, tmp_path: Path) -> None:
    ledger = Ledger.at(tmp_path)
    with running(4, start_method, finalizer=ledger.note, finalargs=("end", "finalized")) as pool:
        assert pool.map(square, range(40), 1) == [x * x for x in range(40)]
        before = pids_of(pool)
        pool.resize(1)
        wait_until(lambda: len([pid for pid in before if procfs.alive(pid)]) == 1, "three to end")
        wait_until(lambda: ledger.count("finalized") == 3, "their finalizers")
        assert pool.map(square, range(40), 1) == [x * x for x in range(40)]
        assert set(pool.map(pid_of_worker, range(20), 1)) == pids_of(pool)
        assert pids_of(pool) < before
        stats = pool.stats()
    assert stats["worker_deaths"] == stats["replacements"] == 0


def test_a_surplus_worker_ends_after_the_task_that_it_runs(tmp_path: Path) -> None:
    began, released = tmp_path / "began", tmp_path / "released"
    with running(3) as pool:
        result = pool.apply_async(touch_and_wait, (str(began), str(released)))
        wait_until(began.exists, "the task to begin")
        pool.resize(1)
        wait_until(have(pool, 1), "the idle ones to end")
        # The busy one is the one that stays, so what waits now waits for it.
        later = pool.apply_async(square, (3,))
        released.touch()
        assert result.get(60) is None
        assert later.get(60) == 9


def test_no_surplus_worker_is_idle_while_busy_ones_end(tmp_path: Path) -> None:
    released = tmp_path / "released"
    with running(3) as pool:
        begun = [tmp_path / f"began-{x}" for x in range(3)]
        results = [pool.apply_async(touch_and_wait, (str(path), str(released))) for path in begun]
        wait_until(lambda: all(path.exists() for path in begun), "the tasks to begin")
        before = pids_of(pool)
        pool.resize(1)
        assert len(before) == 3
        wait_until(lambda: len(pool._pool) == 1, "two to be dismissed")
        assert all(procfs.alive(pid) for pid in before), "a busy worker goes on"
        released.touch()
        for result in results:
            assert result.get(60) is None
        wait_until(lambda: sum(map(procfs.alive, before)) == 1, "two to end")


def test_the_last_of_many_calls_holds() -> None:
    with running(2) as pool:

        def change() -> None:
            for count in (1, 5, 2, 4):
                pool.resize(count)

        threads = [threading.Thread(target=change) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        pool.resize(3)
        wait_until(have(pool, 3), "three workers")
        assert pool.map(square, range(100)) == [x * x for x in range(100)]
        assert have(pool, 3)()


def test_new_workers_are_made_as_the_first_ones_were(start_method: str) -> None:
    pool_kwargs: dict[str, Any] = {
        "initializer": initialize,
        "initargs": ("set",),
        "maxtasksperchild": 2,
    }
    with running(1, start_method, **pool_kwargs) as pool:
        pool.resize(2)
        assert set(pool.map(initialized, range(12), 1)) == {"set"}
        wait_until(have(pool, 2), "two workers")


def look(x: int, data: list[Any], array: Any) -> tuple[int, int, float]:
    return x, len(data), float(array.sum())


def test_new_workers_load_what_was_sent_before() -> None:
    data, array = [[x] for x in range(5000)], np.ones(1 << 16)
    call = partial(look, data=data, array=array)
    wanted = [(x, 5000, float(1 << 16)) for x in range(8)]
    with running(1) as pool:
        assert pool.map(call, range(8), 1) == wanted
        for count in (4, 1, 3):
            pool.resize(count)
            assert pool.map(call, range(8), 1) == wanted
            wait_until(have(pool, count), "the workers")
            assert pool.map(call, range(8), 1) == wanted
        assert pool.stats()["heavy_parts_pickled"] == 2


def test_default_chunks_follow_the_number() -> None:
    with running(1) as pool:
        pool.resize(4)
        result = pool.map_async(square, range(64))
        assert result._chunksize == 4  # type: ignore[attr-defined]
        assert result.get(60) == [x * x for x in range(64)]


@pytest.mark.parametrize(
    ("count", "error"),
    [(0, ValueError), (-1, ValueError), (1025, ValueError), (1.5, TypeError), (None, TypeError)],
)
def test_a_number_that_cannot_be_is_refused_and_nothing_changes(
    count: Any, error: type[Exception]
) -> None:
    with running(2) as pool:
        with pytest.raises(error):
            pool.resize(count)
        assert pool._processes == 2
        assert pool.map(square, range(10)) == [x * x for x in range(10)]
        assert have(pool, 2)()


@pytest.mark.parametrize("end", ["close", "terminate"])
def test_a_pool_that_does_not_run_refuses(end: str) -> None:
    with running(2) as pool:
        getattr(pool, end)()
        with pytest.raises(ValueError, match="Pool not running"):
            pool.resize(3)
        pool.join()


def test_a_pool_may_end_while_its_number_changes(start_method: str) -> None:
    with running(3, start_method) as pool:
        result = pool.map_async(square, range(50), 1)
        pool.resize(5)
        pool.resize(1)
        pool.close()
        pool.join()
        assert result.get(60) == [x * x for x in range(50)]
    with running(1, start_method) as pool:
        pool.resize(4)
        pool.terminate()
        pool.join()
        assert not pids_of(pool)


@pytest.mark.limit_s(120)
def test_resizing_under_kills_loses_no_task_and_does_none_twice(tmp_path: Path) -> None:
    ledger = Ledger.at(tmp_path)
    rng = seeded()
    tasks = 2000
    with running(4) as pool:
        results = [pool.apply_async(journalled_square, (ledger, x)) for x in range(tasks)]
        killed: set[int] = set()
        while not results[-1].ready() and len(killed) < 30:
            pool.resize(rng.randrange(1, 7))
            candidates = sorted(ledger.pids() & pids_of(pool) - killed)
            if candidates:
                victim = rng.choice(candidates)
                killed.add(victim)
                os.kill(victim, signal.SIGKILL)
            time.sleep(0.005)
        values, lost = [], []
        for x, result in enumerate(results):
            try:
                values.append((x, result.get(60)))
            except millpond.WorkerDied as death:
                assert death.pid in killed
                lost.append(x)
        assert all(value == x * x for x, value in values)
        judgement = ledger.judge(range(tasks), resolved=[x for x, _ in values], failed=lost)
        assert judgement.fair, judgement
        pool.resize(2)
        wait_until(have(pool, 2), "two workers")
        # One that was dismissed may have said that it ends before it was killed.
        assert len(lost) <= pool.stats()["worker_deaths"] <= len(killed)
