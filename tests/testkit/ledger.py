"""The ledger: what tasks did, written by the tasks themselves, outside the product.

A pool must not be its own judge. A task appends a line when it begins and one when it ends, with a
single `O_APPEND` write, which the kernel does not mix with another's, and which outlives a SIGKILL
that comes right after it.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

MAX_LINE = 4096
SEPARATOR = "\t"


@dataclass(frozen=True)
class Entry:
    """One line: which task, the how-manieth attempt, in which process, and what happened."""

    task: str
    attempt: int
    pid: int
    event: str


@dataclass(frozen=True)
class Judgement:
    """What ledger and caller together prove; `fair` when nothing is wrong."""

    lost: list[str] = field(default_factory=list)
    """Submitted, and never resolved: a ticket without an end."""
    duplicated: list[str] = field(default_factory=list)
    """Resolved twice, or begun more often than once and the retries."""
    unearned: list[str] = field(default_factory=list)
    """Resolved with a value, though no attempt came to its end."""
    unknown: list[str] = field(default_factory=list)
    """In the ledger or resolved, but never submitted."""

    @property
    def fair(self) -> bool:
        return not (self.lost or self.duplicated or self.unearned or self.unknown)


@dataclass(frozen=True)
class Ledger:
    """A file of entries. It pickles as its path, so it may be an argument of a task."""

    path: str

    @classmethod
    def at(cls, directory: Path, name: str = "ledger") -> Ledger:
        """A fresh, empty ledger in a directory."""
        path = directory / name
        path.touch()
        return cls(str(path))

    def note(self, task: object, event: str, attempt: int = 1) -> None:
        """Append one line, in one write."""
        fields = (str(task), str(attempt), str(os.getpid()), event)
        assert not any(SEPARATOR in text or "\n" in text for text in fields), fields
        line = (SEPARATOR.join(fields) + "\n").encode()
        assert len(line) < MAX_LINE, "a longer line may be torn"
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            assert os.write(fd, line) == len(line)
        finally:
            os.close(fd)

    def begin(self, task: object, attempt: int = 1) -> None:
        self.note(task, "begin", attempt)

    def end(self, task: object, attempt: int = 1) -> None:
        self.note(task, "end", attempt)

    @contextmanager
    def task(self, task: object, attempt: int = 1) -> Iterator[None]:
        """Begin before the body; end after it, unless it raised or its process died."""
        self.begin(task, attempt)
        yield
        self.end(task, attempt)

    def entries(self) -> list[Entry]:
        """All lines so far. A last line without its newline cannot be: writes are whole."""
        found = []
        with open(self.path, encoding="utf-8") as lines:
            for line in lines:
                task, attempt, pid, event = line.rstrip("\n").split(SEPARATOR)
                found.append(Entry(task, int(attempt), int(pid), event))
        return found

    def count(self, event: str, task: object | None = None) -> int:
        """How many entries tell this event (of this task)."""
        return sum(
            entry.event == event and (task is None or entry.task == str(task))
            for entry in self.entries()
        )

    def tasks(self, event: str) -> list[str]:
        """The tasks that had this event, in the order of the file."""
        return [entry.task for entry in self.entries() if entry.event == event]

    def pids(self) -> set[int]:
        """Every process that wrote here."""
        return {entry.pid for entry in self.entries()}

    def judge(
        self,
        submitted: Iterable[object],
        resolved: Iterable[object],
        failed: Iterable[object] = (),
        retries: int = 0,
    ) -> Judgement:
        """Compare what was asked, what was answered (by value or error), and what was done."""
        asked = {str(task) for task in submitted}
        values = Counter(str(task) for task in resolved)
        errors = Counter(str(task) for task in failed)
        answers = values + errors
        begun: Counter[str] = Counter()
        ended: Counter[str] = Counter()
        for entry in self.entries():
            if entry.event == "begin":
                begun[entry.task] += 1
            elif entry.event == "end":
                ended[entry.task] += 1
        return Judgement(
            lost=sorted(asked - answers.keys()),
            duplicated=sorted(
                {task for task, times in answers.items() if times > 1}
                | {task for task, times in begun.items() if times > 1 + retries}
            ),
            unearned=sorted(task for task in values if not ended[task]),
            unknown=sorted((answers.keys() | begun.keys()) - asked),
        )


def wait_until(condition: Callable[[], object], what: str, limit_s: float = 30.0) -> None:
    """Poll a fact outside the product until it holds; give up with the fact's name."""
    give_up = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > give_up:
            raise AssertionError(f"waited {limit_s:g} s in vain for: {what}")
        time.sleep(0.005)


def wait_for_file(path: str | Path, limit_s: float = 30.0) -> None:
    """What a task calls to be held until its test lets it go: deaf to everything but the file."""
    wait_until(lambda: os.path.exists(path), f"file {path}", limit_s)
