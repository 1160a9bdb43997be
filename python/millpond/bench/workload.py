"""What a workload is."""

from __future__ import annotations

import functools
import multiprocessing
import multiprocessing.pool
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from typing import ClassVar, Literal

from millpond.bench.goal import Goal
from millpond.demo.pools import PoolClass, running, warm_up

PROCESSES = 2
START_METHOD = "fork"
REPEATS = 5
REPEATS_QUICK = 3

Measure = Literal["time", "rate", "throughput", "memory"]
"""What the table shows of a cost: seconds, tasks a second, bytes a second, or bytes."""


class Workload(ABC):
    """A line of the table, or with several sizes a table of its own.

    A new object serves one size in one process; `run` is called for each repeat on each pool.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    """With `{size}` in the place of the size."""
    sizes: ClassVar[tuple[int, ...]]
    sizes_quick: ClassVar[tuple[int, ...]]
    """What `--quick` does in their place."""
    size_tiny: ClassVar[int]
    """Enough to see that all works, in less than a second."""
    size_means: ClassVar[str] = "size"
    goal: ClassVar[Goal | None] = None
    measure: ClassVar[Measure] = "time"
    requires: ClassVar[str | None] = None
    """A package without which there is nothing to run."""
    peers: ClassVar[tuple[str, ...]] = ()
    """The other pools for which the work makes sense, if peers are asked for. Not all of those that
    pickle just as the standard library does: a full run takes a quarter of an hour at most."""
    peers_part: ClassVar[int] = 1
    """Peers do this part of the work, where a rate or a time for each task is shown."""
    start_method: ClassVar[str] = START_METHOD

    def __init__(self, size: int) -> None:
        self.size = size

    @classmethod
    def is_series(cls) -> bool:
        """Tell whether its figures are a curve, and no line of the common table."""
        return len(cls.sizes) > 1

    @property
    def processes(self) -> int:
        """How many workers a pool has."""
        return PROCESSES

    @property
    def amount(self) -> int:
        """How many tasks or bytes `run` times, where a rate or a throughput is shown."""
        return self.size

    def heading(self) -> str:
        """The title with the size."""
        return self.title.format(size=f"{self.size:,}")

    def work_of(self, pool_class: PoolClass, work: int) -> int:
        """How much of `work` this pool does."""
        if issubclass(pool_class, multiprocessing.pool.Pool):
            return work
        return max(1, work // self.peers_part)

    def prepare(self) -> None:  # noqa: B027 - most have nothing to prepare
        """Make what all repeats share; not timed."""

    def forecast_s(self, cost: float, size: int) -> float:
        """About how long `run` takes, by the cost at another size; asked of series only."""
        return cost * self.size / size

    @abstractmethod
    def run(self, pool_class: PoolClass) -> float:
        """Do the work once and check its answers; return the cost: seconds, or bytes."""

    def make(self, pool_class: PoolClass) -> multiprocessing.pool.Pool:
        """A pool as every workload uses it."""
        if not issubclass(pool_class, multiprocessing.pool.Pool):
            return pool_class(self.processes, self.start_method)
        context = multiprocessing.get_context(self.start_method)
        return pool_class(self.processes, context=context)

    def warm_pool(self, pool_class: PoolClass) -> AbstractContextManager[multiprocessing.pool.Pool]:
        """Such a pool, for a `with` block."""
        return running(functools.partial(self.make, pool_class))

    def ready(self, pool: multiprocessing.pool.Pool) -> None:
        """Return when each worker has started and done a task."""
        warm_up(pool, self.processes, "millpond.bench.functions")


class WrongAnswer(Exception):
    """A pool gave another answer than the plain loop would: its time means nothing."""


def expect(got: object, wanted: object) -> None:
    """Raise `WrongAnswer` unless both are equal; `assert` would be gone with -O."""
    if got != wanted:
        raise WrongAnswer(f"got {got!r:.200}, not {wanted!r:.200}")
