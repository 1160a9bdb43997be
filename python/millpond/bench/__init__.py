"""Workloads on multiprocessing.Pool and on millpond.Pool in turn, side by side in one run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import _SubParsersAction

NAMES = (
    "list10m",
    "tiny-imap",
    "apply",
    "tiny-map",
    "start",
    "default",
    "list1m-apply",
    "dict1m",
    "array100m",
    "arguments8m",
    "results8m",
)
"""The workloads in the order of the table; `millpond.bench.workloads` holds what they do."""


def output_file(text: str) -> Path:
    """The argparse type of a file that can be written when all is done: tell now if it cannot."""
    path = Path(text)
    if path.is_dir() or not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"cannot be written: {text!r} is not a file in a folder")
    return path


def add_command(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `bench` and its options."""
    command = commands.add_parser(
        "bench",
        help="time workloads on multiprocessing.Pool and on millpond.Pool, side by side",
        description=__doc__,
    )
    command.add_argument("--quick", action="store_true", help="3 repeats in place of 5")
    command.add_argument(
        "--peers",
        action="store_true",
        help="run the workloads with much data on mpire, joblib and ray too, if they are installed",
    )
    command.add_argument(
        "--curve",
        action="store_true",
        help="print instead what a task costs by the size of what is bound, from 10^3 to 10^7",
    )
    command.add_argument(
        "--json", type=output_file, metavar="FILE", help="write all measurements to FILE"
    )
    command.add_argument(
        "--only",
        choices=NAMES,
        action="append",
        metavar="NAME",
        help=f"run this workload alone (may be given again): {', '.join(NAMES)}",
    )
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Carry out `bench`; the exit code."""
    from millpond.bench.command import measure
    from millpond.bench.curve import draw

    if arguments.curve:
        return draw()

    chosen = [name for name in NAMES if arguments.only is None or name in arguments.only]
    return measure(chosen, arguments.quick, arguments.json, arguments.peers)
