"""The pool: ``multiprocessing.Pool``'s face on Millpond's engine."""

from __future__ import annotations

import os
import warnings
from multiprocessing import get_context, util
from multiprocessing import pool as stdlib_pool
from typing import TYPE_CHECKING, Any, Self, TypeVar

from millpond.core import CLOSE, INIT, RUN, TERMINATE, Core
from millpond.keeper import Keeper
from millpond.maps import MAP, STARMAP, start_map, start_stream
from millpond.options import Limits, checked_bytes, checked_count, checked_count_within
from millpond.results import (
    ApplyResult,
    IMapIterator,
    IMapUnorderedIterator,
    JobsByNumber,
    MapResult,
)
from millpond.stats import Stats
from millpond.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from multiprocessing.context import BaseContext
    from multiprocessing.process import BaseProcess
    from types import TracebackType

    from millpond.options import ChunkSize

__all__ = ["Pool"]

T = TypeVar("T")
S = TypeVar("S")

RetryOn = type[BaseException] | tuple[type[BaseException], ...]

#: How long `terminate` waits for a callback that runs, in seconds.
_CALLBACK_END_TIME_S = 1.0


class _TaskQueue:
    """What ``Pool._taskqueue`` answers: how many jobs wait to be dispatched."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def qsize(self) -> int:
        """Return the number of jobs that have tasks not yet dispatched."""
        return len(self._core.dispatcher.backlog)

    def empty(self) -> bool:
        """Tell whether all tasks are dispatched."""
        return not self._core.dispatcher.backlog


class Pool(stdlib_pool.Pool):
    """A pool of worker processes; every answer is that of ``multiprocessing.Pool``.

    Args:
        processes: Number of workers, 1 to 1024; as many as usable CPUs if None.
        initializer: Called in each worker at its start.
        initargs: Its arguments.
        maxtasksperchild: Tasks (calls, or chunks of calls) after which a worker is replaced.
        context: A context of ``multiprocessing``; the default one if None.
        memory: The most bytes that the parent keeps for later while no task needs them: parts for
            a next dispatch, and as much again of memory that was used and can be used again; and
            that each worker keeps of the latter. 512 MiB of parts and 128 MiB of memory if None.
        timeout: For how many seconds a worker may run a task, unless its call says otherwise; a
            chunk of a map may take so many for each of its items. Then its worker is stopped, by
            SIGTERM and after a second by SIGKILL, and replaced, and the task ends with
            ``TaskTimeout``. Time in the queue does not count.
        retries: How often a task is tried again whose worker died, unless its call says otherwise.
        retry_on: A class of exceptions, or a tuple of such, after which it is tried again as well.
        memory_limit: The most bytes that a worker may have resident, shared memory included. Beyond
            it the worker is killed and replaced, and the task that it runs ends with
            ``WorkerMemoryError``. It is looked at 50 times a second while tasks are out.
        finalizer: Called in each worker that ends in order: by ``close``, ``resize`` or its limit of
            tasks.
        finalargs: Its arguments.

    Raises:
        ValueError: For a number that is out of range.
        TypeError: For one that is no number, and for what should be callable and is not.
        OSError: If the system denies shared memory or processes.
    """

    _wrap_exception = True

    @staticmethod
    def Process(ctx: BaseContext, *args: Any, **kwds: Any) -> BaseProcess:
        """Make a worker's process; subclasses may make another kind."""
        return ctx.Process(*args, **kwds)  # type: ignore[attr-defined,no-any-return]

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: BaseContext | None = None,
        *,
        memory: int | None = None,
        timeout: float | None = None,
        retries: int | None = None,
        retry_on: RetryOn | None = None,
        memory_limit: int | None = None,
        finalizer: Callable[..., object] | None = None,
        finalargs: Iterable[Any] = (),
    ) -> None:
        # Attributes that __del__ and __repr__ use, should anything below raise.
        self._pool: list[BaseProcess] = []
        self._state = INIT
        self._pid = os.getpid()

        self._ctx = context or get_context()
        self._maxtasksperchild = maxtasksperchild
        self._initializer = initializer
        self._initargs = initargs
        worker_count = checked_count(processes)
        self._limits = Limits().but(timeout, retries, retry_on)
        if maxtasksperchild is not None and (
            not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0
        ):
            raise ValueError("maxtasksperchild must be a positive int or None")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if finalizer is not None and not callable(finalizer):
            raise TypeError("finalizer must be a callable")
        memory = checked_bytes("memory", memory, 0)
        memory_limit = checked_bytes("memory_limit", memory_limit, 1)

        work_args = (initializer, initargs, maxtasksperchild, finalizer, finalargs)
        workers = Workers(self.Process, self._ctx, work_args)
        self._core = core = Core(worker_count, workers, memory, memory_limit)
        self._pool = workers.processes
        self._cache = JobsByNumber(core.jobs)
        self._taskqueue = _TaskQueue(core)
        try:
            for _ in range(worker_count):
                workers.start(core.engine)
            # The first workers are there: a thread of ours no longer meets their fork.
            core.engine.start_supervisor()
            self._keeper = Keeper(core)
            self._keeper.start()
        except BaseException:
            workers.terminate()
            workers.join()
            core.shut_down()
            raise
        self._terminate = util.Finalize(  # type: ignore[attr-defined]
            self, Pool._terminate_pool, args=(core, self._keeper), exitpriority=15
        )
        core.state = self._state = RUN

    def __del__(
        self, _warn: Any = warnings.warn, _run: str = RUN, _getpid: Any = os.getpid
    ) -> None:
        if self._state == _run and self._pid == _getpid():
            _warn(f"unclosed running multiprocessing pool {self!r}", ResourceWarning, source=self)

    def __repr__(self) -> str:
        cls = self.__class__
        return (
            f"<{cls.__module__}.{cls.__qualname__} state={self._state} pool_size={len(self._pool)}>"
        )

    def _check_running(self) -> None:
        # The standard library's exit handler ends the core, and does not tell the pool.
        if self._state != RUN or self._core.state == TERMINATE:
            raise ValueError("Pool not running")
        self._core.check_process()

    @property
    def _processes(self) -> int:
        """How many workers there are to be; the standard library's name for it."""
        return self._core.worker_count

    @_processes.setter
    def _processes(self, processes: int) -> None:
        self._core.worker_count = checked_count_within(processes, self._core.engine.seat_count)

    def _repopulate_pool(self) -> None:
        """Have as many workers as ``_processes`` says; the pool does so by itself."""
        self._keeper.wake()

    # Calls.

    def apply(
        self,
        func: Callable[..., T],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
        *,
        timeout: float | None = None,
        retries: int | None = None,
        retry_on: RetryOn | None = None,
    ) -> T:
        """Return ``func(*args, **kwds)``, called in a worker.

        As in all calls, ``timeout``, ``retries`` and ``retry_on`` are the pool's if they are None.
        """
        self._check_running()
        limits = self._limits.but(timeout, retries, retry_on)
        result = ApplyResult(self, func, args, kwds, None, None)
        limits.put_on(result._native)
        self._core.submit(result._native, leads_soon=True)
        return result.get()

    def apply_async(
        self,
        func: Callable[..., T],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},
        callback: Callable[[T], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        timeout: float | None = None,
        retries: int | None = None,
        retry_on: RetryOn | None = None,
    ) -> ApplyResult[T]:
        """Start ``func(*args, **kwds)`` in a worker, and return its result-to-be."""
        self._check_running()
        limits = self._limits.but(timeout, retries, retry_on)
        result = ApplyResult(self, func, args, kwds, callback, error_callback)
        limits.put_on(result._native)
        self._core.submit(result._native, leads_soon=False)
        return result

    # Maps.

    def map(
        self,
        func: Callable[[S], T],
        iterable: Iterable[S],
        chunksize: ChunkSize | None = None,
        *,
        timeout: float | None = None,
        retries: int | None = None,
        retry_on: RetryOn | None = None,
    ) -> list[T]:
        """Return the list of ``func(item)`` for all items, in order.

        Args:
            func: The function.
            iterable: Its items.
            chunksize: Items to a task. None for the standard library's choice, which is four chunks
                a worker. ``"auto"`` lets the sizes follow from how long the first tasks take: long
                ones go out singly, and short ones in chunks of about a millisecond.
            timeout: As in ``Pool``; a chunk may take so many seconds for each of its items.
            retries: As in ``Pool``.
            retry_on: As in ``Pool``.
        """
        limits = self._limits.but(timeout, retries, retry_on)
        return start_map(self, func, iterable, MAP, chunksize, limits, leads_soon=True).get()

    def starmap(
        self,
        func: Callable[..., T],
        iterable: Iterable[Iterable[Any]],
        chunksize: ChunkSize | None = None,
        *,
        timeout: float | None = None,
        retries: int | None = None,
        retry_on: RetryOn | None = None,
    ) -> list[T]:
        """Return the list of ``func(*item)`` for all items, in order; see ``map``."""
        limits = self._limits.but(timeout, retries, retry_on)
        return start_map(self, func, iterable, STARMAP, chunksize, limits, leads_soon=True).get()

    def map_async(
        self,
        func: Callable[[S], T],
        iterable: Iterable[S],
        chunksize: ChunkSize | None = None,
        callback: Callable[[list[T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        timeout: float | None = None,
        retries: int | None = None,
        retry_on: RetryOn | None = None,
    ) -> MapResult[T]:
        """Start a ``map``, and return its result-to-be."""
        limits = self._limits.but(timeout, retries, retry_on)
        return start_map(self, func, iterable, MAP, chunksize, limits, callback, error_callback)

    def starmap_async(
        self,
        func: Callable[..., T],
        iterable: Iterable[Iterable[Any]],
        chunksize: ChunkSize | None = None,
        callback: Callable[[list[T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        timeout: float | None = None,
        retries: int | None = None,
        retry_on: RetryOn | None = None,
    ) -> MapResult[T]:
        """Start a ``starmap``, and return its result-to-be."""
        limits = self._limits.but(timeout, retries, retry_on)
        return start_map(self, func, iterable, STARMAP, chunksize, limits, callback, error_callback)

    # Iterators.

    def imap(
        self,
        func: Callable[[S], T],
        iterable: Iterable[S],
        chunksize: ChunkSize = 1,
        buffersize: int | None = None,
        *,
        timeout: float | None = None,
        retries: int | None = None,
        retry_on: RetryOn | None = None,
    ) -> IMapIterator[T]:
        """Return an iterator over ``func(item)`` for all items, in order.

        Args:
            func: The function.
            iterable: Its items; drawn as tasks are dispatched.
            chunksize: Items to a task; ``"auto"`` as in ``map``. With more than one an error ends the
                iterator, as in the standard library; with ``"auto"`` it always does, and how many
                results come before it depends on the chunks.
            buffersize: The most tasks out whose results were not taken; None for no limit. As in
                CPython 3.16.
            timeout: As in ``Pool``; a chunk may take so many seconds for each of its items.
            retries: As in ``Pool``.
            retry_on: As in ``Pool``.

        Raises:
            ValueError: For a chunk size or a buffer size under 1.
            TypeError: For a buffer size that is no integer.
        """
        limits = self._limits.but(timeout, retries, retry_on)
        return start_stream(self, IMapIterator, func, iterable, chunksize, buffersize, limits)

    def imap_unordered(
        self,
        func: Callable[[S], T],
        iterable: Iterable[S],
        chunksize: ChunkSize = 1,
        buffersize: int | None = None,
        *,
        timeout: float | None = None,
        retries: int | None = None,
        retry_on: RetryOn | None = None,
    ) -> IMapIterator[T]:
        """Return an iterator over ``func(item)`` for all items, as they complete; see ``imap``."""
        limits = self._limits.but(timeout, retries, retry_on)
        face = IMapUnorderedIterator
        return start_stream(self, face, func, iterable, chunksize, buffersize, limits)

    # What the pool has done, and its end.

    def stats(self) -> Stats:
        """Return what the pool has counted since it was made."""
        core = self._core
        stats = Stats(core.engine.counts(), core.engine.parts())
        stats["replacements"] = core.workers.replacements
        stats["jobs_cancelled"] = core.cancelled_jobs
        stats.deaths = dict(core.workers.deaths)
        return stats

    def resize(self, processes: int) -> None:
        """Change the number of workers, and return at once.

        New workers are started as the first ones were, and take tasks as soon as they are ready.
        Surplus ones end in order, each after the task that it runs, idle ones at once. The last call
        holds.

        Args:
            processes: How many there are to be, 1 to 1024.

        Raises:
            ValueError: If the pool does not run, or the number is out of range. Under a limit on file
                size (``RLIMIT_FSIZE``) a pool cannot have many more workers than it began with.
            TypeError: If it is no integer.
        """
        self._check_running()
        self._processes = processes
        self._keeper.wake()

    def __reduce__(self) -> Any:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    def close(self) -> None:
        """Take no more jobs; workers end when all that are there are done."""
        util.debug("closing pool")  # type: ignore[attr-defined]
        if self._state == RUN:
            self._state = CLOSE
            if self._core.state == RUN:
                self._core.state = CLOSE
            self._keeper.wake()

    def terminate(self) -> None:
        """End the workers now. Jobs that are out end with ``PoolTerminated``."""
        util.debug("terminating pool")  # type: ignore[attr-defined]
        self._state = TERMINATE
        self._terminate()

    def join(self) -> None:
        """Wait for the workers to end, after ``close`` or ``terminate``.

        Raises:
            ValueError: If the pool still runs.
        """
        util.debug("joining pool")  # type: ignore[attr-defined]
        if self._state == RUN:
            raise ValueError("Pool is still running")
        if self._state not in (CLOSE, TERMINATE):
            raise ValueError("In unknown state")
        core = self._core
        core.check_process()
        self._keeper.join()
        core.callbacks.join()
        core.workers.join()
        core.shut_down()

    @staticmethod
    def _terminate_pool(core: Core, keeper: Keeper) -> None:  # type: ignore[override]
        """End the pool; called once: by ``terminate``, by a collection, or at exit."""
        core.state = TERMINATE
        keeper.wake()
        # The keeper must not replace workers behind our back.
        keeper.join()
        core.workers.terminate()
        # One that ignores the signal, or handles it and goes on, ends when it has nothing to do.
        core.engine.stop_workers()
        core.break_down(core.losses.terminated())
        feeders = tuple(core.feeders.values())
        core.callbacks.end()
        # A callback that blocks must not keep the program from ending.
        core.callbacks.join(_CALLBACK_END_TIME_S)
        for feeder in feeders:
            feeder.join()
        core.workers.join_or_kill()
        core.shut_down()

    def __enter__(self) -> Self:
        self._check_running()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        self.terminate()
