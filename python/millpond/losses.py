"""The errors of tasks that did not come to an end of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from millpond.results import Result
    from millpond.workers import Workers

__all__ = ["Losses"]


class Losses:
    """Makes these errors, from what the engine tells and what the processes have left.

    Args:
        workers: The processes.
        memory_limit: The most bytes that a worker may have resident while it runs a task, or None.
    """

    def __init__(self, workers: Workers, memory_limit: int | None) -> None:
        # Not before there is a pool: the standard library's executors, from whose errors these are
        # derived, take a sixth of the import of millpond, and no spawned worker needs them.
        from millpond import errors

        self._errors = errors
        self._workers = workers
        self._memory_limit = memory_limit or 0

    def cancelled(self) -> BaseException:
        """Make the error of what was cancelled."""
        return self._errors.CancelledError()

    def terminated(self) -> BaseException:
        """Make the error of jobs that were out when their pool was terminated."""
        return self._errors.PoolTerminated("the pool was terminated while this job was out")

    def damaged(self) -> BaseException:
        """Make the error of jobs that were out when the shared memory was found damaged."""
        return self._errors.BrokenProcessPool(
            "the pool's shared memory is damaged: a task has written over it, such as by a stray "
            "pointer of native code. Its workers are stopped; make a new pool"
        )

    def describe(
        self,
        incarnation: int,
        result: Result | None,
        index: int,
        attempts: int,
        reason: str,
        resident: int,
    ) -> BaseException:
        """Make the error of a task.

        Args:
            incarnation: The worker that had begun it; 0 for none.
            result: The task's job, unless that is done and gone.
            index: Which of the job's tasks it is.
            attempts: How often it was tried.
            reason: ``died``, ``deadline``, ``memory`` or ``cancelled``.
            resident: What the worker had resident, in bytes, if that was the reason.
        """
        if reason == "cancelled":
            return self.cancelled()
        pid, exitcode = self._workers.reap(incarnation)
        task = "a task" if result is None else result._describe(index)
        if reason == "deadline":
            timeout = 0.0 if result is None else result._timeout_of(index)
            return self._errors.TaskTimeout(pid, timeout, task, attempts)
        if reason == "memory":
            return self._errors.WorkerMemoryError(pid, resident, self._memory_limit, task, attempts)
        return self._errors.WorkerDied(pid, exitcode, task, attempts)
