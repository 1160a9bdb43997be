"""The founding question's fast program: the list is a default argument."""

from __future__ import annotations

import statistics
import time

from millpond.bench.workload import NOT_SLOWER, Workload, expect
from millpond.demo.pools import PoolClass
from millpond.demo.programs import function_with_default

ELEMENTS = 10_000_000
TASKS = 10
LOOPS = 200


class DefaultArgument(Workload):
    """A loop takes less than a millisecond, so a repeat is the median of many in one pool."""

    name = "default"
    title = f"10 M list as default argument, imap of 10, median of {LOOPS}"
    goal = NOT_SLOWER

    def prepare(self) -> None:
        self.function = function_with_default(ELEMENTS)

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
