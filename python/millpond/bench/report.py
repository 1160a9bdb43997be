"""The measurements as a Markdown table and as a JSON document."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from millpond.bench.workload import PROCESSES, START_METHOD, Workload, ratio

HEADER = (
    "workload",
    "multiprocessing.Pool: median (min - max)",
    "millpond.Pool: median (min - max)",
    "peers: median",
    "time ratio",
    "goal",
    "met",
)


@dataclass(frozen=True)
class Result:
    """What came of one workload: a time in seconds for each repeat, or why there is none."""

    workload: type[Workload]
    stdlib_s: list[float] = field(default_factory=list)
    millpond_s: list[float] = field(default_factory=list)
    peers_s: dict[str, list[float]] = field(default_factory=dict)
    failure: str | None = None

    @property
    def ratio(self) -> float | None:
        """Millpond's time in units of the standard library's; None after a failure."""
        return None if self.failure else ratio(self.stdlib_s, self.millpond_s)

    @property
    def met(self) -> bool | None:
        """Whether the goal was reached; None where there is none."""
        if self.workload.goal is None:
            return None
        least = self.workload.goal.bytes_per_s_min
        if least is not None and self.workload.bytes_of is not None and not self.failure:
            return self.workload.bytes_of / statistics.median(self.millpond_s) >= least
        return self.ratio is not None and self.ratio <= self.workload.goal.ratio_max


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


def middle(times_s: Sequence[float], workload: type[Workload]) -> str:
    """The median, as a time, as a rate or as a throughput."""
    median_s = statistics.median(times_s)
    if workload.bytes_of is not None:
        return throughput(workload.bytes_of / median_s)
    return duration(median_s) if workload.rate_of is None else rate(workload.rate_of / median_s)


def spread(times_s: Sequence[float], workload: type[Workload]) -> str:
    """The median, and the least and the greatest value, as times or as rates."""
    low, high = middle([min(times_s)], workload), middle([max(times_s)], workload)
    if workload.rate_of is not None or workload.bytes_of is not None:
        low, high = high, low
    return f"{middle(times_s, workload)} ({low} - {high})"


def row(result: Result) -> tuple[str, ...]:
    """The cells of one workload."""
    workload = result.workload
    title = f"{workload.title} (`{workload.name}`)"
    goal = workload.goal.text if workload.goal else "-"
    met = {True: "met", False: "missed", None: "-"}[result.met]
    if result.ratio is None:
        return title, "-", f"FAILED: {result.failure}", "-", "-", goal, met
    return (
        title,
        spread(result.stdlib_s, workload),
        spread(result.millpond_s, workload),
        ", ".join(f"{name} {middle(s, workload)}" for name, s in result.peers_s.items()) or "-",
        f"{result.ratio:.3f}",
        goal,
        met,
    )


def heading(facts: Mapping[str, str]) -> str:
    """What was measured on, and how."""
    lines = [f"- {name}: {fact}" for name, fact in facts.items()]
    lines += [
        f"- method: {PROCESSES} workers, {START_METHOD}; both pools in turn, A B A B; each "
        "workload in an interpreter of its own; a pool's start and first tasks are timed only "
        "where they are the workload; all results are checked",
        "- time ratio: median time of millpond.Pool / median time of multiprocessing.Pool; "
        "less is better",
        "",
    ]
    return "\n".join(lines)


def table(results: Sequence[Result]) -> str:
    """All workloads as a Markdown table that is neat as plain text, too."""
    rows = [HEADER, *map(row, results)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["| " + " | ".join(map(str.ljust, cells, widths)) + " |" for cells in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def document(facts: Mapping[str, str], results: Sequence[Result], quick: bool) -> dict[str, Any]:
    """Everything that was measured; times in seconds."""
    return {
        "machine": dict(facts),
        "processes": PROCESSES,
        "start_method": START_METHOD,
        "quick": quick,
        "workloads": [
            {
                "name": result.workload.name,
                "title": result.workload.title,
                "stdlib_s": result.stdlib_s,
                "millpond_s": result.millpond_s,
                "peers_s": result.peers_s,
                "ratio": result.ratio,
                "goal": result.workload.goal.text if result.workload.goal else None,
                "ratio_max": result.workload.goal.ratio_max if result.workload.goal else None,
                "met": result.met,
                "failure": result.failure,
            }
            for result in results
        ],
    }
