"""What a workload is."""

from __future__ import annotations

import functools
import multiprocessing
import multiprocessing.pool
import statistics
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import ClassVar

from millpond.demo.pools import PoolClass, running, warm_up

PROCESSES = 2
START_METHOD = "fork"
REPEATS = 5
REPEATS_QUICK = 3


@dataclass(frozen=True)
class Goal:
    """What Millpond is to reach: at most this part of the standard library's time."""

    ratio_max: float
    text: str
    bytes_per_s_min: float | None = None


NOT_SLOWER = Goal(1.0, "not slower")


class Workload(ABC):
    """One line of the table. A new object serves one process; `run` is called for each repeat."""

    name: ClassVar[str]
    title: ClassVar[str]
    goal: ClassVar[Goal | None] = None
    rate_of: ClassVar[int | None] = None
    """How many tasks `run` times, where the table shall show a rate in place of a time."""
    bytes_of: ClassVar[int | None] = None
    """How many bytes cross, where the table shall show gigabytes a second."""
    requires: ClassVar[str | None] = None
    """A package without which there is nothing to run."""
    with_peers: ClassVar[bool] = False
    """Whether other pools are measured too, if that is asked for."""
    repeats_full: ClassVar[int] = REPEATS
    repeats_quick: ClassVar[int] = REPEATS_QUICK

    def prepare(self) -> None:  # noqa: B027 - most have nothing to prepare
        """Make what all repeats share; not timed."""

    @abstractmethod
    def run(self, pool_class: PoolClass) -> float:
        """Do the work once and check its answers; return the time in seconds."""

    def make(self, pool_class: PoolClass) -> multiprocessing.pool.Pool:
        """A pool as every workload uses it."""
        if not issubclass(pool_class, multiprocessing.pool.Pool):
            return pool_class()
        return pool_class(PROCESSES, context=multiprocessing.get_context(START_METHOD))

    def warm_pool(self, pool_class: PoolClass) -> AbstractContextManager[multiprocessing.pool.Pool]:
        """Such a pool, for a `with` block."""
        return running(functools.partial(self.make, pool_class))

    def ready(self, pool: multiprocessing.pool.Pool) -> None:
        """Return when each worker has started and done a task."""
        warm_up(pool, PROCESSES, "millpond.bench.functions")


class WrongAnswer(Exception):
    """A pool gave another answer than the plain loop would: its time means nothing."""


def expect(got: object, wanted: object) -> None:
    """Raise `WrongAnswer` unless both are equal; `assert` would be gone with -O."""
    if got != wanted:
        raise WrongAnswer(f"got {got!r:.200}, not {wanted!r:.200}")


def ratio(stdlib_s: list[float], millpond_s: list[float]) -> float:
    """Millpond's median time in units of the standard library's."""
    return statistics.median(millpond_s) / statistics.median(stdlib_s)
