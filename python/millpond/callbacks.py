"""The thread that calls callbacks: one at a time, in the order of completion.

Results are delivered in order, so those that complete while a callback waits or runs are put behind
it and delivered from here; that is what the standard library's one result thread comes to.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from millpond.core import Core
    from millpond.results import Result

__all__ = ["Callbacks"]


class Callbacks:
    """The queue of due callbacks, and its thread, which starts with the first job that has one.

    Args:
        core: The pool's core.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._due: deque[Result] = deque()
        self._arrived = threading.Semaphore(0)
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._current: Result | None = None
        self._ends = False
        self._ended = threading.Event()

    def start(self) -> None:
        """Start the thread, unless it runs: before a job is there whose callback would need it.

        Raises:
            RuntimeError: If the system denies it. Once a callback is due, nobody could be told.
        """
        with self._starting:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="millpond-callbacks", daemon=True)
                thread.start()
                self._thread = thread

    def put(self, result: Result) -> None:
        """Queue a result whose callback is due. A result that is queued already stays once."""
        if result is self._current or result in self._due:
            return
        self._due.append(result)
        self._arrived.release()

    def is_current_thread(self) -> bool:
        """Tell whether the caller is a callback."""
        return self._thread is threading.current_thread()

    def deliver(self) -> None:
        """From a callback that waits for the pool: deliver what would wait behind it.

        In the standard library such a callback waits for ever.
        """
        outer, self._current = self._current, None
        self._drain()
        self._current = outer

    def end(self) -> None:
        """End the thread once nothing is due."""
        self._ends = True
        self._arrived.release()

    def join(self, timeout_s: float | None = None) -> None:
        """Wait for the thread's end, unless this is it; ``timeout_s`` seconds at most."""
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return
        # Before CPython 3.13 a thread whose join was interrupted counts as ended.
        if self._ended.wait(timeout_s):
            thread.join()

    def _run(self) -> None:
        try:
            while True:
                self._arrived.acquire()
                if self._due:
                    self._drain()
                elif self._ends:
                    return
        finally:
            self._ended.set()

    def _drain(self) -> None:
        engine = self._core.engine
        result: Result | None = self._due.popleft() if self._due else None
        while True:
            if result is None:
                result = engine.deliver_deferred()
                self._core.tell_news()
            if result is None:
                if not self._due:
                    return
                result = self._due.popleft()
                continue
            self._current = result
            result._call_back()
            self._current = None
            result = None
