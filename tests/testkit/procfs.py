"""What the kernel tells about processes, read without any library of the product."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True)
class Process:
    """One row of /proc."""

    pid: int
    ppid: int
    state: str
    comm: str


def parse_stat(text: str) -> Process:
    """A `stat` line; the name in it may hold blanks and parentheses, so search from its end."""
    head, _, tail = text.rpartition(")")
    pid, _, comm = head.partition(" (")
    fields = tail.split()
    return Process(int(pid), int(fields[1]), fields[0], comm)


def processes() -> list[Process]:
    """Every process there is now, zombies included."""
    found = []
    for entry in os.listdir(PROC):
        if entry.isdigit():
            try:
                found.append(parse_stat((PROC / entry / "stat").read_text()))
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def descendants(root: int) -> list[Process]:
    """Children of `root`, and theirs: forkserver workers are grandchildren."""
    children: dict[int, list[Process]] = {}
    for process in processes():
        children.setdefault(process.ppid, []).append(process)
    found: list[Process] = []
    todo = [root]
    while todo:
        for process in children.get(todo.pop(), []):
            found.append(process)
            todo.append(process.pid)
    return found


def alive(pid: int) -> bool:
    """Whether a process exists and is more than a zombie."""
    try:
        return parse_stat((PROC / str(pid) / "stat").read_text()).state not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def state(pid: int) -> str:
    """The letter of its state: R, S, T and so on."""
    return parse_stat((PROC / str(pid) / "stat").read_text()).state


def cmdline(pid: int) -> str:
    """The command line, or nothing when the process is gone or a zombie."""
    try:
        return (
            (PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        )
    except OSError:
        return ""


def with_environment(mark: str) -> list[int]:
    """Living processes whose initial environment holds `mark`: finds orphans, whoever owns them."""
    found = []
    for process in processes():
        try:
            environ = (PROC / str(process.pid) / "environ").read_bytes()
        except OSError:
            continue
        if mark.encode() in environ and process.pid != os.getpid():
            found.append(process.pid)
    return found
