"""A dict of a million entries bound in a partial: nothing that could be packed as numbers."""

from __future__ import annotations

import functools
import time

from millpond.bench.functions import entry, entry_of
from millpond.bench.goal import Goal
from millpond.bench.workload import Workload, expect
from millpond.demo.pools import PoolClass

TASKS = 20


class Dict1M(Workload):
    """Each repeat has a fresh pool and a fresh dict, so nothing is left from the one before."""

    name = "dict1m"
    title = f"dict of {{size}} entries bound in partial, imap of {TASKS}"
    sizes = (1_000_000,)
    sizes_quick = (100_000,)
    size_tiny = 5000
    goal = Goal("<= 2.5 s", cost_max=2.5)
    peers = ("mpire",)

    def run(self, pool_class: PoolClass) -> float:
        with self.warm_pool(pool_class) as pool:
            self.ready(pool)
            table = {str(number): number for number in range(self.size)}
            function = functools.partial(entry, table=table)
            start_s = time.perf_counter()
            got = list(pool.imap(function, range(TASKS)))
            elapsed_s = time.perf_counter() - start_s
        expect(got, [entry_of(x, self.size) for x in range(TASKS)])
        return elapsed_s
