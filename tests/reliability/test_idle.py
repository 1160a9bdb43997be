"""Quiet, wake-ups, and more workers than anybody needs."""

from __future__ import annotations

import resource
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from testkit.forms import by_form
from testkit.ledger import Ledger
from testkit.pools import pids_of, running
from testkit.scripts import run_script
from testkit.work import journalled_square, multiply, square

IDLE_S = by_form(3.0, 10.0)
IDLE_CPU_MS_MAX = 10.0
TINY_TASKS = by_form(20_000, 2_000_000)
MANY_WORKERS = 1024
PROCESSES_NEEDED = 3 * MANY_WORKERS

IDLE = """
    import os, sys, time
    from testkit import procfs
    from testkit.work import square
    from millpond import Pool

    def cpu_ns(pids):
        '''Of all threads that live: the kernel counts in nanoseconds here, and in ticks elsewhere.'''
        tasks = [task for pid in pids for task in (procfs.PROC / str(pid) / "task").iterdir()]
        return {task: int((task / "schedstat").read_text().split()[0]) for task in tasks}

    if __name__ == "__main__":
        pool = Pool(8)
        assert pool.map(square, range(1000)) == [x * x for x in range(1000)]
        time.sleep(3)  # what is kept for a next dispatch has expired after this
        pids = [os.getpid(), *(process.pid for process in procfs.descendants(os.getpid()))]
        before = cpu_ns(pids)
        time.sleep(float(sys.argv[1]))
        after = cpu_ns(pids)
        assert before.keys() == after.keys(), "no thread has come or gone"
        assert len(pids) == 9
        print(sum(after.values()) - sum(before.values()))
        pool.terminate()
        pool.join()
"""


def test_an_idle_pool_of_eight_uses_next_to_no_cpu(tmp_path: Path) -> None:
    """10 ms in 10 s for all nine processes: each worker looks up once a second, the parent never.

    The short form allows the same for 3 s, for the sake of busy machines.
    """
    ended = run_script(IDLE, tmp_path, str(IDLE_S))
    assert ended.returncode == 0, ended.stderr
    used_ms = int(ended.stdout) / 1e6
    print(f"an idle pool of 8 used {used_ms:.2f} ms of CPU in {IDLE_S:g} s")
    assert used_ms <= IDLE_CPU_MS_MAX


def ask_in_every_way(pool: Any, first: int, count: int) -> None:
    """Calls that wait for each task, that wait for all, and that do not wait."""
    part = range(first, first + count // 5)
    squares = [x * x for x in part]
    assert [pool.apply(square, (x,)) for x in part] == squares
    singles = [pool.apply_async(square, (x,)) for x in part]
    assert pool.map(square, part, 1) == squares
    assert list(pool.imap(square, iter(part))) == squares
    assert pool.starmap(multiply, [(x, x) for x in part], 3) == squares
    assert [single.get() for single in singles] == squares


@pytest.mark.limit_s(by_form(60, 900))
@pytest.mark.parametrize("workers", [1, 2, 8])
def test_no_wake_up_is_lost(workers: int) -> None:
    """A worker that found work only by its look once a second has been forgotten by a waker."""
    batch = 1_000
    with running(workers) as pool:
        for first in range(0, TINY_TASKS, batch):
            ask_in_every_way(pool, first, batch)
        stats = pool.stats()
    assert stats["tasks_completed"] >= TINY_TASKS // 2
    assert stats["rescued_wakeups"] == 0


def processes_allowed() -> int:
    limit = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    most = int(Path("/proc/sys/kernel/threads-max").read_text())
    return most if limit == resource.RLIM_INFINITY else min(limit, most)


@pytest.mark.limit_s(180)
@pytest.mark.skipif(
    processes_allowed() < PROCESSES_NEEDED,
    reason=f"{MANY_WORKERS} workers need {PROCESSES_NEEDED} processes and threads",
)
def test_a_thousand_workers_do_every_task_once(tmp_path: Path) -> None:
    ledger = Ledger.at(tmp_path)
    tasks = range(5_000)
    start = time.monotonic()
    with running(MANY_WORKERS) as pool:
        made_s = time.monotonic() - start
        function = partial(journalled_square, ledger)
        assert pool.map(function, tasks, 1) == [x * x for x in tasks]
        assert len(pids_of(pool)) == MANY_WORKERS
        start = time.monotonic()
    print(
        f"{MANY_WORKERS} workers: made in {made_s:.1f} s, ended in {time.monotonic() - start:.1f} s"
    )
    assert ledger.judge(tasks, resolved=tasks).fair
