"""How a pool waits: with more workers than cores, behind a long task, and when nothing is to do."""

from __future__ import annotations

import os
import time

from millpond.bench.functions import nap, successor
from millpond.bench.goal import Goal
from millpond.bench.peers import EXECUTOR
from millpond.bench.workload import Workload, expect
from millpond.demo.pools import PoolClass

TASKS_PER_RUN = 20_000
LONG_S = 0.5
SHORT_S = 0.001
IDLE_WORKERS = 8
IDLE_SHOWN_S = 10


class Workers(Workload):
    """Idle workers that look for work take the processor from those that have some."""

    name = "workers"
    title = f"seconds a tiny task by the number of workers, imap of {TASKS_PER_RUN:,}, chunksize 1"
    sizes = sizes_quick = (2, 8, 64)
    size_tiny = 3
    size_means = "workers"
    goal = Goal("8 and 64 workers not slower than 2 (within 10 %)", growth_max=1.1)
    peers = (EXECUTOR, "mpire")
    peers_part = 20

    @property
    def processes(self) -> int:
        return self.size

    def forecast_s(self, cost: float, size: int) -> float:
        return cost * TASKS_PER_RUN

    def run(self, pool_class: PoolClass) -> float:
        tasks = self.work_of(pool_class, TASKS_PER_RUN)
        with self.warm_pool(pool_class) as pool:
            self.ready(pool)
            start_s = time.perf_counter()
            got = list(pool.imap(successor, range(tasks), chunksize=1))
            elapsed_s = time.perf_counter() - start_s
        expect(got, list(range(1, tasks + 1)))
        return elapsed_s / tasks


class MixedLengths(Workload):
    """The long task comes in the middle of the short ones. When the last of these arrives, measured
    from the start, tells whether one of them had to wait for it."""

    name = "mixed"
    title = (
        f"{{size}} tasks of {SHORT_S * 1e3:g} ms, one of {LONG_S:g} s among them: last short one"
    )
    sizes = sizes_quick = (200,)
    size_tiny = 20
    goal = Goal(f"< {LONG_S:g} s: the long task holds none", cost_max=LONG_S * 0.99)

    def run(self, pool_class: PoolClass) -> float:
        half = self.size // 2
        lengths_s = [SHORT_S] * half + [LONG_S] + [SHORT_S] * (self.size - half)
        got, last_s = [], 0.0
        with self.warm_pool(pool_class) as pool:
            self.ready(pool)
            start_s = time.perf_counter()
            for length_s in pool.imap_unordered(nap, lengths_s, chunksize=1):
                got.append(length_s)
                if length_s == SHORT_S:
                    last_s = time.perf_counter() - start_s
        expect(sorted(got), sorted(lengths_s))
        return last_s


def children() -> list[int]:
    """The process ids of this process's children."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            try:
                with open(f"/proc/{entry.name}/stat", "rb") as stat:
                    # The name, in parentheses, may hold blanks; state and parent follow it.
                    parent = int(stat.read().rpartition(b")")[2].split()[1])
            except OSError:
                continue  # it has ended since
            if parent == os.getpid():
                found.append(int(entry.name))
    return found


def cpu_s(pid: int) -> float:
    """The CPU time of another process and its threads, to the nanosecond: clock_getcpuclockid(3)."""
    return time.clock_gettime((~pid << 3) | 2)


class Idle(Workload):
    """The parent and its workers together."""

    name = "idle"
    title = (
        f"CPU time of {IDLE_WORKERS} idle workers and the parent in {IDLE_SHOWN_S} s, "
        "by {size} s of watching"
    )
    sizes = (2,)
    sizes_quick = (1,)
    size_tiny = 1
    goal = Goal("<= 10 ms", cost_max=0.01)
    peers = (EXECUTOR,)

    @property
    def processes(self) -> int:
        return IDLE_WORKERS

    def run(self, pool_class: PoolClass) -> float:
        with self.warm_pool(pool_class) as pool:
            self.ready(pool)
            pids = children()
            # So that what happens once after the last task is over.
            time.sleep(0.2)
            before = {pid: cpu_s(pid) for pid in pids}
            own_s = time.process_time()
            time.sleep(self.size)
            own_s = time.process_time() - own_s
            used_s = own_s + sum(cpu_s(pid) - before[pid] for pid in pids)
        return used_s * IDLE_SHOWN_S / self.size
