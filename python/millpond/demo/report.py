"""What the demo prints after its runs: a table, and the answer to the asker's "why"."""

from __future__ import annotations

from collections.abc import Sequence

from millpond.demo.pools import MILLPOND, STDLIB
from millpond.demo.programs import DEFAULT, PARTIAL, Program
from millpond.demo.run import Run

HEADER = (
    "program",
    "pool",
    "start",
    "time [s]",
    "bytes pickled",
    "list pickled",
    "list unpickled",
    "list verified",
)
TEXT_COLUMNS = 3
"""So many of the columns are text, and stand to the left; the others are numbers."""


def row(run: Run) -> tuple[str, ...]:
    """The cells of one run."""
    counts = run.counts
    return (
        run.program.title,
        run.pool,
        run.start_method,
        f"{run.elapsed_s:.3f}",
        f"{counts.bytes_pickled:,}",
        f"{counts.list_pickled:,}",
        f"{counts.list_unpickled:,}",
        "-" if counts.list_verified is None else f"{counts.list_verified:,}",
    )


def table(runs: Sequence[Run]) -> str:
    """All runs, a line each, below a header and a rule."""
    rows = [HEADER, *map(row, runs)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if column < TEXT_COLUMNS else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        for cells in rows
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def times(count: int) -> str:
    """`once`, or how many times."""
    return "once" if count == 1 else f"{count:,} times"


def find(runs: Sequence[Run], program: Program, pool: str) -> Run:
    """The first run of the program on the pool."""
    return next(run for run in runs if run.program is program and run.pool == pool)


def answer(runs: Sequence[Run]) -> str:
    """One sentence: why the partial is slow, with the numbers of these runs."""
    default = find(runs, DEFAULT, STDLIB)
    stdlib, millpond = find(runs, PARTIAL, STDLIB), find(runs, PARTIAL, MILLPOND)
    why = (
        "Why: a function is pickled by name, so its default argument never travels "
        f"(list pickled {times(default.counts.list_pickled)}, {default.elapsed_s:.3f} s), but a "
        "partial has no name and is pickled by value for every task: multiprocessing.Pool pickled "
        f"the list {times(stdlib.counts.list_pickled)} ({stdlib.counts.bytes_pickled:,} bytes) and "
        f"unpickled it {times(stdlib.counts.list_unpickled)}, which took {stdlib.elapsed_s:.3f} s "
        f"under {stdlib.start_method}; "
    )
    counts = millpond.counts
    took = f"took {millpond.elapsed_s:.3f} s"
    if counts.list_pickled == 0:
        return why + (
            "for millpond.Pool the list is light at this size, so nothing heavy was stored (its "
            f"counts are 0), tasks were pickled whole ({counts.bytes_pickled:,} bytes), and it "
            f"{took}."
        )
    return why + (
        f"millpond.Pool pickled it {times(counts.list_pickled)} ({counts.bytes_pickled:,} bytes), "
        f"proved it unchanged {times(counts.list_verified or 0)} in place of pickling it again, "
        f"unpickled it {times(counts.list_unpickled)} and {took}, "
        f"{stdlib.elapsed_s / millpond.elapsed_s:.1f} times as fast."
    )
