"""The census: what this process holds of the machine, before and after a test.

Equality, not tolerance: one descriptor a pool is a thousand in a day. What ends asynchronously has
five seconds to do so. The forkserver and the resource tracker are the standard library's, which
keeps them for the life of the interpreter, so they are left out; the forkserver's children are not.
"""

from __future__ import annotations

import gc
import os
import time
from collections import Counter
from dataclasses import dataclass, fields
from multiprocessing import forkserver, resource_tracker

from testkit import procfs

GRACE_S = 5.0
SHM = "/dev/shm"
MEMFD = "memfd:millpond"
OURS = ("millpond", "psm_", "pym-")

ignored_pids: set[int] = set()
"""Processes of the test machinery itself: the watchdog adds its own."""


def stdlib_pids() -> set[int]:
    """The helpers that multiprocessing starts once and keeps."""
    servers = (
        getattr(forkserver._forkserver, "_forkserver_pid", None),
        getattr(resource_tracker._resource_tracker, "_pid", None),
    )
    return {pid for pid in servers if pid is not None}


def stdlib_fds() -> set[int]:
    """The ends of the pipes that keep those helpers alive."""
    ends = (
        getattr(forkserver._forkserver, "_forkserver_alive_fd", None),
        getattr(resource_tracker._resource_tracker, "_fd", None),
    )
    return {fd for fd in ends if fd is not None}


def open_files(pid: int | None = None) -> Counter[str]:
    """Descriptors by what they point to; inode numbers tell one pipe from another."""
    kept = set() if pid else stdlib_fds()
    at = f"/proc/{pid or 'self'}/fd"
    found: Counter[str] = Counter()
    for name in os.listdir(at):
        if int(name) not in kept:
            try:
                found[os.readlink(f"{at}/{name}")] += 1
            except FileNotFoundError:
                continue  # the descriptor that listed the directory
    return found


def threads(pid: int | None = None) -> Counter[str]:
    """All threads of the process by name, Rust's and C's included."""
    at = f"/proc/{pid or 'self'}/task"
    found: Counter[str] = Counter()
    for tid in os.listdir(at):
        try:
            with open(f"{at}/{tid}/comm", encoding="utf-8", errors="replace") as comm:
                found[comm.read().strip()] += 1
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def children(pid: int | None = None) -> Counter[str]:
    """Descendants, zombies included: a child that nobody reaped is a leak too."""
    spared = stdlib_pids() | ignored_pids
    return Counter(
        f"{process.comm} ({process.pid}, state {process.state}, parent {process.ppid})"
        for process in procfs.descendants(pid or os.getpid())
        if process.pid not in spared
    )


def mappings(pid: int | None = None) -> Counter[str]:
    """Bytes mapped of the pool's memory, by inode: neighbours may merge, bytes may not."""
    found: Counter[str] = Counter()
    with open(f"/proc/{pid or 'self'}/maps", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if MEMFD in line:
                span, _, _, _, inode, *_ = line.split()
                start, end = (int(bound, 16) for bound in span.split("-"))
                found[f"{MEMFD} inode {inode}"] += end - start
    return found


def shared_names() -> Counter[str]:
    """Names in /dev/shm that Millpond or `multiprocessing.shared_memory` could have made: the folder
    is the whole machine's. Millpond makes none."""
    names = os.listdir(SHM) if os.path.isdir(SHM) else []
    return Counter(name for name in names if name.startswith(OURS))


@dataclass(frozen=True)
class Census:
    """All that counts, at one moment."""

    fds: Counter[str]
    threads: Counter[str]
    children: Counter[str]
    mappings: Counter[str]
    shm: Counter[str]

    @classmethod
    def take(cls, pid: int | None = None) -> Census:
        """Count what this process holds, or another, of which nothing is left out."""
        return cls(open_files(pid), threads(pid), children(pid), mappings(pid), shared_names())

    def changes(self, after: Census) -> list[str]:
        """What was added or lost since, one line each; empty when nothing was."""
        lines = []
        for part in fields(self):
            old: Counter[str] = getattr(self, part.name)
            new: Counter[str] = getattr(after, part.name)
            if part.name == "threads" and old.total() == new.total():
                continue  # a thread may rename itself
            lines += [f"{part.name}: +{n} {what}" for what, n in sorted((new - old).items())]
            lines += [f"{part.name}: -{n} {what}" for what, n in sorted((old - new).items())]
        return lines

    def settle(self, grace_s: float = GRACE_S) -> list[str]:
        """The changes that remain after everything had time to end."""
        give_up = time.monotonic() + grace_s
        while True:
            gc.collect()
            changes = self.changes(Census.take())
            if not changes:
                return []
            if time.monotonic() > give_up:
                return [line for line in changes if not _is_foreign(line)]
            time.sleep(0.02)


def _is_foreign(change: str) -> bool:
    """Whether a new name in /dev/shm is another program's on this machine: it maps it, we do not.

    A name that vanished was not ours to keep: every test leaves /dev/shm as the machine has it.
    """
    kind, sign, name = change.partition(": ")[0], *change.partition(": ")[2].split(" ", 1)
    if kind != "shm":
        return False
    if sign.startswith("-"):
        return True
    ours = {os.getpid(), *(process.pid for process in procfs.descendants(os.getpid()))}
    for process in procfs.processes():
        if process.pid not in ours:
            try:
                with open(f"/proc/{process.pid}/maps", encoding="utf-8", errors="replace") as maps:
                    if f"{SHM}/{name}" in maps.read():
                        return True
            except OSError:
                continue
    return False
