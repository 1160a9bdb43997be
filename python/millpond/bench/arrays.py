"""Numpy arrays: bound, as arguments, and as results."""

from __future__ import annotations

import functools
import time
from typing import Any

from millpond.bench.functions import full, put, total
from millpond.bench.goal import SIX_GB, Goal
from millpond.bench.peers import DATA_PEERS
from millpond.bench.workload import Workload, expect
from millpond.demo.pools import PoolClass

ITEM_BYTES = 8
BOUND_TASKS = 50
ITEMS = 8_000_000 // ITEM_BYTES


class Array100M(Workload):
    """Each task writes into the array that it gets, and sees no other task's writes.

    Peers whose arrays are read-only, or shared by the tasks, cannot do this.
    """

    name = "array100m"
    title = f"array of {{size}} bytes bound in partial, imap of {BOUND_TASKS}, each writes into it"
    sizes = (100_000_000,)
    sizes_quick = (10_000_000,)
    size_tiny = 1_000_000
    requires = "numpy"
    goal = Goal("<= 0.1 s (0.35 s without write tracking)", cost_max=0.1)
    peers = DATA_PEERS

    def run(self, pool_class: PoolClass) -> float:
        import numpy

        with self.warm_pool(pool_class) as pool:
            self.ready(pool)
            array = numpy.arange(float(self.size // ITEM_BYTES))
            function = functools.partial(put, array=array)
            start_s = time.perf_counter()
            got = list(pool.imap(function, range(BOUND_TASKS)))
            elapsed_s = time.perf_counter() - start_s
        expect(got, [(float(x), 0.0) for x in range(BOUND_TASKS)])
        return elapsed_s


class Arguments8M(Workload):
    """Each argument is another array: nothing comes again."""

    name = "arguments8m"
    title = "{size} arguments of 8 MB, imap"
    sizes = (60,)
    sizes_quick = (20,)
    size_tiny = 3
    requires = "numpy"
    goal = SIX_GB
    measure = "throughput"
    peers = DATA_PEERS

    @property
    def amount(self) -> int:
        return self.size * ITEMS * ITEM_BYTES

    def prepare(self) -> None:
        import numpy

        self.arrays: list[Any] = [numpy.full(ITEMS, float(x)) for x in range(self.size)]

    def run(self, pool_class: PoolClass) -> float:
        with self.warm_pool(pool_class) as pool:
            self.ready(pool)
            list(pool.imap(total, self.arrays[:4]))
            start_s = time.perf_counter()
            got = list(pool.imap(total, self.arrays))
            elapsed_s = time.perf_counter() - start_s
        expect(got, [float(x) * 2 for x in range(self.size)])
        return elapsed_s


class Results8M(Workload):
    """Each result is read once and dropped."""

    name = "results8m"
    title = "{size} results of 8 MB, imap"
    sizes = (60,)
    sizes_quick = (20,)
    size_tiny = 3
    requires = "numpy"
    goal = SIX_GB
    measure = "throughput"
    peers = DATA_PEERS

    @property
    def amount(self) -> int:
        return self.size * ITEMS * ITEM_BYTES

    def run(self, pool_class: PoolClass) -> float:
        with self.warm_pool(pool_class) as pool:
            self.ready(pool)
            function = functools.partial(full, items=ITEMS)
            list(pool.imap(function, range(4)))
            start_s = time.perf_counter()
            got = [total(array) for array in pool.imap(function, range(self.size))]
            elapsed_s = time.perf_counter() - start_s
        expect(got, [float(x) * 2 for x in range(self.size)])
        return elapsed_s
