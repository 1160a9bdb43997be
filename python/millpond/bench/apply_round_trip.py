"""The latency of one call."""

from __future__ import annotations

import statistics
import time

from millpond.bench.functions import successor
from millpond.bench.goal import Goal
from millpond.bench.peers import ALL_PEERS
from millpond.bench.workload import Workload, expect
from millpond.demo.pools import PoolClass


class ApplyRoundTrip(Workload):
    """The median of many calls, each begun when the one before has returned."""

    name = "apply"
    title = "apply round trip, median of {size}"
    sizes = (2000,)
    sizes_quick = (500,)
    size_tiny = 10
    goal = Goal("<= 5 us", cost_max=5e-6)
    peers = ALL_PEERS
    peers_part = 20

    def run(self, pool_class: PoolClass) -> float:
        calls = self.work_of(pool_class, self.size)
        with self.warm_pool(pool_class) as pool:
            self.ready(pool)
            times_s, got = [], []
            for x in range(calls):
                start_s = time.perf_counter()
                y = pool.apply(successor, (x,))
                times_s.append(time.perf_counter() - start_s)
                got.append(y)
        expect(got, list(range(1, calls + 1)))
        return statistics.median(times_s)
