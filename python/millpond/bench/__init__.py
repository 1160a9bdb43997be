"""Workloads on multiprocessing.Pool and on millpond.Pool in turn, side by side in one run."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import _SubParsersAction

NAMES = (
    "list10m",
    "tiny-imap",
    "tiny-tuples",
    "apply",
    "tiny-map",
    "start",
    "start-spawn",
    "start-forkserver",
    "import",
    "default",
    "list1m-apply",
    "dict1m",
    "array100m",
    "arguments8m",
    "results8m",
    "mixed",
    "idle",
    "queued-calls",
    "queued-map",
    "workers",
    "in-flight",
    "callables",
    "callables-light",
    "bound-list",
    "bound-dict",
)
"""The workloads in the order of the report; `millpond.bench.workloads` holds what they do."""
CURVES = ("bound-list", "bound-dict")


def output_file(text: str) -> Path:
    """The argparse type of a file that can be written when all is done: tell now if it cannot."""
    path = Path(text)
    if path.is_dir() or not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"cannot be written: {text!r} is not a file in a folder")
    return path


def plot_folder(text: str) -> Path:
    """The argparse type of a folder for plots; tell now if they cannot be made."""
    path = Path(text)
    if path.exists() and not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is not a folder")
    if importlib.util.find_spec("matplotlib") is None:
        raise argparse.ArgumentTypeError("plots need matplotlib, which is not installed")
    return path


def add_command(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `bench` and its options."""
    command = commands.add_parser(
        "bench",
        help="time workloads on multiprocessing.Pool and on millpond.Pool, side by side",
        description=__doc__,
    )
    command.add_argument(
        "--quick", action="store_true", help="smaller sizes, and 3 repeats in place of 5"
    )
    command.add_argument(
        "--peers",
        action="store_true",
        help="measure concurrent.futures, loky, mpire, joblib and ray too, where they are installed",
    )
    command.add_argument(
        "--curve",
        action="store_true",
        help=f"what a task costs by the size of what is bound: the same as --only {CURVES[0]} "
        f"--only {CURVES[1]}",
    )
    command.add_argument(
        "--json", type=output_file, metavar="FILE", help="write all measurements to FILE"
    )
    command.add_argument(
        "--plots", type=plot_folder, metavar="FOLDER", help="draw the plots as SVG into FOLDER"
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
    from millpond.bench.command import Choice, measure

    wanted = [*(arguments.only or ()), *(CURVES if arguments.curve else ())]
    names = [name for name in NAMES if not wanted or name in wanted]
    return measure(Choice(names, arguments.quick, arguments.peers, arguments.json, arguments.plots))
