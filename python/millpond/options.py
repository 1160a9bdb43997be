"""What a pool and its calls can be told: checked once, where it is given."""

from __future__ import annotations

import operator
import os
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from millpond._native import Job

__all__ = [
    "AUTO",
    "PROCESS_COUNT_MAX",
    "ChunkSize",
    "Limits",
    "checked_bytes",
    "checked_count",
    "checked_count_within",
]

#: The size of chunks that follows from how long tasks take.
AUTO = "auto"

#: Items to a task.
ChunkSize = int | Literal["auto"]

#: The most workers of a pool: seats of the shared table.
PROCESS_COUNT_MAX = 1024

#: More memory than any machine has, in bytes.
_MEMORY_LEN_MAX = 1 << 62

#: The longest time that is kept, in seconds: longer ones are no limit.
_TIME_MAX_S = 1e9

_cpu_count = getattr(os, "process_cpu_count", os.cpu_count)


class Limits(NamedTuple):
    """What limits each task of a job.

    Attributes:
        timeout: For how many seconds a worker may run it; infinity for no limit.
        retries: How often it is tried again after its worker has died, or it has raised one of
            ``retry_on``.
        retry_on: Classes of exceptions.
    """

    timeout: float = float("inf")
    retries: int = 0
    retry_on: tuple[type[BaseException], ...] = ()

    def but(
        self, timeout: float | None = None, retries: int | None = None, retry_on: Any = None
    ) -> Limits:
        """Return these limits with some of them replaced; None leaves one as it is.

        Raises:
            ValueError: For a timeout that is not above 0, and for a number of retries below 0.
            TypeError: For what is no number, and for what is no class of exceptions.
        """
        if timeout is retries is retry_on is None:
            return self
        return Limits(
            self.timeout if timeout is None else _checked_time("timeout", timeout),
            self.retries if retries is None else _checked_retries(retries),
            self.retry_on if retry_on is None else _checked_classes(retry_on),
        )

    def put_on(self, job: Job, item_count: int = 1) -> None:
        """Limit a job's tasks, before it is submitted.

        Args:
            job: The job.
            item_count: Items to a task: a chunk may take the time of all of them.
        """
        if self == _NO_LIMITS:
            return
        time_s: float | None = self.timeout * max(item_count, 1)
        if self.timeout > _TIME_MAX_S:
            time_s = None
        job.limit(time_s, self.retries, self.retry_on)


_NO_LIMITS = Limits()


def _checked_time(name: str, time_s: Any) -> float:
    from numbers import Real

    if isinstance(time_s, bool) or not isinstance(time_s, Real):
        raise TypeError(f"{name} is a number of seconds or None, not {type(time_s).__name__}")
    seconds = float(time_s)
    if not seconds > 0:
        raise ValueError(f"{name} is a number of seconds above 0, not {time_s}")
    return seconds


def _checked_retries(retries: Any) -> int:
    try:
        count = operator.index(retries)
    except TypeError:
        raise TypeError(f"retries is an integer, not {type(retries).__name__}") from None
    if not 0 <= count <= 1_000_000:
        raise ValueError(f"retries is 0 to 1000000, not {count}")
    return count


def _checked_classes(retry_on: Any) -> tuple[type[BaseException], ...]:
    classes = retry_on if isinstance(retry_on, tuple) else (retry_on,)
    for one in classes:
        if not (isinstance(one, type) and issubclass(one, BaseException)):
            raise TypeError(f"retry_on is a class of exceptions or a tuple of such, not {one!r}")
    return classes


def checked_bytes(name: str, count: Any, least: int) -> int | None:
    """Return a number of bytes; None for None.

    Raises:
        ValueError: If it is less than ``least``.
        TypeError: If it is no integer.
    """
    if count is None:
        return None
    try:
        checked = operator.index(count)
    except TypeError:
        raise TypeError(f"{name} is a number of bytes, not {type(count).__name__}") from None
    if checked < least:
        raise ValueError(f"{name} is a number of bytes, {least} or more, not {checked}")
    return min(checked, _MEMORY_LEN_MAX)


def checked_count(processes: Any) -> int:
    """Return the number of workers; None stands for as many as usable CPUs.

    Raises:
        ValueError: If it is out of range.
        TypeError: If it is no integer.
    """
    if processes is None:
        return _cpu_count() or 1
    try:
        count = operator.index(processes)
    except TypeError:
        raise TypeError(
            f"the number of processes must be an integer, not {type(processes).__name__}"
        ) from None
    if count < 1:
        raise ValueError("Number of processes must be at least 1")
    if count > PROCESS_COUNT_MAX:
        raise ValueError(f"Number of processes must be at most {PROCESS_COUNT_MAX}, not {count}")
    return count


def checked_count_within(processes: Any, most: int) -> int:
    """Return the number of workers that a pool is to have from now on.

    Args:
        processes: The number.
        most: How many workers the pool has room for.

    Raises:
        ValueError: If it is out of range.
        TypeError: If it is no integer.
    """
    if processes is None:
        raise TypeError("the number of processes must be an integer, not NoneType")
    count = checked_count(processes)
    if count > most:
        raise ValueError(
            f"Number of processes must be at most {most} under this limit on file size, not {count}"
        )
    return count
