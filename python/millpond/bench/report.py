"""The measurements as Markdown tables and as a JSON document."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from millpond.bench.figures import figure, spread
from millpond.bench.goal import Samples
from millpond.bench.peers import CAVEATS
from millpond.bench.workload import PROCESSES, START_METHOD, Workload
from millpond.demo.pools import MILLPOND, STDLIB

HEADER = (
    "workload",
    "multiprocessing.Pool: median (min - max)",
    "millpond.Pool: median (min - max)",
    "peers: median (min - max)",
    "time ratio",
    "goal",
    "met",
)
VERDICTS = {True: "met", False: "missed", None: "-"}


@dataclass(frozen=True)
class Result:
    """What came of one workload: costs by size and pool, or why there are none."""

    workload: type[Workload]
    costs: Mapping[int, Samples] = field(default_factory=dict)
    left_out: Sequence[str] = ()
    failure: str | None = None
    took_s: float = 0.0

    def ratio(self, size: int) -> float | None:
        """Millpond's median cost in units of the standard library's; None where that is unknown."""
        samples = self.costs[size]
        if not samples.get(STDLIB) or statistics.median(samples[STDLIB]) <= 0:
            return None
        return statistics.median(samples[MILLPOND]) / statistics.median(samples[STDLIB])

    @property
    def growth(self) -> float | None:
        """How much more the worst size of a series costs, where the goal is about that."""
        goal = self.workload.goal
        if goal is None or goal.growth_max is None or len(self.costs) < 2:
            return None
        return goal.grows(list(self.costs.values()))

    @property
    def met(self) -> bool | None:
        """Whether the goal was reached; None where there is none, or where nothing tells."""
        goal = self.workload.goal
        if goal is None:
            return None
        if self.failure:
            return False
        verdicts = [
            goal.met(samples, self.workload(size).amount, size in self.workload.sizes)
            for size, samples in self.costs.items()
        ]
        if self.growth is not None and goal.growth_max is not None:
            verdicts.append(self.growth <= goal.growth_max)
        known = [verdict for verdict in verdicts if verdict is not None]
        return all(known) if known else None


def row(result: Result) -> tuple[str, ...]:
    """The cells of a workload of one size."""
    kind = result.workload
    goal = kind.goal.text if kind.goal else "-"
    if result.failure:
        title = f"`{kind.name}`"
        return title, "-", f"FAILED: {result.failure}", "-", "-", goal, VERDICTS[result.met]
    ((size, samples),) = result.costs.items()
    workload = kind(size)
    ratio = result.ratio(size)
    return (
        f"{workload.heading()} (`{kind.name}`)",
        spread(samples[STDLIB], workload),
        spread(samples[MILLPOND], workload),
        ", ".join(f"{name} {spread(samples[name], workload)}" for name in peers_of(samples)) or "-",
        f"{ratio:.3f}" if ratio is not None else "-",
        goal,
        VERDICTS[result.met],
    )


def peers_of(samples: Samples) -> list[str]:
    """The other pools that were measured."""
    return [name for name in samples if name not in (STDLIB, MILLPOND) and samples[name]]


def grid(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table that is neat as plain text, too; the first row is its header."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["| " + " | ".join(map(str.ljust, cells, widths)) + " |" for cells in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def series(result: Result) -> str:
    """A workload of several sizes: a line for each."""
    kind = result.workload
    title = f"{kind.title} (`{kind.name}`)"
    if result.failure:
        return f"{title}: FAILED: {result.failure}"
    names = list(dict.fromkeys(name for samples in result.costs.values() for name in samples))
    rows = [[kind.size_means, *names]]
    for size, samples in result.costs.items():
        found = [spread(samples[n], kind(size)) if samples.get(n) else "-" for n in names]
        rows.append([f"{size:,}", *found])
    text = f"{title}:\n\n{grid(rows)}"
    if kind.goal is not None and result.growth is not None:
        text += f"\n\nGoal: {kind.goal.text}; found {result.growth:.2f} x: {VERDICTS[result.met]}."
    return text


def wins(result: Result) -> list[str]:
    """A sentence for each pool that has a better median than Millpond's."""
    lines = []
    for size, samples in result.costs.items():
        workload = result.workload(size)
        ours = statistics.median(samples[MILLPOND])
        at = f" at {size:,}" if result.workload.is_series() else ""
        for name in samples:
            if samples[name] and (theirs := statistics.median(samples[name])) < ours:
                lines.append(
                    f"- `{workload.name}`{at}: {name} wins, {figure(theirs, workload)} against "
                    f"{figure(ours, workload)}"
                )
    return lines


def report(results: Sequence[Result]) -> str:
    """All tables, then what was lost and what was left out."""
    lines = [result for result in results if not result.workload.is_series()]
    parts = [grid([HEADER, *map(row, lines)])] if lines else []
    parts += [series(result) for result in results if result.workload.is_series()]
    won = [line for result in results for line in wins(result)]
    won += [
        f"- {name} {what}." for name, what in CAVEATS.items() if f": {name} wins" in "".join(won)
    ]
    parts.append("\n".join(["Where another pool wins:", "", *(won or ["- nowhere in this run"])]))
    left_out = [f"- {line}" for result in results for line in result.left_out]
    if left_out:
        parts.append("\n".join(["Not measured:", "", *left_out]))
    return "\n\n".join(parts)


def heading(facts: Mapping[str, str], quick: bool) -> str:
    """What was measured on, and how."""
    lines = [f"- {name}: {fact}" for name, fact in facts.items()]
    lines += [
        f"- method: {PROCESSES} workers and {START_METHOD} where nothing else is said; all pools in "
        "turn, A B A B; each workload in an interpreter of its own, with modules that are compiled "
        "once a run; a pool's start and first tasks "
        "are timed only where they are the workload; all results are checked; of tiny tasks peers do a "
        "twentieth, of queued calls a tenth, and what is shown is reckoned from that part",
        "- time ratio: median cost of millpond.Pool / median cost of multiprocessing.Pool; "
        "less is better",
    ]
    if quick:
        lines.append(
            "- quick: smaller sizes, 3 repeats in place of 5, peers once, ray left out; goals in "
            "seconds or bytes are judged where the size is the full one"
        )
    return "\n".join([*lines, ""])


def document(
    facts: Mapping[str, str], results: Sequence[Result], quick: bool, took_s: float
) -> dict[str, Any]:
    """Everything that was measured: seconds, or bytes where the measure is memory."""
    return {
        "machine": dict(facts),
        "processes": PROCESSES,
        "start_method": START_METHOD,
        "quick": quick,
        "took_s": took_s,
        "workloads": [
            {
                "name": result.workload.name,
                "title": result.workload.title,
                "measure": result.workload.measure,
                "sizes": [
                    {
                        "size": size,
                        "amount": result.workload(size).amount,
                        "costs": {name: list(costs) for name, costs in samples.items()},
                        "ratio": result.ratio(size),
                    }
                    for size, samples in result.costs.items()
                ],
                "goal": result.workload.goal.text if result.workload.goal else None,
                "growth": result.growth,
                "met": result.met,
                "left_out": list(result.left_out),
                "failure": result.failure,
                "took_s": result.took_s,
            }
            for result in results
        ],
    }
