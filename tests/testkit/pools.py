"""Pools that tests open, and surely end."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import millpond

from testkit import procfs
from testkit.ledger import wait_until
from testkit.work import meet


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


def is_whole(pool: millpond.Pool, count: int, victims: Iterable[int] = ()) -> bool:
    """Whether so many workers live, and each that a signal has ended is replaced, and counted.

    Args:
        pool: The pool.
        count: How many workers it should have.
        victims: Whom somebody has killed: one that was just killed may still read as alive.
    """
    stats = pool.stats()
    return len(pids_of(pool).difference(victims)) == count and stats["replacements"] == sum(
        stats.deaths.values()
    )


def asleep(pool: millpond.Pool, directory: Path, count: int) -> list[int]:
    """The ids of so many workers, once all have been in a task at the same time and sleep again."""
    calls = [(str(directory), name, count) for name in range(count)]
    pids = pool.starmap(meet, calls, chunksize=1)
    wait_until(lambda: all(procfs.state(pid) == "S" for pid in pids), "the workers to sleep")
    return pids


def stop(pids: list[int]) -> None:
    """Stop processes, and wait until they are."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: all(procfs.state(pid) == "T" for pid in pids), "the processes to stop")


class DeniedPool(millpond.Pool):
    """The system denies it so many processes, once it stands, by such an error."""

    denials = 0
    denial: BaseException = BlockingIOError("no more processes")

    @staticmethod
    def Process(ctx: Any, *args: Any, **kwds: Any) -> Any:
        if DeniedPool.denials > 0:
            DeniedPool.denials -= 1
            raise DeniedPool.denial
        return ctx.Process(*args, **kwds)
