"""One run: a program on a pool, timed as the asker timed it, and counted."""

from __future__ import annotations

import multiprocessing
import multiprocessing.pool
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import BaseContext
from typing import Any

from millpond.demo.counting import Counts, StdlibCounter, counts_of, difference
from millpond.demo.pools import MILLPOND, STDLIB, pool_class, running, warm_up
from millpond.demo.programs import Program


@dataclass(frozen=True)
class Sizes:
    """What the command line sets."""

    elements: int
    tasks: int
    processes: int


@dataclass(frozen=True)
class Run:
    """What a run was, and what came of it."""

    program: Program
    pool: str
    start_method: str
    elapsed_s: float
    counts: Counts


def loop(
    pool: multiprocessing.pool.Pool, function: Callable[[int], int], tasks: int, quiet: bool
) -> float:
    """The asker's loop, with the asker's line for each result; its time in seconds."""
    got = []
    start_time = time.perf_counter()
    for x in pool.imap(function, range(tasks)):
        if not quiet:
            print(f"parent process, x={x}, elapsed={time.perf_counter() - start_time:.3f}")
        got.append(x)
    elapsed_s = time.perf_counter() - start_time
    if got != list(range(tasks)):
        raise RuntimeError(f"wrong results: {got}")
    return elapsed_s


def warmed(pool: multiprocessing.pool.Pool, program: Program, sizes: Sizes) -> Callable[[int], int]:
    """Make every worker ready, then return the program's function."""
    warm_up(pool, sizes.processes, program.module)
    return program.function(sizes.elements)


def run_millpond(program: Program, context: BaseContext, sizes: Sizes) -> tuple[float, Counts]:
    """Time and counts of one and the same pass."""
    with running(lambda: pool_class(MILLPOND)(sizes.processes, context=context)) as pool:
        function = warmed(pool, program, sizes)
        before = counts_of(pool)
        elapsed_s = loop(pool, function, sizes.tasks, quiet=False)
        return elapsed_s, difference(counts_of(pool), before)


def run_stdlib(program: Program, context: BaseContext, sizes: Sizes) -> tuple[float, Counts]:
    """The time of an untouched pass, then the counts of a pass that is not timed."""

    def make(**options: Any) -> multiprocessing.pool.Pool:
        return pool_class(STDLIB)(sizes.processes, context=context, **options)

    with running(make) as pool:
        elapsed_s = loop(pool, warmed(pool, program, sizes), sizes.tasks, quiet=False)
    counter = StdlibCounter(context, sizes.elements)
    with running(lambda: make(**counter.pool_options)) as pool:
        function = warmed(pool, program, sizes)
        with counter.pickling():
            loop(pool, function, sizes.tasks, quiet=True)
        return elapsed_s, counter.counts()


RUNNERS = {STDLIB: run_stdlib, MILLPOND: run_millpond}


def run(program: Program, pool: str, start_method: str, sizes: Sizes) -> Run:
    """One of the eight."""
    if program.before_pool:
        program.function(sizes.elements)
    context = multiprocessing.get_context(start_method)
    elapsed_s, counts = RUNNERS[pool](program, context, sizes)
    return Run(program, pool, start_method, elapsed_s, counts)
