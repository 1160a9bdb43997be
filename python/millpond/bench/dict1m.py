"""A dict of a million entries bound in a partial: nothing that could be packed as numbers."""

from __future__ import annotations

import functools
import time

from millpond.bench.functions import entry, entry_of
from millpond.bench.workload import Goal, Workload, expect
from millpond.demo.pools import PoolClass

ENTRIES = 1_000_000
TASKS = 20


class Dict1M(Workload):
    """Each repeat has a fresh pool and a fresh dict, so nothing is left from the one before."""

    name = "dict1m"
    with_peers = True
    title = "dict of 1 M entries bound in partial, imap of 20"
    goal = Goal(0.15, "time <= 0.15")
    repeats_full = 3  # some fifteen seconds each
    repeats_quick = 1

    def run(self, pool_class: PoolClass) -> float:
        with self.warm_pool(pool_class) as pool:
            self.ready(pool)
            table = {str(number): number for number in range(ENTRIES)}
            function = functools.partial(entry, table=table)
            start_s = time.perf_counter()
            got = list(pool.imap(function, range(TASKS)))
            elapsed_s = time.perf_counter() - start_s
        expect(got, [entry_of(x, ENTRIES) for x in range(TASKS)])
        return elapsed_s
