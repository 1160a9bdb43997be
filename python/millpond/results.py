"""What the pool's calls return: results, and iterators over results.

Each wraps a native job, which holds what has come back; the classes here add the standard library's
faces. They are subclasses of its own classes, and share no code with them.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from multiprocessing import TimeoutError as MultiprocessingTimeoutError
from multiprocessing import pool as stdlib_pool
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from millpond import _native

if TYPE_CHECKING:
    from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, ValuesView

    from millpond._native import Job
    from millpond.pool import Pool

    #: What is called with a value, and what with an error.
    _Callbacks = tuple[Callable[[Any], object] | None, Callable[[BaseException], object] | None]

__all__ = ["ApplyResult", "AsyncResult", "IMapIterator", "IMapUnorderedIterator", "MapResult"]

T = TypeVar("T")

_EMPTY = _native.EMPTY

#: The largest number that a native job keeps; larger ones begin again from 0.
_NUMBER_MAX = 0xFFFFFFFF


class Result:
    """What results and iterators have in common: a native job, and threads that wait for it.

    Args:
        pool: The pool that the job runs in.
        native: The native job.
        func: The user's function; its name is kept for error messages, and nothing else of it.
        callback: Called with the value of a success, or None.
        error_callback: Called with the error of a failure, or None.
    """

    # A million of them may wait.
    __slots__ = ("_callbacks", "_core", "_name", "_native", "_pool")

    _native: Job

    def _begin(
        self,
        pool: Pool,
        native: Job,
        func: object,
        callback: Callable[[Any], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> None:
        core = pool._core
        self._pool: Pool | None = pool
        self._callbacks: _Callbacks | None = None
        self._core = core
        self._native = native
        self._name = _name_of(func)
        has_callback = callback is not None or error_callback is not None
        if has_callback and not native.is_done:
            self._callbacks = (callback, error_callback)
            core.callbacks.start()
        number = next(stdlib_pool.job_counter)  # type: ignore[attr-defined]
        native.set_owner(self, has_callback, number & _NUMBER_MAX)
        if not native.is_done:
            core.jobs.add(native, self)

    def _on_news(self) -> None:
        """Act on a change of the native job. Safe to call again, and from any thread."""
        native = self._native
        if native.is_done:
            self._core.jobs.remove(native)
            self._pool = None
            native.forget_owner()
        elif self._callbacks is not None and native.outcome is not None:
            self._core.callbacks.put(self)
        for lock in native.waiters:
            if lock.locked():
                try:
                    lock.release()
                except RuntimeError:
                    # Another thread released it between the two steps.
                    continue

    def _call_back(self) -> None:
        """Call the callback that is due, and end the job. Runs in the callback thread.

        As from CPython 3.16 on, an error of the callback becomes the job's result; in earlier
        versions it kills the thread that delivers results, and the pool with it (gh-83371).
        """
        outcome = self._native.outcome
        error: BaseException | None = None
        if outcome is not None and self._callbacks is not None:
            success, value = outcome
            callback = self._callbacks[0 if success else 1]
            if callback is not None:
                try:
                    callback(value)
                except BaseException as raised:
                    error = raised
                    if not success and isinstance(value, BaseException) and raised is not value:
                        error.__context__ = value
        self._callbacks = None
        self._native.finish(error)
        self._on_news()
        self._core.wake_leader()

    def cancel(self, *, running: bool = False) -> bool:
        """End the job with ``concurrent.futures.CancelledError``, if its end is not known yet.

        Tasks that no worker has begun are never begun. A single call that a worker has begun is left
        alone, and the answer is False, unless ``running``. A map or an iterator is cancelled in any
        case: the tasks of it that run go on to their end, and what they come to is dropped.

        Args:
            running: Whether the workers that run tasks of the job are stopped: by SIGTERM, and after
                a second by SIGKILL. They are replaced.

        Returns:
            Whether the job was cancelled.
        """
        self._core.check_process()
        return self._core.cancel(self, running=running)

    @property
    def _job(self) -> int:
        return self._native.number

    @property
    def _cache(self) -> JobsByNumber:
        return JobsByNumber(self._core.jobs)

    @property
    def _callback(self) -> Callable[[Any], object] | None:
        return None if self._callbacks is None else self._callbacks[0]

    @property
    def _error_callback(self) -> Callable[[BaseException], object] | None:
        return None if self._callbacks is None else self._callbacks[1]

    @property
    def _timeout(self) -> float:
        return self._native.time_limit_s or 0.0

    def _timeout_of(self, index: int) -> float:
        """Return for how many seconds one of the job's tasks may run."""
        first, end = self._native.items_of(index) or (0, 1)
        return self._timeout * (end - first)

    def _describe(self, index: int) -> str:
        """Name one of the job's tasks in words."""
        return f"{self._name}, task {index} of job {self._job}"


class JobsByNumber(Mapping[int, Result]):
    """The jobs that are not done, by number, as ``Pool._cache`` shows them.

    Args:
        jobs: The list of them.
    """

    def __init__(self, jobs: _native.Jobs) -> None:
        self._jobs = jobs

    def _by_number(self) -> dict[int, Result]:
        return {result._job: result for result in self._jobs.all()}

    def __getitem__(self, number: int) -> Result:
        return self._by_number()[number]

    def __iter__(self) -> Iterator[int]:
        return iter(self._by_number())

    def keys(self) -> KeysView[int]:
        """Return the numbers of the jobs that there are now."""
        return self._by_number().keys()

    def values(self) -> ValuesView[Result]:
        """Return the jobs that there are now."""
        return self._by_number().values()

    def items(self) -> ItemsView[int, Result]:
        """Return the jobs that there are now, with their numbers."""
        return self._by_number().items()

    def __len__(self) -> int:
        return len(self._jobs)


def _name_of(func: object) -> str:
    """Return a function's name: of the function inside, for partials."""
    while isinstance(func, functools.partial):
        func = func.func
    return getattr(func, "__qualname__", None) or type(func).__name__


class ApplyResult(Result, stdlib_pool.ApplyResult, Generic[T]):  # type: ignore[type-arg]
    """The result of ``apply_async``, ``map_async`` and ``starmap_async``.

    Args:
        pool: The pool.
        func: The function.
        args: Its positional arguments.
        kwds: Its keyword arguments.
        callback: Called with the value, or None.
        error_callback: Called with the error, or None.
    """

    __slots__ = ()

    def __init__(
        self,
        pool: Pool,
        func: Callable[..., T],
        args: Iterable[Any],
        kwds: Mapping[str, Any],
        callback: Callable[[T], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> None:
        native = _native.Job.single(func, args, kwds)
        self._begin(pool, native, func, callback, error_callback)

    def ready(self) -> bool:
        """Tell whether the call has completed."""
        return self._native.is_done

    def successful(self) -> bool:
        """Tell whether the call completed without raising.

        Raises:
            ValueError: If it has not completed.
        """
        if not self._native.is_done:
            raise ValueError(f"{self!r} not ready")
        return self._native.is_success

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the result is there, or ``timeout`` seconds have passed."""
        native = self._native
        if not native.is_done:
            self._core.wait_until(self, lambda: native.is_done, timeout)

    def get(self, timeout: float | None = None) -> T:
        """Return the result when it arrives, or raise what the call raised.

        Raises:
            multiprocessing.TimeoutError: If it does not arrive within ``timeout`` seconds.
        """
        self.wait(timeout)
        native = self._native
        if not native.is_done:
            raise MultiprocessingTimeoutError
        success, value = native.outcome  # type: ignore[misc]
        if success:
            return value  # type: ignore[no-any-return]
        raise value

    @property
    def _success(self) -> bool:
        return self._native.is_success

    @property
    def _value(self) -> Any:
        outcome = self._native.outcome
        return None if outcome is None else outcome[1]


AsyncResult = ApplyResult


class MapResult(ApplyResult[list[T]]):
    """The result of ``map_async`` and ``starmap_async``.

    Args:
        pool: The pool.
        native: The native job.
        func: The function.
        chunksize: Items in a chunk; 0 for an empty iterable, 1 if the sizes are measured.
        callback: Called with the list, or None.
        error_callback: Called with the error, or None.
    """

    __slots__ = ("_chunksize",)

    def __init__(
        self,
        pool: Pool,
        native: Job,
        func: object,
        chunksize: int,
        callback: Callable[[list[T]], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> None:
        self._chunksize = chunksize
        self._begin(pool, native, func, callback, error_callback)

    @property
    def _number_left(self) -> int:
        return self._native.left

    def _describe(self, index: int) -> str:
        first = index * self._chunksize
        first, end = self._native.items_of(index) or (first, first + self._chunksize)
        return f"{self._name}, items {first} to {end - 1} of job {self._job}"


class IMapIterator(Result, stdlib_pool.IMapIterator, Generic[T]):  # type: ignore[type-arg,misc]
    """The iterator of ``imap``.

    Args:
        pool: The pool.
        native: The native job.
        func: The function.
    """

    __slots__ = ("_has_buffer", "_pop")

    def __init__(self, pool: Pool, native: Job, func: object) -> None:
        self._begin(pool, native, func, None, None)
        self._pop = native.pop
        self._has_buffer = False

    def __iter__(self) -> IMapIterator[T]:
        return self

    def __next__(self) -> T:
        value = self._pop()
        if value is _EMPTY or self._has_buffer:
            return self._wait_next(value, None)
        return value  # type: ignore[no-any-return]

    def next(self, timeout: float | None = None) -> T:
        """Return the next result.

        Raises:
            multiprocessing.TimeoutError: If it does not arrive within ``timeout`` seconds.
            StopIteration: After the last.
        """
        return self._wait_next(self._pop(), timeout)

    def _wait_next(self, value: Any, timeout: float | None) -> T:
        if self._has_buffer:
            self._core.refill_soon()
        end_s = None if timeout is None else time.monotonic() + timeout
        while value is _EMPTY:
            left_s = None if end_s is None else end_s - time.monotonic()
            arrived: list[Any] = []
            if not self._core.wait_until(self, functools.partial(self._arrives, arrived), left_s):
                raise MultiprocessingTimeoutError from None
            value = arrived[0]
            if isinstance(value, _Raised):
                raise value.error
        return value  # type: ignore[no-any-return]

    def _arrives(self, arrived: list[Any]) -> bool:
        if arrived:
            return True
        try:
            value = self._pop()
        except BaseException as error:
            arrived.append(_Raised(error))
            return True
        if value is _EMPTY:
            return False
        arrived.append(value)
        return True

    @property
    def _index(self) -> int:
        return self._native.index

    @property
    def _length(self) -> int | None:
        return self._native.length


class _Raised:
    """An error on its way out of a wait."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


class IMapUnorderedIterator(IMapIterator[T]):
    """The iterator of ``imap_unordered``."""
