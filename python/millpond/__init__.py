"""Millpond: a process pool that sends every callable and every large argument once.

``from millpond import Pool`` in the place of ``from multiprocessing import Pool``.
"""

from __future__ import annotations

import sys

if sys.platform != "linux" or sys.implementation.name != "cpython":
    raise ImportError("Millpond runs on Linux with CPython 3.11 or later")

import importlib
from multiprocessing import TimeoutError  # noqa: A004 - the name that callers catch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from millpond.errors import PoolTerminated, TaskTimeout, WorkerDied, WorkerMemoryError
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

_HOMES = {
    "AsyncResult": "results",
    "PartStats": "stats",
    "Pool": "pool",
    "PoolTerminated": "errors",
    "Shared": "sharing",
    "Stats": "stats",
    "TaskTimeout": "errors",
    "WorkerDied": "errors",
    "WorkerMemoryError": "errors",
    "share": "sharing",
}
"""The module of each name: it is imported when the name is asked for, so that a new interpreter which
starts as a worker does not import what only the parent needs."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
