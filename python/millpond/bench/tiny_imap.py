"""As many tiny tasks as a pool can do, one at a time."""

from __future__ import annotations

import time

from millpond.bench.functions import successor
from millpond.bench.workload import Goal, Workload, expect
from millpond.demo.pools import PoolClass

TASKS = 50_000


class TinyImap(Workload):
    """The cost of one task, all work included that a pool does for it."""

    name = "tiny-imap"
    title = f"{TASKS:,} tiny tasks, imap, chunksize 1"
    goal = Goal(0.1, "rate >= 10x (time <= 0.1)")
    rate_of = TASKS

    def run(self, pool_class: PoolClass) -> float:
        with self.warm_pool(pool_class) as pool:
            self.ready(pool)
            start_s = time.perf_counter()
            got = list(pool.imap(successor, range(TASKS), chunksize=1))
            elapsed_s = time.perf_counter() - start_s
        expect(got, list(range(1, TASKS + 1)))
        return elapsed_s
