"""The worker processes: start, end, replacement, and what is known of those that are gone."""

from __future__ import annotations

import contextlib
import pickle
import threading
import time
from collections import Counter
from multiprocessing.pool import RemoteTraceback
from typing import TYPE_CHECKING, Any

from millpond.worker import WorkerStart, work

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.context import BaseContext
    from multiprocessing.process import BaseProcess

    from millpond._native import Engine

__all__ = ["START_COUNT_MAX", "Workers"]

#: After how many failed starts in a row the pool gives up.
START_COUNT_MAX = 3

#: For how many ended workers the exit code is remembered, for tasks that died with them.
_ENDED_COUNT_MAX = 1024

#: How long a process that is known to be dead is waited for, in seconds: only the standard library's
#: Popen reaps, and another thread may be about to.
_REAP_TIME_S = 5.0

#: How long a worker may take to end, in seconds, once it was sent SIGTERM.
_END_GRACE_S = 5.0

#: How long the exit code of a reaped process is waited for, in seconds: the thread that has reaped it,
#: such as the keeper at the start of another process, may still wait for the GIL to write it down.
_CODE_TIME_S = 0.1
_CODE_LOOK_TIME_S = 0.0005


class Workers:
    """The processes of a pool.

    Args:
        make_process: As ``Pool.Process``: makes a process of a context.
        ctx: The context.
        work_args: What each worker is given beside its seat, see `millpond.worker.work`.
    """

    def __init__(
        self,
        make_process: Callable[..., BaseProcess],
        ctx: BaseContext,
        work_args: tuple[Any, ...],
    ) -> None:
        # Not before there is a pool: see `Losses`.
        from millpond import errors

        self._errors = errors
        self._make_process = make_process
        self._ctx = ctx
        self._work_args = work_args
        #: The processes that stay, as ``Pool._pool`` shows them.
        self.processes: list[BaseProcess] = []
        #: All processes whose end has not been handled.
        self._by_incarnation: dict[int, BaseProcess] = {}
        #: Those of them that are surplus, and end after their present task.
        self._leaving: set[int] = set()
        self._ended: dict[int, tuple[int, int | None]] = {}
        self._reaping = threading.Lock()
        self._failed_starts = 0
        self._tasks_at_failure = -1
        self.replacements = 0
        #: Workers that were ended by a signal, by its name.
        self.deaths: Counter[str] = Counter()

    @property
    def living(self) -> int:
        """Number of processes whose end has not been handled."""
        return len(self._by_incarnation)

    def staff(self, engine: Engine, wanted: int) -> int:
        """Dismiss workers that are surplus, or recall dismissed ones.

        Returns:
            How many are to be started.
        """
        dismissed, recalled, missing = engine.staff(wanted)
        for incarnation in dismissed:
            self._leaving.add(incarnation)
            self.processes.remove(self._by_incarnation[incarnation])
        for incarnation in recalled:
            self._leaving.discard(incarnation)
            self.processes.append(self._by_incarnation[incarnation])
        return missing

    def start(self, engine: Engine) -> None:
        """Start a process.

        Raises:
            OSError: If the system denies it; nothing of it is left then.
        """
        incarnation, descriptors, numbers = engine.take_seat()
        try:
            process = self._make_process(
                self._ctx,
                target=work,
                args=(WorkerStart(descriptors, numbers), *self._work_args),
            )
            process.name = process.name.replace("Process", "PoolWorker")
            process.daemon = True
            process.start()
        except BaseException:
            engine.unseat(incarnation)
            raise
        popen = getattr(process, "_popen", None)
        if getattr(popen, "method", None) == "forkserver":
            from millpond.forkserver import ask_alone

            ask_alone(popen)
        self._by_incarnation[incarnation] = process
        self.processes.append(process)
        pid = getattr(process, "pid", None)
        if pid is not None:
            try:
                engine.seated(incarnation, pid, process.sentinel)
            except BaseException:
                # Nobody would see its end, and it may have claimed a task already.
                process.kill()
                process.join()
                engine.ended(incarnation)
                raise

    def reap(self, incarnation: int) -> tuple[int, int | None]:
        """Return pid and exit code of a worker that is known to be dead."""
        with self._reaping:
            known = self._ended.get(incarnation)
            if known is not None:
                return known
            process = self._by_incarnation.get(incarnation)
            if process is None:
                return 0, None
            # If the system denies the wait, the exit code is asked for below.
            with contextlib.suppress(OSError):
                process.join(timeout=_REAP_TIME_S)
            known = (process.pid or 0, _exit_code(process, time.monotonic() + _CODE_TIME_S))
            self._ended[incarnation] = known
            while len(self._ended) > _ENDED_COUNT_MAX:
                del self._ended[next(iter(self._ended))]
            return known

    def remove(self, incarnation: int) -> bool:
        """Take a worker that is gone off the list. Return whether it was one of those that stay."""
        _, exitcode = self.reap(incarnation)
        if exitcode is not None and exitcode < 0:
            self.deaths[self._errors.signal_name(-exitcode)] += 1
        process = self._by_incarnation.pop(incarnation, None)
        if incarnation in self._leaving:
            self._leaving.discard(incarnation)
            return False
        if process in self.processes:
            self.processes.remove(process)
        return True

    def start_failed(
        self, incarnation: int, failure: bytes, note_len: int, tasks_completed: int
    ) -> BaseException | None:
        """Count a worker that was gone before it was ready.

        Args:
            incarnation: The worker.
            failure: What its initializer raised, as the worker encoded it; empty if it said nothing.
            note_len: Length in bytes of the traceback's text at the beginning of ``failure``.
            tasks_completed: Tasks that all workers have completed; progress since the last failure
                makes this one the first in a row.

        Returns:
            The error that breaks the pool, after three in a row, else None.
        """
        if tasks_completed != self._tasks_at_failure:
            self._failed_starts = 0
        self._tasks_at_failure = tasks_completed
        self._failed_starts += 1
        if self._failed_starts < START_COUNT_MAX:
            return None
        return self._cause(incarnation, failure, note_len)

    def start_succeeded(self) -> None:
        """Note that a worker was ready: failures before it are not in a row with later ones."""
        self._failed_starts = 0

    def _cause(self, incarnation: int, failure: bytes, note_len: int) -> BaseException:
        if failure:
            note = failure[:note_len].decode("utf-8", "replace")
            try:
                error = pickle.loads(failure[note_len:])
            except Exception as raised:
                raised.__cause__ = RemoteTraceback(note)  # type: ignore[no-untyped-call]
                return raised
            if isinstance(error, BaseException):
                return error
        pid, exitcode = self.reap(incarnation)
        died = self._errors.WorkerDied(pid, exitcode, "its start")
        how = self._errors.describe_exit(exitcode)
        died.args = (
            f"{START_COUNT_MAX} workers in a row could not start; the last, process {pid}, "
            f"{how}. Its own output tells why; with 'spawn' and 'forkserver', "
            "a main module that makes its pool outside of `if __name__ == '__main__':` is the "
            "usual cause.",
        )
        return died

    def terminate(self) -> None:
        """Send SIGTERM to all that live, as ``multiprocessing.Pool.terminate`` does."""
        for process in tuple(self._by_incarnation.values()):
            if process.exitcode is None:
                process.terminate()

    def join_or_kill(self) -> None:
        """Wait for the ends of all that were asked to end, and kill those that do not heed it."""
        give_up_s = time.monotonic() + _END_GRACE_S
        for process in tuple(self._by_incarnation.values()):
            process.join(max(0.0, give_up_s - time.monotonic()))
            if process.exitcode is None:
                process.kill()
        self.join()

    def join(self) -> None:
        """Wait for the ends of all, and for none to read as alive."""
        give_up_s: float | None = None
        for process in tuple(self._by_incarnation.values()):
            process.join()
            if give_up_s is None:
                give_up_s = time.monotonic() + _CODE_TIME_S
            _exit_code(process, give_up_s)

    def release(self) -> None:
        """Let go of the processes, once all have ended: who keeps a result of the pool, or an error
        with its traceback, keeps the pool's core, and should not keep their descriptors.
        """
        self.processes = []
        self._by_incarnation.clear()
        self._leaving.clear()


def _exit_code(process: BaseProcess, give_up_s: float) -> int | None:
    """Return the exit code of a process that has ended; None if a stranger has reaped it."""
    while (code := process.exitcode) is None and time.monotonic() < give_up_s:
        time.sleep(_CODE_LOOK_TIME_S)
    return code
