"""The keeper: the one thread that is always there.

It starts processes, when the supervisor tells that a worker is gone, and starts or dismisses some
when another number is wanted; it leads, when tasks are out and no caller leads, so that no progress
depends on anybody calling ``get`` or ``next``; and it ends the pool. When nothing is out it sleeps
without a timeout.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from millpond.core import CLOSE, NEWS_JOB, NEWS_STATE, TERMINATE

if TYPE_CHECKING:
    from millpond.core import Core

__all__ = ["Keeper"]

#: After how many seconds without a leading caller the keeper leads. A caller in a loop of ``next``
#: leads again and again; to step in between would cost it a hand-over of the GIL each time.
_NAP_TIME_S = 0.002

#: For how many seconds, at most, a caller may take the news of a death before its worker is replaced.
_HEAD_START_S = 0.003
_HEAD_START_LOOK_S = 0.0002

#: For how many seconds things are kept for a next dispatch.
_EXPIRY_TIME_S = 1.0

#: After how many seconds a worker that the system has denied is tried again: twice as long each time,
#: for the standard library leaves pipes open where a fork is denied.
_DENIAL_TIME_S = 0.25
_DENIAL_TIME_MAX_S = 60.0


class Keeper:
    """The keeper's thread.

    Args:
        core: The pool's core.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._news = 0
        self._stopped = False
        #: For how many workers this thread has looked, and whether there are as many.
        self._wanted = core.worker_count
        self._is_staffed = True
        #: How many workers that are gone have not been replaced.
        self._vacant = 0
        #: How often in a row the system has denied a worker, and when it is asked again.
        self._denial_count = 0
        self._retry_at_s = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="millpond-keeper", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def is_alive(self) -> bool:
        """Tell whether the thread runs."""
        return self._thread.is_alive()

    def wake(self) -> None:
        """Tell that the pool's state has changed."""
        self._core.engine.tell_keeper(NEWS_STATE)
        self._core.engine.kick()

    def join(self) -> None:
        """Wait for the thread's end, unless this is it."""
        if self._thread is not threading.current_thread():
            # Before CPython 3.13 a thread whose join was interrupted counts as ended.
            self._ended.wait()
            self._thread.join()

    def _run(self) -> None:
        try:
            self._keep()
        except BaseException as error:
            # A defect of ours. It is shown, and nobody waits for what cannot come any more.
            self._core.break_down(error)
            self._core.engine.stop_workers()
            self._core.callbacks.end()
            raise
        finally:
            self._ended.set()

    def _keep(self) -> None:
        core = self._core
        core.keeper_id = threading.get_ident()
        engine = core.engine
        seen_activity = -1
        timeout_s: float | None = None
        while True:
            core.keeper_sleeps = timeout_s is None or timeout_s == _EXPIRY_TIME_S
            core.keeper_ticks = timeout_s is not None
            if timeout_s is None and engine.keeps_anything:
                # It came to be kept before a caller could see that this thread no longer ticks.
                timeout_s = _EXPIRY_TIME_S
            if core.keeper_sleeps and core.jobs and not core.is_led_by_caller():
                # A job came, or the leader left, before the flag was up.
                core.keeper_sleeps = False
                timeout_s = _NAP_TIME_S
            if core.keeper_sleeps and not self._stopped and self._is_done():
                # The last job ended before the flag was up.
                timeout_s = 0.0
            news = self._news | engine.keeper_wait(0.0 if self._news else timeout_s)
            self._news = 0
            core.keeper_sleeps = False
            self._settle_ends()
            if core.broken is None and engine.is_damaged:
                core.break_down(core.losses.damaged())
            self._staff()
            if self._ends():
                return
            if news & NEWS_JOB:
                core.dispatcher.refill()
            if self._news and not core.jobs:
                timeout_s = None
            elif not core.jobs:
                timeout_s = _EXPIRY_TIME_S if engine.expire() else None
            elif core.is_led_by_caller():
                timeout_s = None
            elif core.activity == seen_activity or news & NEWS_JOB:
                core.lead_as_keeper(self._has_news)
                timeout_s = _NAP_TIME_S
            else:
                seen_activity = core.activity
                timeout_s = _NAP_TIME_S

    def _has_news(self) -> bool:
        self._news |= self._core.engine.keeper_wait(0.0)
        return bool(self._news)

    def _ends(self) -> bool:
        """Tell whether the thread's work is done, and ask the workers to end before."""
        core = self._core
        if core.state == TERMINATE:
            return True
        if not self._is_done():
            return False
        if not self._stopped:
            self._stopped = True
            core.engine.stop_workers()
        if core.workers.living:
            return False
        core.callbacks.end()
        return True

    def _is_done(self) -> bool:
        """Tell whether the pool is closed, and has nothing more to do."""
        core = self._core
        return core.state == CLOSE and (not core.jobs or core.broken is not None)

    def _settle_ends(self) -> None:
        """Take note of the workers that are gone."""
        core = self._core
        workers, engine = core.workers, core.engine
        seen_activity, has_died = core.activity, False
        while (vacancy := engine.next_vacancy()) is not None:
            incarnation, ending, failure, note_len = vacancy
            self._vacant += workers.remove(incarnation)
            self._look_anew()
            has_died |= ending in ("stopped", "died")
            if ending in ("retired", "stopped", "died"):
                workers.start_succeeded()
            elif core.broken is None and core.state != TERMINATE:
                completed = engine.counts()["tasks_completed"]
                cause = workers.start_failed(incarnation, failure, note_len, completed)
                if cause is not None:
                    core.break_down(cause)
        # The start of a process holds the GIL for milliseconds, in which nobody could be told.
        give_up_s = time.monotonic() + (_HEAD_START_S if has_died else 0.0)
        while (
            core.activity == seen_activity
            and core.is_led_by_caller()
            and time.monotonic() < give_up_s
        ):
            time.sleep(_HEAD_START_LOOK_S)

    def _look_anew(self) -> None:
        self._is_staffed = False
        self._retry_at_s = 0.0

    def _staff(self) -> None:
        """Have as many workers as are wanted: dismiss and recall all at once, and start one."""
        core = self._core
        if self._stopped or core.broken is not None or core.state == TERMINATE:
            return
        if core.state == CLOSE and not core.jobs:
            return
        if core.worker_count != self._wanted:
            self._wanted = core.worker_count
            self._look_anew()
        if self._is_staffed or time.monotonic() < self._retry_at_s:
            return
        missing = core.workers.staff(core.engine, self._wanted)
        self._vacant = min(self._vacant, missing)
        if missing and self._start():
            missing -= 1
            # Between two starts this thread does what else waits for it, and looks how many are wanted.
            self._news |= NEWS_STATE if missing else 0
        self._is_staffed = not missing

    def _start(self) -> bool:
        """Start a worker. If the system denies it now, it is asked again later."""
        core = self._core
        try:
            core.workers.start(core.engine)
        except BaseException as error:
            # Whatever code of the user's has raised, such as a `Process` of its own: without this
            # thread nobody would ever tell.
            if not core.workers.living:
                core.break_down(error)
                return False
            delay_s = min(_DENIAL_TIME_S * 2**self._denial_count, _DENIAL_TIME_MAX_S)
            self._denial_count += 1
            self._retry_at_s = time.monotonic() + delay_s
            core.engine.remind_keeper(delay_s)
            return False
        if self._vacant:
            self._vacant -= 1
            core.workers.replacements += 1
        self._denial_count = 0
        return True
