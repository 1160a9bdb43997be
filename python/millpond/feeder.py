"""Threads that draw iterables whose iterators may run code of the user's.

A list, a tuple or a range is drawn by whoever dispatches. Anything else may block, or may itself use
the pool, so it is drawn by a thread of its own, one item at a time and only when the item could go
out: so late does the standard library's task thread draw it, too.
"""

from __future__ import annotations

import itertools
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from millpond._native import Job
    from millpond.core import Core

__all__ = ["Feeder"]

#: For how many seconds items of a chunk are gathered: as long as the chunk should run.
_GATHER_TIME_S = 0.001

#: After how many seconds without an item an iterable lets later jobs pass.
STUCK_TIME_S = 0.01


class Feeder:
    """The thread of one job.

    Args:
        core: The pool's core.
        job: The job that is fed.
        iterable: What is drawn.
        chunk_len: Items to a chunk, or 0 for single items; None if chunks are gathered from what was
            offered, and the job tells how many items are wanted.
    """

    def __init__(
        self, core: Core, job: Job, iterable: Iterable[Any], chunk_len: int | None
    ) -> None:
        self._core = core
        self._job = job
        self._iterable: Iterable[Any] | None = iterable
        self._chunk_len = chunk_len
        self.gathers = chunk_len is None
        self._wanted = threading.Event()
        self._wanted_since_s: float | None = None
        self._ends = False
        self.is_drawing = False
        self._thread = threading.Thread(target=self._run, name="millpond-feeder", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def want(self) -> None:
        """Ask for an item; the dispatcher does when it could go out at once."""
        if self._wanted_since_s is None:
            self._wanted_since_s = time.monotonic()
            self._wanted.set()

    def is_stuck(self) -> bool:
        """Tell whether the iterable keeps the pool waiting, so that later jobs may pass."""
        since_s = self._wanted_since_s
        if since_s is None:
            return False
        if self._core.is_waiting(self._thread.ident):
            # The iterable itself waits for the pool.
            return True
        return time.monotonic() - since_s > STUCK_TIME_S

    def end(self) -> None:
        """Draw nothing more."""
        self._ends = True
        self._wanted.set()

    def join(self) -> None:
        """Wait for the thread's end; not for one that is in the user's iterator."""
        if self._thread is not threading.current_thread() and not self.is_drawing:
            self._thread.join(timeout=0.5 if self._wanted_since_s is not None else None)

    def _run(self) -> None:
        try:
            self._feed()
        finally:
            self._iterable = None
            self._core.feeder_ended(self._job, self)

    def _feed(self) -> None:
        iterator = None
        job = self._job
        while True:
            self._wanted.wait()
            self._wanted.clear()
            if self._ends:
                return
            self.is_drawing = True
            try:
                if iterator is None:
                    iterator = iter(self._iterable)  # type: ignore[arg-type]
                if self._chunk_len:
                    item: Any = tuple(itertools.islice(iterator, self._chunk_len))
                    is_last = not item
                elif self.gathers:
                    item, is_last = self._gather(iterator)
                else:
                    item = next(iterator, _END)
                    is_last = item is _END
            except BaseException as error:
                # SystemExit and its like too: it ends this thread's iterable, and nothing else would
                # ever tell its job.
                job.offer_error(error)
                is_last = False
                iterator = iter(())
            else:
                if is_last:
                    job.close_offers()
                elif item is not _END:
                    job.offer(item)
            finally:
                self.is_drawing = False
            item = None
            self._wanted_since_s = None
            self._core.dispatcher.refill()
            if self._ends or is_last or job.is_exhausted:
                return

    def _gather(self, iterator: Iterator[Any]) -> tuple[Any, bool]:
        """Offer items one by one, so that none waits for the next one, until there is a chunk.

        Returns:
            The last of them, not offered yet, or ``_END``; and whether the iterable has ended.
        """
        job = self._job
        end_s = time.monotonic() + _GATHER_TIME_S
        wanted = job.next_chunk_len
        for _ in range(wanted - 1):
            item = next(iterator, _END)
            if item is _END:
                return _END, True
            job.offer(item)
            if self._ends or job.is_full or time.monotonic() > end_s:
                return _END, False
        item = next(iterator, _END)
        return item, item is _END


_END = object()
