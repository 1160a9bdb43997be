"""The latency of one call."""

from __future__ import annotations

import statistics
import time

from millpond.bench.functions import successor
from millpond.bench.workload import Goal, Workload, expect
from millpond.demo.pools import PoolClass

CALLS = 2000


class ApplyRoundTrip(Workload):
    """The median of many calls, each begun when the one before has returned."""

    name = "apply"
    title = f"apply round trip, median of {CALLS:,}"
    goal = Goal(0.1, "time <= 0.1")

    def run(self, pool_class: PoolClass) -> float:
        with self.warm_pool(pool_class) as pool:
            self.ready(pool)
            times_s, got = [], []
            for x in range(CALLS):
                start_s = time.perf_counter()
                y = pool.apply(successor, (x,))
                times_s.append(time.perf_counter() - start_s)
                got.append(y)
        expect(got, list(range(1, CALLS + 1)))
        return statistics.median(times_s)
