"""What a task costs by the size of what is bound: a job of tasks, after one that has sent it."""

from __future__ import annotations

import functools
import multiprocessing
import statistics
import sys
import time
from typing import Any

from millpond.bench.functions import entry, look_up
from millpond.bench.workload import PROCESSES, START_METHOD
from millpond.demo.pools import MILLPOND, STDLIB, pool_class, running, warm_up

SIZES = tuple(10**power for power in range(3, 8))
JOB_TASKS = 20
JOBS = 5
STDLIB_LIMIT_S = 20.0
"""A job of the standard library's that takes longer is done once."""


def bound(kind: str, size: int) -> Any:
    """A callable with a list or dict of this size bound."""
    if kind == "list":
        return functools.partial(look_up, dummy=list(range(size)))
    return functools.partial(entry, table={str(number): number for number in range(size)})


def task_s(name: str, function: Any) -> float:
    """The median time of a task, in seconds."""
    context = multiprocessing.get_context(START_METHOD)
    with running(lambda: pool_class(name)(PROCESSES, context=context)) as pool:
        warm_up(pool, PROCESSES, "millpond.bench.functions")
        times_s: list[float] = []
        if name == MILLPOND:
            list(pool.imap(function, range(JOB_TASKS)))
        while len(times_s) < JOBS and sum(times_s) < STDLIB_LIMIT_S:
            start_s = time.perf_counter()
            list(pool.imap(function, range(JOB_TASKS)))
            times_s.append(time.perf_counter() - start_s)
    return statistics.median(times_s) / JOB_TASKS


def draw() -> int:
    """Print the table; the exit code."""
    print("| bound | size | multiprocessing.Pool, us a task | millpond.Pool, us a task |")
    print("|---|---|---|---|")
    for kind in ("list", "dict"):
        for size in SIZES:
            if kind == "dict" and size == SIZES[-1]:
                continue  # it takes the standard library minutes, and gigabytes
            print(f"{kind} of {size:,}", file=sys.stderr, flush=True)
            function = bound(kind, size)
            found = [f"{task_s(name, function) * 1e6:,.0f}" for name in (STDLIB, MILLPOND)]
            print(f"| {kind} | {size:,} | {' | '.join(found)} |", flush=True)
    return 0
