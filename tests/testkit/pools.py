"""Pools that tests open, and surely end."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import millpond


@contextmanager
def running(
    processes: int | None = 2, start_method: str = "fork", **pool_kwargs: Any
) -> Iterator[millpond.Pool]:
    """A pool that is terminated and joined at the end of the block, so that the census is fair."""
    context = multiprocessing.get_context(start_method)
    pool = millpond.Pool(processes, context=context, **pool_kwargs)
    try:
        yield pool
    finally:
        pool.terminate()
        pool.join()


def workers_of(pool: Any) -> list[Any]:
    """The process objects of its workers, as the standard library's pool keeps them."""
    return list(pool._pool)


def pids_of(pool: Any) -> set[int]:
    """The process ids of the workers that live."""
    return {worker.pid for worker in workers_of(pool) if worker.is_alive()}
