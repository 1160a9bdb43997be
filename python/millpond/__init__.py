"""Millpond: a process pool that sends every callable and every large argument once.

``from millpond import Pool`` in the place of ``from multiprocessing import Pool``.
"""

import sys

if sys.platform != "linux" or sys.implementation.name != "cpython":
    raise ImportError("Millpond runs on Linux with CPython 3.11 or later")

from multiprocessing import TimeoutError  # noqa: A004 - the name that callers catch
from typing import TYPE_CHECKING, Any

from millpond.pool import Pool
from millpond.results import AsyncResult
from millpond.sharing import Shared, share
from millpond.stats import PartStats, Stats

__version__ = "0.1.0"
__all__ = [
    "AsyncResult",
    "PartStats",
    "Pool",
    "PoolTerminated",
    "Shared",
    "Stats",
    "TaskTimeout",
    "TimeoutError",
    "WorkerDied",
    "WorkerMemoryError",
    "share",
]

if TYPE_CHECKING:
    from millpond.errors import PoolTerminated, TaskTimeout, WorkerDied, WorkerMemoryError


def __getattr__(name: str) -> Any:
    """Import the errors when they are asked for; the first pool does so at the latest."""
    if name in ("PoolTerminated", "TaskTimeout", "WorkerDied", "WorkerMemoryError"):
        from millpond import errors

        return getattr(errors, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
