"""A pool's whole life, under each way to start a process."""

from __future__ import annotations

import statistics
import time
from multiprocessing.pool import Pool
from typing import ClassVar

from millpond.bench.functions import successor
from millpond.bench.goal import Goal
from millpond.bench.peers import EXECUTOR, FLOOR
from millpond.bench.workload import Workload, expect
from millpond.demo.pools import PoolClass


class Start(Workload):
    """The median of a few lives: made, one task, closed, and joined, so that nothing is left.

    An executor that may start workers later starts but one for this task.
    """

    name = "start"
    title = "fork: start + one task + close + join, median of {size}"
    sizes = (10,)
    sizes_quick = (10,)
    size_tiny = 1
    goal = Goal(
        "<= 5 ms, not slower than concurrent.futures", cost_max=0.005, ratio_max=1.0, than=EXECUTOR
    )
    peers: ClassVar[tuple[str, ...]] = (EXECUTOR, "mpire", FLOOR)

    def prepare(self) -> None:
        # The server of forkserver starts with the first pool, and stays.
        with self.warm_pool(Pool) as pool:
            expect(pool.apply(successor, (0,)), 1)

    def run(self, pool_class: PoolClass) -> float:
        times_s = []
        for x in range(self.size):
            start_s = time.perf_counter()
            with self.warm_pool(pool_class) as pool:  # closes and joins
                got = pool.apply(successor, (x,))
            times_s.append(time.perf_counter() - start_s)
            expect(got, x + 1)
        return statistics.median(times_s)


class StartSpawn(Start):
    """Each worker is a new interpreter, which imports what it needs."""

    name = "start-spawn"
    title = "spawn: start + one task + close + join, median of {size}"
    sizes = (3,)
    sizes_quick = (1,)
    goal = Goal("not slower than concurrent.futures", ratio_max=1.0, than=EXECUTOR)
    start_method = "spawn"
    peers: ClassVar[tuple[str, ...]] = (EXECUTOR, "loky", FLOOR)


class StartForkserver(StartSpawn):
    """Each worker is a fork of a server that has imported nothing of ours."""

    name = "start-forkserver"
    title = "forkserver: start + one task + close + join, median of {size}"
    start_method = "forkserver"
    peers = (EXECUTOR, FLOOR)
