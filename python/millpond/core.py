"""The core of a pool: its jobs, and who leads.

Two roles are taken in turn by whatever thread is there for them, so that a task costs no hand-over of
the GIL:

* The **leader** takes results out of the engine and rests until there are more. A caller in ``get``,
  ``next`` or ``map`` leads for itself; the keeper leads when no caller does.
* The **dispatcher** pickles tasks and publishes them, in order of the jobs. Whoever finds room does:
  see ``millpond.dispatcher``.

Neither role is waited for: who does not get it knows that its holder looks once more.
"""

from __future__ import annotations

import operator
import os
import threading
import time
from typing import TYPE_CHECKING, Any

from millpond import _native
from millpond.callbacks import Callbacks
from millpond.dispatcher import Dispatcher
from millpond.feeder import STUCK_TIME_S, Feeder
from millpond.losses import Losses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from millpond.results import Result
    from millpond.workers import Workers

__all__ = ["CLOSE", "INIT", "RUN", "TERMINATE", "Core"]

INIT, RUN, CLOSE, TERMINATE = "INIT", "RUN", "CLOSE", "TERMINATE"

# News for the keeper: bits of `Engine.tell_keeper`.
NEWS_LEADERLESS, NEWS_JOB, NEWS_STATE = 2, 4, 8

#: How long a caller waits for a leader to step aside before it looks at its own job again, seconds.
_STEP_ASIDE_TIME_S = 0.05

#: How often a callback that waits for the pool delivers what would wait behind it, in seconds.
_CALLBACK_LOOK_TIME_S = 0.005


class Core:
    """All of a pool that its threads share. They hold it, and not the pool, which can so be
    collected and then ends them.

    Args:
        worker_count: The number of workers at the beginning.
        workers: The processes.
        memory_len_max: What is kept for later while no task needs it, in bytes; None for the
            default.
        memory_limit: The most bytes that a worker may have resident while it runs a task, or None.
    """

    def __init__(
        self,
        worker_count: int,
        workers: Workers,
        memory_len_max: int | None = None,
        memory_limit: int | None = None,
    ) -> None:
        self.pid = os.getpid()
        self.state = INIT
        #: How many workers there are to be; whoever changes it tells the keeper.
        self.worker_count = worker_count
        self.workers = workers
        self.losses = Losses(workers, memory_limit)
        self.engine = _native.Engine(worker_count, memory_len_max, memory_limit)
        self.cancelled_jobs = 0
        #: Jobs that are not done.
        self.jobs = _native.Jobs()
        self.dispatcher = Dispatcher(self)
        self.callbacks = Callbacks(self)
        self.feeders: dict[_native.Job, Feeder] = {}
        #: Why nothing more can run: no worker can start, the memory is damaged, or the pool was
        #: terminated.
        self.broken: BaseException | None = None
        #: Counts the times that a caller led; the keeper steps in when it stands still.
        self.activity = 0
        self.keeper_sleeps = False
        self.keeper_ticks = False
        self.keeper_leads = False
        self.keeper_id: int | None = None
        self._lead = threading.Lock()
        self._leader: int | None = None
        self._wanted: list[int] = []
        self._followers: list[threading.Lock] = []
        self._waiting: list[int] = []

    # Jobs come in.

    def submit(self, job: _native.Job, *, leads_soon: bool) -> None:
        """Queue a job, and dispatch what can be pickled without running code of the user's.

        The caller may hold locks that such code needs; so the rest is left to whoever leads.

        Args:
            job: The job.
            leads_soon: Whether the caller is about to wait for it, and so to lead.
        """
        if self.broken is not None:
            self.engine.note(job, job.abandon(self.broken))
            self.tell_news()
            return
        dispatcher = self.dispatcher
        dispatcher.backlog.append(job)
        me = threading.get_ident()
        if dispatcher.thread_id == me:
            # Code of the user's that pickling runs submits: the dispatch that it interrupts goes on
            # to this job in its turn.
            dispatcher.looks_again = True
            return
        dispatcher.refill(only_plain=True)
        if dispatcher.is_stalled and self._leader not in (None, me):
            # Who rests knows nothing of a job that waits behind another's iterable.
            self.engine.kick()
        if not leads_soon:
            self.refill_soon()

    def submit_fed(self, result: Result, iterable: Iterable[Any], chunk_len: int | None) -> None:
        """Queue a job whose iterable needs a thread of its own to draw it.

        Raises:
            RuntimeError: If the system denies the thread; the job is forgotten then, for a pool that
                waited for its end would never end.
        """
        job = result._native
        feeder = Feeder(self, job, iterable, chunk_len)
        self.feeders[job] = feeder
        try:
            feeder.start()
        except BaseException:
            del self.feeders[job]
            self.jobs.remove(job)
            job.forget_owner()
            raise
        self.submit(job, leads_soon=False)

    def feeder_ended(self, job: _native.Job, feeder: Feeder) -> None:
        """Forget a feeder whose thread is about to end."""
        if self.feeders.get(job) is feeder:
            del self.feeders[job]

    def refill_soon(self) -> None:
        """Let the keeper look, unless a caller leads or the keeper is awake anyway."""
        if self.keeper_sleeps and not (self._lead.locked() and not self.keeper_leads):
            self.keeper_sleeps = False
            self.engine.tell_keeper(NEWS_JOB)
        elif self.keeper_leads:
            self.engine.kick()

    def leave_to_keeper(self) -> None:
        """Have the keeper dispatch what this thread cannot."""
        self.engine.tell_keeper(NEWS_JOB)

    @property
    def is_running(self) -> bool:
        """Whether the pool is neither closed nor terminated."""
        return self.state == RUN

    # The leader's role.

    def wait_until(
        self, result: Result, is_ready: Callable[[], bool], timeout_s: float | None
    ) -> bool:
        """Wait until ``is_ready()``, and lead if nobody does.

        Args:
            result: The job that is waited for; its news wake the caller.
            is_ready: Asked after each step.
            timeout_s: The longest wait in seconds, or None.

        Returns:
            Whether it is ready.

        Raises:
            ValueError: In a forked child, where the pool's threads and workers are not.
        """
        if is_ready():
            return True
        self.check_process()
        end_s = None if timeout_s is None else time.monotonic() + max(timeout_s, 0.0)
        me = threading.get_ident()
        self._waiting.append(me)
        try:
            while not is_ready():
                left_s = None if end_s is None else end_s - time.monotonic()
                if left_s is not None and left_s <= 0:
                    return False
                if self.callbacks.is_current_thread():
                    self.callbacks.deliver()
                    left_s = min(left_s or _CALLBACK_LOOK_TIME_S, _CALLBACK_LOOK_TIME_S)
                    if is_ready():
                        return True
                if self._leader == me:
                    self._lead_until(is_ready, left_s)
                elif self._lead.acquire(False):
                    self._lead_as_caller(me, is_ready, left_s)
                elif self.keeper_leads:
                    self._displace_keeper(me, is_ready, left_s)
                else:
                    self._follow(result, is_ready, left_s)
        finally:
            self._waiting.remove(me)
        return True

    def is_waiting(self, thread_id: int | None) -> bool:
        """Tell whether a thread waits for the pool."""
        return thread_id in self._waiting

    def _lead_as_caller(self, me: int, is_ready: Callable[[], bool], left_s: float | None) -> None:
        try:
            self._leader = me
            self.activity += 1
            self._lead_until(is_ready, left_s)
        finally:
            self._leader = None
            self._lead.release()
            self._hand_on()

    def _lead_until(self, is_ready: Callable[[], bool], left_s: float | None) -> None:
        end_s = None if left_s is None else time.monotonic() + left_s
        while True:
            self.pump()
            if is_ready():
                return
            left_s = None if end_s is None else end_s - time.monotonic()
            if left_s is not None and left_s <= 0:
                return
            if self.dispatcher.rechecks:
                left_s = STUCK_TIME_S if left_s is None else min(left_s, STUCK_TIME_S)
            self.engine.rest(left_s)

    def _displace_keeper(self, me: int, is_ready: Callable[[], bool], left_s: float | None) -> None:
        """Ask the keeper to stop leading, and lead."""
        self._wanted.append(me)
        self.engine.kick()
        patience_s = _STEP_ASIDE_TIME_S if left_s is None else min(left_s, _STEP_ASIDE_TIME_S)
        try:
            has_lead = self._lead.acquire(timeout=patience_s)
        finally:
            self._wanted.remove(me)
        if has_lead:
            self._lead_as_caller(me, is_ready, left_s)

    def _follow(self, result: Result, is_ready: Callable[[], bool], left_s: float | None) -> None:
        """Wait for news of the job while another thread leads, or for its leaving."""
        lock = threading.Lock()
        lock.acquire()
        native = result._native
        native.add_waiter(lock)
        self._followers.append(lock)
        goes_on = False
        dispatcher = self.dispatcher
        is_dispatcher, outer = dispatcher.thread_id == threading.get_ident(), dispatcher.sleeps_on
        try:
            # News, or the leader's leaving, before the lock was listed would not release it.
            if is_dispatcher:
                # Code of the user's, run by this thread's own pickling, waits: meanwhile nobody else
                # can dispatch, and who would wakes this thread.
                dispatcher.sleeps_on = lock
                dispatcher.refill()
                if dispatcher.rechecks:
                    left_s = STUCK_TIME_S if left_s is None else min(left_s, STUCK_TIME_S)
            elif dispatcher.backlog:
                # The leader may rest while this thread's job waits behind this thread's own iterable.
                self.engine.kick()
            is_awake = True
            if not is_ready() and self._lead.locked():
                is_awake = lock.acquire(timeout=-1 if left_s is None else left_s)
            goes_on = is_awake and not is_ready()
        finally:
            if is_dispatcher:
                dispatcher.sleeps_on = outer
            native.remove_waiter(lock)
            if lock in self._followers:
                self._followers.remove(lock)
            if not goes_on and not self._lead.locked():
                # The leader may have handed on to this thread, which waits no longer.
                self._hand_on()

    def _hand_on(self) -> None:
        """After a caller has stopped leading: wake a follower, or the keeper, if tasks are out."""
        while self._followers:
            try:
                lock = self._followers.pop()
                lock.release()
            except (IndexError, RuntimeError):
                # Another thread took the follower, or has released it.
                continue
            return
        # What is kept for a next dispatch goes after a while, which the keeper sees to; and it ends a
        # closed pool, when the last job is done.
        is_kept = not self.keeper_ticks and self.engine.keeps_anything
        if self.keeper_sleeps and (self.jobs or is_kept or self.state == CLOSE):
            self.keeper_sleeps = False
            self.engine.tell_keeper(NEWS_LEADERLESS)

    def pump(self) -> None:
        """Take what has come back, tell of it, and dispatch into the room that it leaves."""
        engine = self.engine
        engine.collect(self.losses.describe)
        self.tell_news()
        if self.dispatcher.backlog:
            self.dispatcher.refill()

    def tell_news(self) -> None:
        """Tell results that their jobs have news."""
        engine = self.engine
        has_told = False
        while (result := engine.first_news()) is not None:
            result._on_news()
            engine.pop_news(result)
            has_told = True
        if has_told:
            self.wake_leader()

    def wake_leader(self) -> None:
        """Let the leader look at its own job, which another thread may have brought to its end."""
        if self._leader not in (None, threading.get_ident()):
            self.engine.kick()

    def lead_as_keeper(self, has_news: Callable[[], bool]) -> None:
        """Lead until a caller wants to, no job is out, or ``has_news()``."""
        if not self._lead.acquire(False):
            return
        try:
            self.keeper_leads = True
            self._leader = threading.get_ident()
            while self.jobs and not self._wanted and self.state != TERMINATE:
                self.pump()
                if has_news() or not self.jobs or self._wanted:
                    break
                self.engine.rest(STUCK_TIME_S if self.dispatcher.rechecks else None)
        finally:
            self.keeper_leads = False
            self._leader = None
            self._lead.release()

    def is_led_by_caller(self) -> bool:
        """Tell whether a caller leads."""
        return self._lead.locked() and not self.keeper_leads

    # Ends.

    def shut_down(self) -> None:
        """Give back all that the pool holds, once its workers have ended."""
        self.engine.shut_down()
        self.workers.release()

    def break_down(self, error: BaseException) -> None:
        """Nothing can run any more: end all jobs with the cause, and those that still come."""
        if self.broken is None:
            self.broken = error
        self.abandon_all(error)

    def abandon_all(self, error: BaseException) -> None:
        """End all jobs that are not done with ``error``."""
        self.dispatcher.backlog.clear()
        for feeder in tuple(self.feeders.values()):
            feeder.end()
        for result in sorted(self.jobs.all(), key=operator.attrgetter("_job")):
            native = result._native
            self.engine.note(native, native.abandon(error))
        self.tell_news()
        self.engine.kick()

    def check_process(self) -> None:
        """Refuse to work in a forked child.

        Raises:
            ValueError: There.
        """
        if os.getpid() != self.pid:
            raise ValueError(
                f"Pool not running: it belongs to process {self.pid}; a forked child makes a Pool "
                "of its own"
            )

    def cancel(self, result: Result, *, running: bool) -> bool:
        """End a job with ``CancelledError``, unless its end is known; see ``ApplyResult.cancel``."""
        native = result._native
        if not self.engine.cancel(native, running, self.losses.cancelled()):
            return False
        self.cancelled_jobs += 1
        # The job stays in the backlog: to take it out would move others away under a dispatcher. It has
        # no tasks any more, and goes when its turn comes.
        feeder = self.feeders.get(native)
        if feeder is not None:
            feeder.end()
        self.tell_news()
        self.refill_soon()
        return True
