"""The founding question's fast program: the list is a default argument."""

from __future__ import annotations

import statistics
import time

from millpond.bench.goal import NOT_SLOWER
from millpond.bench.workload import Workload, expect
from millpond.demo.pools import PoolClass
from millpond.demo.programs import function_with_default

TASKS = 10
LOOPS = 200


class DefaultArgument(Workload):
    """A loop takes less than a millisecond, so a repeat is the median of many in one pool."""

    name = "default"
    title = f"list of {{size}} as default argument, imap of {TASKS}, median of {LOOPS}"
    sizes = (10_000_000,)
    sizes_quick = (1_000_000,)
    size_tiny = 1000
    goal = NOT_SLOWER

    def prepare(self) -> None:
        self.function = function_with_default(self.size)

    def run(self, pool_class: PoolClass) -> float:
        wanted = list(range(TASKS))
        times_s = []
        with self.warm_pool(pool_class) as pool:
            self.ready(pool)
            for _ in range(LOOPS):
                start_s = time.perf_counter()
                got = list(pool.imap(self.function, range(TASKS)))
                times_s.append(time.perf_counter() - start_s)
                expect(got, wanted)
        return statistics.median(times_s)
