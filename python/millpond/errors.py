"""Errors that only Millpond raises; each is a subclass of what callers already catch."""

from __future__ import annotations

import signal
from concurrent.futures.process import BrokenProcessPool

__all__ = ["PoolTerminated", "WorkerDied"]


class WorkerDied(BrokenProcessPool):
    """A worker died with a task that it had begun: that task is lost, and nothing else.

    The pool has replaced the worker, and goes on. The standard library loses the task, and waits
    for it for ever (gh-66587).

    Attributes:
        pid: The worker's process id.
        exitcode: As ``multiprocessing.Process.exitcode``: a signal's number, negative, or the exit
            code; None if nobody could tell.
        task: The task in words: the function's name, and which of its tasks it was.
    """

    def __init__(self, pid: int, exitcode: int | None, task: str) -> None:
        super().__init__(f"worker process {pid} {describe_exit(exitcode)} while it ran {task}")
        self.pid = pid
        self.exitcode = exitcode
        self.task = task

    def __reduce__(self) -> tuple[type[WorkerDied], tuple[int, int | None, str]]:
        """Pickle by the three attributes."""
        return type(self), (self.pid, self.exitcode, self.task)


class PoolTerminated(BrokenProcessPool):
    """The pool was terminated while this job was out.

    The standard library leaves who waits for such a job waiting for ever.
    """


def describe_exit(exitcode: int | None) -> str:
    """Say in words how a process ended.

    Args:
        exitcode: As ``multiprocessing.Process.exitcode``.
    """
    if exitcode is None:
        return "ended in an unknown way"
    if exitcode >= 0:
        return f"ended with exit code {exitcode}"
    try:
        name = signal.Signals(-exitcode).name
    except ValueError:
        name = "no known name"
    return f"was killed by signal {-exitcode} ({name})"
