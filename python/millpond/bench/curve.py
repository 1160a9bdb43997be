"""What a task costs by the size of what is bound, in a job after one that has sent it."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any, ClassVar

from millpond.bench.functions import entry, entry_of, look_up, looked_up
from millpond.bench.workload import Workload, expect
from millpond.demo.pools import PoolClass

FEW_TASKS = 4
"""Of a large object: it takes others a good part of a second for each task."""
MANY_TASKS = 20
LARGE = 1_000_000
FIRST_TASKS = 2


class BoundList(Workload):
    """A list of numbers."""

    name = "bound-list"
    title = "seconds a task by the size of the list that is bound, imap, after a job that sent it"
    sizes: ClassVar[tuple[int, ...]] = tuple(10**power for power in range(3, 8))
    sizes_quick: ClassVar[tuple[int, ...]] = (1000, 100_000, 1_000_000)
    size_tiny = 1000
    size_means = "items bound"
    peers = ("mpire",)

    def function(self) -> Callable[[int], Any]:
        return functools.partial(look_up, dummy=list(range(self.size)))

    def wanted(self, x: int) -> object:
        return looked_up(x, self.size)

    def tasks(self) -> int:
        return FEW_TASKS if self.size >= LARGE else MANY_TASKS

    def forecast_s(self, cost: float, size: int) -> float:
        # What a pool does for each task beside the bound object does not grow with it, so this is
        # somewhat more than it will be.
        return cost * self.size / size * (FIRST_TASKS + self.tasks())

    def run(self, pool_class: PoolClass) -> float:
        tasks = self.tasks()
        with self.warm_pool(pool_class) as pool:
            self.ready(pool)
            function = self.function()
            list(pool.imap(function, range(FIRST_TASKS)))
            start_s = time.perf_counter()
            got = list(pool.imap(function, range(tasks)))
            elapsed_s = time.perf_counter() - start_s
        expect(got, [self.wanted(x) for x in range(tasks)])
        return elapsed_s / tasks


class BoundDict(BoundList):
    """A dict of texts to numbers; ten million entries would take the others minutes, and gigabytes."""

    name = "bound-dict"
    title = "seconds a task by the size of the dict that is bound, imap, after a job that sent it"
    sizes = tuple(10**power for power in range(3, 7))
    sizes_quick = (1000, 100_000)

    def function(self) -> Callable[[int], Any]:
        return functools.partial(entry, table={str(number): number for number in range(self.size)})

    def wanted(self, x: int) -> object:
        return entry_of(x, self.size)
