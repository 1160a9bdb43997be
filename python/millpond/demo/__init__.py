"""The founding question's two programs, on both pools, with what each run pickled.

The question, asked on Stack Overflow: why is a large list bound by functools.partial so much
slower in Pool.imap than the same list as a default argument?
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import _SubParsersAction

ELEMENTS = 10_000_000
"""The length of the asker's list."""
TASKS = 10
PROCESSES = 2
PROCESSES_MAX = 1024


def whole_number(low: int, high: int | None = None) -> Callable[[str], int]:
    """Return the argparse type of an integer in `low..=high`, which may be written 10_000_000."""
    wanted = f"a whole number of at least {low}" if high is None else f"from {low} to {high}"

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = low - 1
        if number < low or (high is not None and number > high):
            raise argparse.ArgumentTypeError(f"must be {wanted}, not {text!r}")
        return number

    return parse


def add_command(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `demo` and its options."""
    command = commands.add_parser(
        "demo",
        help="the founding question's two programs, on multiprocessing.Pool and on millpond.Pool",
        description=__doc__,
    )
    command.add_argument(
        "--elements",
        type=whole_number(1),
        default=ELEMENTS,
        metavar="N",
        help="length of the list; each costs some 40 bytes in each process (default %(default)s)",
    )
    command.add_argument(
        "--tasks",
        type=whole_number(1),
        default=TASKS,
        metavar="N",
        help="calls of the function in each run (default %(default)s)",
    )
    command.add_argument(
        "--processes",
        type=whole_number(1, PROCESSES_MAX),
        default=PROCESSES,
        metavar="N",
        help="workers of each pool (default %(default)s)",
    )
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry out `demo`; the exit code."""
    from millpond.demo.command import demonstrate

    return demonstrate(arguments.elements, arguments.tasks, arguments.processes)
