"""A bound list across jobs: each `apply` is a job of its own."""

from __future__ import annotations

import functools
import time

from millpond.bench.functions import look_up, looked_up
from millpond.bench.workload import Workload, expect
from millpond.demo.pools import PoolClass

ELEMENTS = 1_000_000
CALLS = 50


class List1MApply(Workload):
    """The time of all calls together."""

    name = "list1m-apply"
    with_peers = True
    title = f"1 M list bound in partial, {CALLS} x apply"

    def run(self, pool_class: PoolClass) -> float:
        with self.warm_pool(pool_class) as pool:
            self.ready(pool)
            function = functools.partial(look_up, dummy=list(range(ELEMENTS)))
            start_s = time.perf_counter()
            got = [pool.apply(function, (x,)) for x in range(CALLS)]
            elapsed_s = time.perf_counter() - start_s
        expect(got, [looked_up(x, ELEMENTS) for x in range(CALLS)])
        return elapsed_s
