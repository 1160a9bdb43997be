"""What a task costs when many are in flight, and when each has another callable."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

from millpond.bench.functions import look_up, looked_up, plus, successor
from millpond.bench.goal import FLAT, Goal
from millpond.bench.peers import EXECUTOR
from millpond.bench.workload import Workload, expect
from millpond.demo.pools import PoolClass

TASKS_MIN = 2000
"""Few in flight, or few callables, take their turn so often."""
HEAVY_LEN = 2500
"""Items of a list that is sent once, and proved unchanged, rather than pickled with each task."""


class InFlight(Workload):
    """All are submitted, then all results are got, again and again if they are few."""

    name = "in-flight"
    title = "seconds a task by the number in flight, apply_async"
    sizes = (1, 100, 10_000, 1_000_000)
    sizes_quick = (1, 100, 10_000)
    size_tiny = 50
    size_means = "tasks in flight"
    goal = Goal(f"flat (within {FLAT:g} x)", growth_max=FLAT, growth_from="least")
    peers = (EXECUTOR,)

    def forecast_s(self, cost: float, size: int) -> float:
        return cost * max(TASKS_MIN, self.size)

    def run(self, pool_class: PoolClass) -> float:
        rounds = max(1, TASKS_MIN // self.size)
        with self.warm_pool(pool_class) as pool:
            self.ready(pool)
            start_s = time.perf_counter()
            for _ in range(rounds):
                results = [pool.apply_async(successor, (x,)) for x in range(self.size)]
                got = [result.get() for result in results]
            elapsed_s = time.perf_counter() - start_s
            expect(got, list(range(1, self.size + 1)))
        return elapsed_s / (rounds * self.size)


class Callables(Workload):
    """Tasks take the callables round and round, so one that was evicted is needed again."""

    name = "callables"
    title = f"seconds a task by the number of callables, each with a list of {HEAVY_LEN:,} bound"
    sizes = (1, 10, 100, 10_000)
    sizes_quick = (1, 10, 1000)
    size_tiny = 50
    size_means = "distinct callables"
    goal = Goal(f"flat (within {FLAT:g} x)", growth_max=FLAT, growth_from="least")
    peers = (EXECUTOR,)

    def callables(self) -> Sequence[Callable[[int], Any]]:
        # The numbers are shared, the lists are not, and no two have equal items.
        numbers = list(range(self.size + HEAVY_LEN))
        return [
            functools.partial(look_up, dummy=numbers[first : first + HEAVY_LEN])
            for first in range(self.size)
        ]

    def wanted(self, x: int, which: int) -> object:
        place, last, length = looked_up(x, HEAVY_LEN)
        return place + which, last + which, length

    def forecast_s(self, cost: float, size: int) -> float:
        return cost * max(TASKS_MIN, self.size)

    def run(self, pool_class: PoolClass) -> float:
        tasks = max(TASKS_MIN, self.size)
        with self.warm_pool(pool_class) as pool:
            self.ready(pool)
            functions = self.callables()
            start_s = time.perf_counter()
            results = [
                pool.apply_async(functions[task % self.size], (task % 7,)) for task in range(tasks)
            ]
            got = [result.get() for result in results]
            elapsed_s = time.perf_counter() - start_s
        expect(got, [self.wanted(task % 7, task % self.size) for task in range(tasks)])
        return elapsed_s / tasks


class LightCallables(Callables):
    """Nothing in these is worth to be kept."""

    name = "callables-light"
    title = "seconds a task by the number of callables, each with a number bound"

    def callables(self) -> Sequence[Callable[[int], Any]]:
        return [functools.partial(plus, y=y) for y in range(self.size)]

    def wanted(self, x: int, which: int) -> object:
        return x + which
