"""As many tiny tasks as a pool can do, one at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, ClassVar

from millpond.bench.functions import successor, swap
from millpond.bench.goal import Goal
from millpond.bench.peers import ALL_PEERS, EXECUTOR
from millpond.bench.workload import Workload, expect
from millpond.demo.pools import PoolClass


class TinyImap(Workload):
    """The cost of one task, all work included that a pool does for it."""

    name = "tiny-imap"
    title = "{size} tiny tasks, imap, chunksize 1"
    sizes = (50_000,)
    sizes_quick = (10_000,)
    size_tiny = 200
    goal: ClassVar[Goal | None] = Goal(">= 2 M/s", rate_min=2e6)
    measure = "rate"
    peers = ALL_PEERS
    peers_part = 20

    def function(self) -> Callable[[Any], Any]:
        return successor

    def prepare(self) -> None:
        self.items: list[Any] = list(range(self.size))
        self.wanted: list[Any] = list(range(1, self.size + 1))

    def run(self, pool_class: PoolClass) -> float:
        tasks = self.work_of(pool_class, self.size)
        items = self.items[:tasks]
        with self.warm_pool(pool_class) as pool:
            self.ready(pool)
            start_s = time.perf_counter()
            got = list(pool.imap(self.function(), items, chunksize=1))
            elapsed_s = time.perf_counter() - start_s
        expect(got, self.wanted[:tasks])
        return elapsed_s * self.size / tasks


class TinyTuples(TinyImap):
    """Arguments and results that are small tuples of atoms."""

    name = "tiny-tuples"
    title = "{size} tasks of small tuples of atoms, imap, chunksize 1"
    goal = None
    peers = (EXECUTOR, "mpire")

    def function(self) -> Callable[[Any], Any]:
        return swap

    def prepare(self) -> None:
        self.items = [(x, f"key {x}", x / 2) for x in range(self.size)]
        self.wanted = [(f"key {x}", x / 2, x) for x in range(self.size)]
