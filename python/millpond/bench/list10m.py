"""The founding question: a list of ten million bound by `functools.partial`."""

from __future__ import annotations

import functools
import time

from millpond.bench.functions import look_up, looked_up
from millpond.bench.goal import Goal
from millpond.bench.peers import DATA_PEERS
from millpond.bench.workload import Workload, expect
from millpond.demo.pools import PoolClass

TASKS = 10


class List10M(Workload):
    """Each repeat has a fresh pool and a fresh list, so nothing is left from the one before."""

    name = "list10m"
    title = f"list of {{size}} bound in partial, imap of {TASKS}"
    sizes = (10_000_000,)
    sizes_quick = (1_000_000,)
    size_tiny = 5000
    goal = Goal("<= 0.35 s (0.5 s without write tracking)", cost_max=0.35)
    peers = DATA_PEERS

    def run(self, pool_class: PoolClass) -> float:
        with self.warm_pool(pool_class) as pool:
            self.ready(pool)
            function = functools.partial(look_up, dummy=list(range(self.size)))
            start_s = time.perf_counter()
            got = list(pool.imap(function, range(TASKS)))
            elapsed_s = time.perf_counter() - start_s
        expect(got, [looked_up(x, self.size) for x in range(TASKS)])
        return elapsed_s
