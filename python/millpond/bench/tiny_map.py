"""Tiny tasks in the large chunks that `map` makes by default."""

from __future__ import annotations

import time

from millpond.bench.functions import successor
from millpond.bench.workload import NOT_SLOWER, Workload, expect
from millpond.demo.pools import PoolClass

ITEMS = 1_000_000


class TinyMap(Workload):
    """Eight chunks of 125 000 items: pickling is nearly all."""

    name = "tiny-map"
    title = f"{ITEMS:,} tiny tasks, map, default chunks"
    goal = NOT_SLOWER
    rate_of = ITEMS

    def prepare(self) -> None:
        self.items = list(range(ITEMS))
        self.wanted = list(range(1, ITEMS + 1))

    def run(self, pool_class: PoolClass) -> float:
        with self.warm_pool(pool_class) as pool:
            self.ready(pool)
            start_s = time.perf_counter()
            got = pool.map(successor, self.items)
            elapsed_s = time.perf_counter() - start_s
        expect(got, self.wanted)
        return elapsed_s
