"""The founding question: a list of ten million bound by `functools.partial`."""

from __future__ import annotations

import functools
import time

from millpond.bench.functions import look_up, looked_up
from millpond.bench.workload import Goal, Workload, expect
from millpond.demo.pools import PoolClass

ELEMENTS = 10_000_000
TASKS = 10


class List10M(Workload):
    """Each repeat has a fresh pool and a fresh list, so nothing is left from the one before."""

    name = "list10m"
    with_peers = True
    title = "10 M list bound in partial, imap of 10"
    goal = Goal(0.15, "time <= 0.15")
    repeats_full = 3  # some ten seconds each

    def run(self, pool_class: PoolClass) -> float:
        with self.warm_pool(pool_class) as pool:
            self.ready(pool)
            function = functools.partial(look_up, dummy=list(range(ELEMENTS)))
            start_s = time.perf_counter()
            got = list(pool.imap(function, range(TASKS)))
            elapsed_s = time.perf_counter() - start_s
        expect(got, [looked_up(x, ELEMENTS) for x in range(TASKS)])
        return elapsed_s
