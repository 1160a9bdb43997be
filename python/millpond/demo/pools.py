"""The two pools that are compared, opened, warmed and surely ended."""

from __future__ import annotations

import importlib
import multiprocessing.pool
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

PoolClass = type[Any]
"""A pool class of the standard library's kind, or one with the methods that a workload calls."""

NAP_S = 0.02
"""How long a warm-up task holds its worker, so that the next one goes to another."""
WARM_UP_LIMIT_S = 300.0
"""After this long without one task from each worker something is wrong."""

STDLIB = "multiprocessing.Pool"
MILLPOND = "millpond.Pool"


def pool_class(name: str) -> PoolClass:
    """Return the class that the name stands for."""
    if name == STDLIB:
        return multiprocessing.pool.Pool
    from millpond import Pool

    return Pool


@contextmanager
def running(make: Callable[[], multiprocessing.pool.Pool]) -> Iterator[multiprocessing.pool.Pool]:
    """A pool that is closed and joined at the end of the block; terminated, if that failed."""
    pool = make()
    try:
        yield pool
        pool.close()
    except BaseException:
        pool.terminate()
        raise
    finally:
        pool.join()


def warm(module: str) -> int:
    """What a warm-up task does: import the program's module, stay a moment, tell the process."""
    importlib.import_module(module)
    time.sleep(NAP_S)
    return os.getpid()


def warm_up(pool: multiprocessing.pool.Pool, processes: int, module: str) -> None:
    """Return when every worker has started, imported the module and done a task."""
    give_up = time.monotonic() + WARM_UP_LIMIT_S
    seen: set[int] = set()
    while len(seen) < processes:
        if time.monotonic() > give_up:
            raise RuntimeError(
                f"only {len(seen)} of {processes} workers did a task within {WARM_UP_LIMIT_S:g} s"
            )
        seen.update(pool.map(warm, [module] * processes, chunksize=1))
