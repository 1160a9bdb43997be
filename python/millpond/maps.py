"""Jobs of many items, as they begin: maps, and the streams behind iterators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from millpond import _native
from millpond.options import AUTO
from millpond.results import IMapIterator, MapResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from millpond.options import ChunkSize, Limits
    from millpond.pool import Pool
    from millpond.results import Result

__all__ = ["MAP", "STARMAP", "start_map", "start_stream"]

#: Kinds of tasks, as `_native.Job` takes them.
CALL, MAP, STARMAP = 0, 1, 2

#: Iterators of these run nothing of the user's when they are drawn.
_PLAIN_ITERABLES = (list, tuple, range)


def start_map(
    pool: Pool,
    func: Callable[..., Any],
    iterable: Any,
    kind: int,
    chunksize: ChunkSize | None,
    limits: Limits,
    callback: Callable[..., object] | None = None,
    error_callback: Callable[[BaseException], object] | None = None,
    *,
    leads_soon: bool = False,
) -> MapResult[Any]:
    """Start a map; see ``Pool.map_async``.

    Args:
        pool: The pool.
        func: The function.
        iterable: Its items.
        kind: ``MAP`` or ``STARMAP``.
        chunksize: Items to a task; None for the standard library's choice.
        limits: What limits each task.
        callback: As in ``Pool.map_async``.
        error_callback: As in ``Pool.map_async``.
        leads_soon: Whether the caller is about to wait for it, and so to lead.
    """
    pool._check_running()
    if not hasattr(iterable, "__len__"):
        iterable = list(iterable)
    length = len(iterable)
    is_measured = _is_auto(chunksize)
    chunk_len: Any = 1 if is_measured else chunksize
    if chunk_len is None:
        chunk_len, extra = divmod(length, pool._processes * 4)
        if extra:
            chunk_len += 1
    if length == 0 or chunk_len <= 0:
        chunk_len = 0
    native = _native.Job.chunks(kind, func, _plain_iterator(iterable), chunk_len, length)
    result: MapResult[Any] = MapResult(pool, native, func, chunk_len, callback, error_callback)
    if native.is_done:
        return result
    limits.put_on(native, chunk_len)
    if is_measured:
        native.measure(length, pool._processes)
    _submit(pool, result, iterable, None if is_measured else chunk_len, leads_soon=leads_soon)
    return result


def start_stream(
    pool: Pool,
    face: type[IMapIterator[Any]],
    func: Callable[..., Any],
    iterable: Iterable[Any],
    chunksize: ChunkSize,
    buffersize: int | None,
    limits: Limits,
) -> IMapIterator[Any]:
    """Start what an iterator reads; see ``Pool.imap``.

    Args:
        pool: The pool.
        face: The iterator's class, which tells whether results come in order.
        func: The function.
        iterable: Its items.
        chunksize: Items to a task.
        buffersize: The most tasks out whose results were not taken; None for no limit.
        limits: What limits each task.
    """
    pool._check_running()
    is_measured = _is_auto(chunksize)
    chunk_len: Any = 1 if is_measured else chunksize
    if chunk_len < 1:
        raise ValueError(f"Chunksize must be 1+, not {chunksize!r}")
    if buffersize is not None:
        if not isinstance(buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
    if chunk_len == 1 and not is_measured:
        chunk_len = 0
    kind = MAP if chunk_len else CALL
    is_ordered = face is IMapIterator
    iterator = _plain_iterator(iterable)
    native = _native.Job.stream(kind, func, iterator, chunk_len, is_ordered, buffersize)
    limits.put_on(native, chunk_len)
    if is_measured:
        native.measure(_count_of(iterable), pool._processes)
    result = face(pool, native, func)
    result._has_buffer = buffersize is not None
    _submit(pool, result, iterable, None if is_measured else chunk_len, leads_soon=False)
    if chunk_len:
        return (item for chunk in result for item in chunk)  # type: ignore[return-value]
    return result


def _is_auto(chunksize: object) -> bool:
    # Anything else may compare as it likes, such as an array.
    return isinstance(chunksize, str) and chunksize == AUTO


def _plain_iterator(iterable: Iterable[Any]) -> Any:
    return iter(iterable) if type(iterable) in _PLAIN_ITERABLES else None


def _submit(
    pool: Pool, result: Result, iterable: Any, chunk_len: int | None, *, leads_soon: bool
) -> None:
    """Hand a job to the dispatcher; ``chunk_len`` is None if the sizes of chunks are measured."""
    if type(iterable) in _PLAIN_ITERABLES:
        pool._core.submit(result._native, leads_soon=leads_soon)
    else:
        pool._core.submit_fed(result, iterable, chunk_len)


def _count_of(iterable: Any) -> int | None:
    """Return how many items there are; None if it cannot be told without code of the user's."""
    if type(iterable) not in _PLAIN_ITERABLES:
        return None
    try:
        return len(iterable)
    except OverflowError:
        # A range that is longer than any list.
        return None
