"""The dispatcher's role: tasks are pickled and published, in the order of the jobs.

One thread at a time has it, and nobody waits for it: who does not get it leaves a mark, and its holder
looks once more.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from millpond._native import Job
    from millpond.core import Core

__all__ = ["Dispatcher"]

# What `Engine.dispatch` returns.
_ALL, _NO_ROOM, _EMPTY, _FULL, _NOT_PLAIN = range(5)


class Dispatcher:
    """The role, and the jobs that wait for it.

    Args:
        core: The pool's core.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        #: Jobs with tasks that are not published, in order of call.
        self.backlog: deque[Job] = deque()
        self._lock = threading.Lock()
        #: The thread that has the role.
        self.thread_id: int | None = None
        #: What wakes that thread where code of the user's, run by its pickling, waits for the pool.
        self.sleeps_on: threading.Lock | None = None
        #: The mark: somebody has found the role taken.
        self.looks_again = False
        #: Whether an iterable must be looked at again soon, for it may be stuck.
        self.rechecks = False
        #: Whether jobs wait behind one that cannot go out by this thread, or not yet.
        self.is_stalled = False
        self._in_dispatch: list[Job] = []

    def refill(self, *, only_plain: bool = False) -> None:
        """Dispatch as many waiting tasks as there is room for, in order."""
        me = threading.get_ident()
        if self.thread_id == me:
            # Code of the user's, run by this thread's own pickling, waits for the pool.
            self._refill(only_plain)
            self._announce()
            return
        self.looks_again = True
        while self.looks_again and self._lock.acquire(False):
            try:
                self.looks_again = False
                self.thread_id = me
                self._refill(only_plain)
            finally:
                self.thread_id = None
                self._lock.release()
        if self.looks_again and (lock := self.sleeps_on) is not None:
            with contextlib.suppress(RuntimeError):  # somebody else has woken it
                lock.release()
        self._announce()

    def _announce(self) -> None:
        """Tell what dispatching has brought to an end: failed pickles, and iterables that are empty."""
        if self._core.engine.first_news() is not None:
            self._core.tell_news()

    def _refill(self, only_plain: bool) -> None:
        while self._dispatch_once(only_plain):
            pass

    def _dispatch_once(self, only_plain: bool) -> bool:
        """Go over the waiting jobs once. Return whether to do so again at once."""
        backlog, dispatch = self.backlog, self._core.engine.dispatch
        at = 0
        is_keeper = threading.get_ident() == self._core.keeper_id
        no_room = self.rechecks = self.is_stalled = False
        while at < len(backlog):
            job = backlog[at]
            if job in self._in_dispatch:
                # This thread's own pickling of it waits for the pool.
                at += 1
                continue
            self._in_dispatch.append(job)
            try:
                status = dispatch(job, only_plain, is_keeper)
            finally:
                self._in_dispatch.pop()
            if status == _ALL:
                feeder = self._core.feeders.get(job)
                if feeder is not None:
                    # A map may have all its items before its iterable has told its end.
                    feeder.end()
                if at < len(backlog) and backlog[at] is job:
                    del backlog[at]
                continue
            if status == _NO_ROOM:
                no_room = True
                break
            if status == _NOT_PLAIN:
                self.is_stalled = True
                if not only_plain:
                    # It is nested too deep for what this thread's stack has left, or may have been cut
                    # short by a signal handler, which only this thread runs.
                    self._core.leave_to_keeper()
                break
            if status == _EMPTY:
                feeder = self._core.feeders.get(job)
                if feeder is not None:
                    feeder.want()
                    if not feeder.is_stuck():
                        # What it has offered goes out soon, though the next item may be long in coming.
                        self.rechecks = len(backlog) > at + 1 or feeder.gathers
                        self.is_stalled = True
                        break
                self.rechecks = True
            elif status == _FULL and not self._core.is_running:
                # As CPython 3.16: a closed pool draws no more for a job that `buffersize` holds back,
                # and so does not wait for a consumer that may never come.
                self._cut(job)
                continue
            at += 1
        return self._core.engine.expect_room(no_room) and no_room

    def _cut(self, job: Job) -> None:
        feeder = self._core.feeders.get(job)
        if feeder is not None:
            feeder.end()
        self._core.engine.cut(job)
        if job in self.backlog:
            self.backlog.remove(job)
