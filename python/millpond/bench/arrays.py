"""Numpy arrays: bound, as arguments, and as results."""

from __future__ import annotations

import functools
import time
from typing import Any

from millpond.bench.functions import full, put, total
from millpond.bench.workload import Goal, Workload, expect
from millpond.demo.pools import PoolClass

ITEM_BYTES = 8
BOUND_ITEMS = 100_000_000 // ITEM_BYTES
BOUND_TASKS = 50
ITEMS = 8_000_000 // ITEM_BYTES
TASKS = 60

SIX_GB = Goal(1.0, ">= 6 GB/s", bytes_per_s_min=6e9)


class Array100M(Workload):
    """Each task writes into the array that it gets, and sees no other task's writes."""

    name = "array100m"
    title = "100 MB array bound in partial, imap of 50, each writes into it"
    requires = "numpy"
    with_peers = True
    goal = Goal(0.01, "time <= 0.1 s, here <= 0.01")
    repeats_full = 3  # some fifteen seconds each
    repeats_quick = 1

    def run(self, pool_class: PoolClass) -> float:
        import numpy

        with self.warm_pool(pool_class) as pool:
            self.ready(pool)
            array = numpy.arange(float(BOUND_ITEMS))
            function = functools.partial(put, array=array)
            start_s = time.perf_counter()
            got = list(pool.imap(function, range(BOUND_TASKS)))
            elapsed_s = time.perf_counter() - start_s
        expect(got, [(float(x), 0.0) for x in range(BOUND_TASKS)])
        return elapsed_s


class Arguments8M(Workload):
    """Each argument is another array: nothing comes again."""

    name = "arguments8m"
    title = "60 arguments of 8 MB, imap"
    requires = "numpy"
    with_peers = True
    bytes_of = TASKS * ITEMS * ITEM_BYTES
    goal = SIX_GB

    def prepare(self) -> None:
        import numpy

        self.arrays: list[Any] = [numpy.full(ITEMS, float(x)) for x in range(TASKS)]

    def run(self, pool_class: PoolClass) -> float:
        with self.warm_pool(pool_class) as pool:
            self.ready(pool)
            list(pool.imap(total, self.arrays[:4]))
            start_s = time.perf_counter()
            got = list(pool.imap(total, self.arrays))
            elapsed_s = time.perf_counter() - start_s
        expect(got, [float(x) * 2 for x in range(TASKS)])
        return elapsed_s


class Results8M(Workload):
    """Each result is read once and dropped."""

    name = "results8m"
    title = "60 results of 8 MB, imap"
    requires = "numpy"
    with_peers = True
    bytes_of = TASKS * ITEMS * ITEM_BYTES
    goal = SIX_GB

    def run(self, pool_class: PoolClass) -> float:
        with self.warm_pool(pool_class) as pool:
            self.ready(pool)
            function = functools.partial(full, items=ITEMS)
            list(pool.imap(function, range(4)))
            start_s = time.perf_counter()
            got = [total(array) for array in pool.imap(function, range(TASKS))]
            elapsed_s = time.perf_counter() - start_s
        expect(got, [float(x) * 2 for x in range(TASKS)])
        return elapsed_s
