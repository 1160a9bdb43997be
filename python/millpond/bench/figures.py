"""Costs as texts of about three digits."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from millpond.bench.workload import Workload


def duration(seconds: float) -> str:
    """Three digits or so, in the unit that suits."""
    units = (("s", 1.0), ("ms", 1e3), ("us", 1e6))
    unit, scale = next((fit for fit in units if seconds * fit[1] >= 1), units[-1])
    value = seconds * scale
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f} {unit}"


def rate(per_second: float) -> str:
    """Tasks a second, to about three digits."""
    digits = max(0, len(str(int(per_second))) - 3)
    return f"{round(per_second, -digits):,.0f}/s"


def throughput(bytes_per_s: float) -> str:
    """Gigabytes a second."""
    return f"{bytes_per_s / 1e9:.2f} GB/s"


def figure(cost: float, workload: Workload) -> str:
    """A cost as the table shows it."""
    match workload.measure:
        case "time":
            return duration(cost)
        case "rate":
            return rate(workload.amount / cost)
        case "throughput":
            return throughput(workload.amount / cost)
        case "memory":
            return f"{cost:,.0f} B"


def spread(costs: Sequence[float], workload: Workload) -> str:
    """The median, and the least and the greatest value."""
    ends = [figure(min(costs), workload), figure(max(costs), workload)]
    if workload.measure in ("rate", "throughput"):
        ends.reverse()
    return f"{figure(statistics.median(costs), workload)} ({ends[0]} - {ends[1]})"
