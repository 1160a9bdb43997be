"""A pool's whole life."""

from __future__ import annotations

import statistics
import time

from millpond.bench.functions import successor
from millpond.bench.workload import NOT_SLOWER, Workload, expect
from millpond.demo.pools import PoolClass

LIVES = 10


class Start(Workload):
    """The median of a few lives: made, one task, closed, and joined, so that nothing is left."""

    name = "start"
    title = f"start + one task + close + join, median of {LIVES}"
    goal = NOT_SLOWER

    def run(self, pool_class: PoolClass) -> float:
        times_s = []
        for x in range(LIVES):
            start_s = time.perf_counter()
            with self.warm_pool(pool_class) as pool:  # closes and joins
                got = pool.apply(successor, (x,))
            times_s.append(time.perf_counter() - start_s)
            expect(got, x + 1)
        return statistics.median(times_s)
