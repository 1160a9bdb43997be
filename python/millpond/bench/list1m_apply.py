"""A bound list across jobs: each `apply` is a job of its own."""

from __future__ import annotations

import functools
import time

from millpond.bench.functions import look_up, looked_up
from millpond.bench.goal import Goal
from millpond.bench.workload import Workload, expect
from millpond.demo.pools import PoolClass

CALLS = 50


class List1MApply(Workload):
    """The time of all calls together."""

    name = "list1m-apply"
    title = f"list of {{size}} bound in partial, {CALLS} x apply"
    sizes = (1_000_000,)
    sizes_quick = (100_000,)
    size_tiny = 5000
    goal = Goal("<= 0.1 s (0.15 s without write tracking)", cost_max=0.1)
    peers = ("mpire",)

    def run(self, pool_class: PoolClass) -> float:
        with self.warm_pool(pool_class) as pool:
            self.ready(pool)
            function = functools.partial(look_up, dummy=list(range(self.size)))
            start_s = time.perf_counter()
            got = [pool.apply(function, (x,)) for x in range(CALLS)]
            elapsed_s = time.perf_counter() - start_s
        expect(got, [looked_up(x, self.size) for x in range(CALLS)])
        return elapsed_s
