"""Errors that only Millpond raises; each is a subclass of what callers already catch."""

from __future__ import annotations

import signal
from concurrent.futures import CancelledError
from concurrent.futures.process import BrokenProcessPool
from typing import Any

__all__ = [
    "BrokenProcessPool",
    "CancelledError",
    "PoolTerminated",
    "TaskTimeout",
    "WorkerDied",
    "WorkerMemoryError",
]


class WorkerDied(BrokenProcessPool):
    """A worker died with a task that it had begun: that task is lost, and nothing else.

    The pool has replaced the worker, and goes on. The standard library loses the task, and waits
    for it for ever (gh-66587).

    Attributes:
        pid: The worker's process id.
        exitcode: As ``multiprocessing.Process.exitcode``: a signal's number, negative, or the exit
            code; None if nobody could tell.
        task: The task in words: the function's name, and which of its tasks it was.
        attempts: How often it was tried: once, unless ``retries=`` allowed more.
    """

    def __init__(self, pid: int, exitcode: int | None, task: str, attempts: int = 1) -> None:
        text = f"worker process {pid} {describe_exit(exitcode)} while it ran {task}"
        super().__init__(text + _tried(attempts))
        self.pid = pid
        self.exitcode = exitcode
        self.task = task
        self.attempts = attempts

    def __reduce__(self) -> tuple[type[WorkerDied], tuple[int, int | None, str, int]]:
        """Pickle by the attributes."""
        return type(self), (self.pid, self.exitcode, self.task, self.attempts)


class TaskTimeout(TimeoutError):
    """A task ran for longer than its ``timeout=`` allows; its worker was stopped, and replaced.

    Attributes:
        pid: The worker's process id.
        timeout: The limit in seconds.
        task: The task in words.
        attempts: How often it was tried.
    """

    def __init__(self, pid: int, timeout: float, task: str, attempts: int = 1) -> None:
        super().__init__(
            f"{task} ran for longer than {timeout:g} s, and worker process {pid} was stopped"
            + _tried(attempts)
        )
        self.pid = pid
        self.timeout = timeout
        self.task = task
        self.attempts = attempts

    def __reduce__(self) -> Any:
        """Pickle by the attributes."""
        return type(self), (self.pid, self.timeout, self.task, self.attempts)


class WorkerMemoryError(MemoryError):
    """A worker held more memory than ``memory_limit=`` allows; it was killed, and replaced.

    Attributes:
        pid: The worker's process id.
        resident: What it had resident when it was seen, in bytes.
        memory_limit: The limit in bytes.
        task: The task that it ran, in words.
        attempts: How often the task was tried.
    """

    def __init__(
        self, pid: int, resident: int, memory_limit: int, task: str, attempts: int = 1
    ) -> None:
        super().__init__(
            f"worker process {pid} had {resident:,} bytes of memory resident, over its limit of "
            f"{memory_limit:,}, while it ran {task}" + _tried(attempts)
        )
        self.pid = pid
        self.resident = resident
        self.memory_limit = memory_limit
        self.task = task
        self.attempts = attempts

    def __reduce__(self) -> Any:
        """Pickle by the attributes."""
        return type(self), (
            self.pid,
            self.resident,
            self.memory_limit,
            self.task,
            self.attempts,
        )


class PoolTerminated(BrokenProcessPool):
    """The pool was terminated while this job was out.

    The standard library leaves who waits for such a job waiting for ever.
    """


def _tried(attempts: int) -> str:
    return "" if attempts == 1 else f" (the last of {attempts} attempts)"


def describe_exit(exitcode: int | None) -> str:
    """Say in words how a process ended.

    Args:
        exitcode: As ``multiprocessing.Process.exitcode``.
    """
    if exitcode is None:
        return "ended in an unknown way"
    if exitcode >= 0:
        return f"ended with exit code {exitcode}"
    return f"was killed by signal {-exitcode} ({signal_name(-exitcode)})"


def signal_name(number: int) -> str:
    """Return a signal's name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return "no known name"
