"""Tiny tasks in the large chunks that `map` makes by default."""

from __future__ import annotations

import time

from millpond.bench.functions import successor
from millpond.bench.goal import Goal
from millpond.bench.peers import EXECUTOR
from millpond.bench.workload import Workload, expect
from millpond.demo.pools import PoolClass


class TinyMap(Workload):
    """Eight chunks: pickling is nearly all."""

    name = "tiny-map"
    title = "{size} tiny tasks, map, default chunks"
    sizes = (1_000_000,)
    sizes_quick = (1_000_000,)
    size_tiny = 1000
    goal = Goal(">= 10 M/s", rate_min=10e6)
    measure = "rate"
    peers = (EXECUTOR, "mpire")
    peers_part = 20

    def prepare(self) -> None:
        self.items = list(range(self.size))
        self.wanted = list(range(1, self.size + 1))

    def run(self, pool_class: PoolClass) -> float:
        tasks = self.work_of(pool_class, self.size)
        items = self.items[:tasks]
        with self.warm_pool(pool_class) as pool:
            self.ready(pool)
            start_s = time.perf_counter()
            got = pool.map(successor, items)
            elapsed_s = time.perf_counter() - start_s
        expect(got, self.wanted[:tasks])
        return elapsed_s * self.size / tasks
