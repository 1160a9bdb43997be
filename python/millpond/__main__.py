"""The command line: `python -m millpond demo` and `python -m millpond bench`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from millpond import bench, demo


class Parser(argparse.ArgumentParser):
    """Says in one sentence what is wrong, and exits with 1, without the usage lines."""

    def error(self, message: str) -> NoReturn:
        self.exit(1, f"{self.prog}: {message}; see {self.prog} --help\n")


def parser() -> Parser:
    """The options of both commands; what carries them out is imported when one is chosen."""
    top = Parser(
        prog="millpond",
        description="A process pool that sends every callable and every large argument once.",
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND", dest="command")
    for command in (demo, bench):
        command.add_command(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code: 0, or 1 where something was wrong."""
    arguments = parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        return run(arguments)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
