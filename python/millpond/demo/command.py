"""The demo from its first line to its last."""

from __future__ import annotations

from millpond.demo.pools import MILLPOND, STDLIB
from millpond.demo.programs import PROGRAMS
from millpond.demo.report import answer, table
from millpond.demo.run import Run, Sizes, run

START_METHODS = ("fork", "spawn")

NOTE = """\
elapsed: seconds, with three decimals, since just before imap was called. The pool has started and
each worker has imported the program and done a task by then; the list is made before, too."""

LEGEND = """\
time: of the imap loop, its printed lines included. bytes pickled: all that the parent pickled in
the loop. list pickled (in the parent), unpickled (in all workers): how often, counted for
multiprocessing.Pool in a second, untimed pass with the pickler's dumps and loads wrapped, for
millpond.Pool by pool.stats(). verified: proved unchanged by the parent, so not pickled again."""


def demonstrate(elements: int, tasks: int, processes: int) -> int:
    """Do the eight runs and print them; the exit code."""
    sizes = Sizes(elements, tasks, processes)
    print(f"A list of {elements:,} integers, {tasks:,} tasks, {processes:,} workers.")
    print(NOTE)
    runs: list[Run] = []
    for start_method in START_METHODS:
        for number, program in enumerate(PROGRAMS, 1):
            for pool in (STDLIB, MILLPOND):
                print(f"\nprogram {number} ({program.title}), {pool}, {start_method}", flush=True)
                runs.append(run(program, pool, start_method, sizes))
    print(f"\n{table(runs)}\n\n{LEGEND}\n\n{answer(runs)}", flush=True)
    return 0
