"""What Millpond is to reach, and whether it has."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from millpond.demo.pools import MILLPOND, STDLIB

Samples = Mapping[str, Sequence[float]]
"""The costs that were measured, of each pool by its name: seconds or bytes, less is better."""

FLAT = 1.5
"""A cost counts as flat if no size costs more than this times the cheapest smaller one."""


@dataclass(frozen=True)
class Goal:
    """All bounds that are given must hold, each for the medians."""

    text: str
    cost_max: float | None = None
    """Seconds or bytes. Holds at the full size only: a cut one is no test of it."""
    rate_min: float | None = None
    """Tasks or bytes a second."""
    ratio_max: float | None = None
    """The most in units of another pool's cost."""
    than: str = STDLIB
    """The pool that `ratio_max` speaks of."""
    growth_max: float | None = None
    """The most at any size of a series, in units of a smaller size's cost."""
    growth_from: Literal["first", "least"] = "first"
    """Which smaller size: the first one, or the cheapest."""

    def met(self, samples: Samples, amount: int, is_full: bool) -> bool | None:
        """Judge one size; None if there is nothing to judge by."""
        cost = statistics.median(samples[MILLPOND])
        verdicts = []
        if self.cost_max is not None and is_full:
            verdicts.append(cost <= self.cost_max)
        if self.rate_min is not None:
            verdicts.append(amount / cost >= self.rate_min)
        if self.ratio_max is not None and samples.get(self.than):
            verdicts.append(cost <= self.ratio_max * statistics.median(samples[self.than]))
        return all(verdicts) if verdicts else None

    def grows(self, by_size: Sequence[Samples]) -> float:
        """How much more Millpond costs at its worst size than at a smaller one; at least 1."""
        costs = [statistics.median(samples[MILLPOND]) for samples in by_size]
        before = [
            costs[0] if self.growth_from == "first" else min(costs[: index + 1])
            for index in range(len(costs))
        ]
        return max(1.0, *(cost / base for cost, base in zip(costs, before, strict=True)))


NOT_SLOWER = Goal("not slower than multiprocessing.Pool", ratio_max=1.0)
SIX_GB = Goal(">= 6 GB/s", rate_min=6e9)
