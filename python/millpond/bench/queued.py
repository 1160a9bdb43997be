"""The memory that the parent takes for tasks that wait.

A process that has given memory back takes it again without growing, so each sample has a fresh
interpreter: `python -m millpond.bench.queued NAME POOL TASKS` prints bytes a task.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, ClassVar

from millpond.bench.functions import successor
from millpond.bench.goal import Goal
from millpond.bench.peers import EXECUTOR, Peer, installed
from millpond.bench.workload import Workload, expect
from millpond.demo.pools import MILLPOND, STDLIB, PoolClass, pool_class

SETTLED_S = 0.2
"""For threads of the pool to take what was queued."""
GATE = os.pipe()
"""Workers inherit it; a task that reads from it waits until the parent has written."""


def hold(_: int) -> int:
    """Keep the worker from the tasks that come after."""
    return len(os.read(GATE[0], 1))


def resident_bytes() -> int:
    """Memory that this process has resident, that which it shares with workers included."""
    with open("/proc/self/statm", "rb") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class QueuedCalls(Workload):
    """`apply_async`, whose results the caller keeps; the arguments were there before."""

    name = "queued-calls"
    title = "memory a queued task, apply_async of {size}, results kept"
    sizes = (50_000,)
    sizes_quick = (20_000,)
    size_tiny = 5000
    measure = "memory"
    goal = Goal("<= 300 B", cost_max=300.0)
    peers: ClassVar[tuple[str, ...]] = (EXECUTOR,)
    peers_part = 10

    def run(self, pool_class: PoolClass) -> float:
        if issubclass(pool_class, Peer):
            name = pool_class.package
        else:
            name = MILLPOND if pool_class.__module__.startswith("millpond") else STDLIB
        options = [self.name, name, str(self.work_of(pool_class, self.size))]
        ended = subprocess.run(
            [sys.executable, "-m", "millpond.bench.queued", *options],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        return float(ended.stdout.splitlines()[-1])

    def arguments(self) -> list[Any]:
        return [(x,) for x in range(self.size)]

    def queue(self, pool: Any, arguments: list[Any]) -> Callable[[], list[int]]:
        """Submit all; what is returned waits for the results."""
        results = [pool.apply_async(successor, one) for one in arguments]
        return lambda: [result.get() for result in results]

    def sample(self, pool_class: PoolClass) -> float:
        """Bytes a task, in a process that has done nothing else."""
        with self.warm_pool(pool_class) as pool:
            self.ready(pool)
            held = [pool.apply_async(hold, (x,)) for x in range(self.processes)]
            arguments = self.arguments()
            gc.collect()
            before = resident_bytes()
            wait = self.queue(pool, arguments)
            time.sleep(SETTLED_S)
            grown = resident_bytes() - before
            os.write(GATE[1], b"x" * self.processes)
            expect([one.get() for one in held], [1] * self.processes)
            expect(wait(), list(range(1, self.size + 1)))
        return grown / self.size


class QueuedMap(QueuedCalls):
    """`map_async` in chunks of one: tasks that nobody has a result object for."""

    name = "queued-map"
    title = "memory a queued task, map_async of {size}, chunksize 1"
    peers: ClassVar[tuple[str, ...]] = ()

    def arguments(self) -> list[Any]:
        return list(range(self.size))

    def queue(self, pool: Any, arguments: list[Any]) -> Callable[[], list[int]]:
        get: Callable[[], list[int]] = pool.map_async(successor, arguments, chunksize=1).get
        return get


def main(name: str, pool: str, tasks: str) -> None:
    """Take one sample and print it."""
    workload = {one.name: one for one in (QueuedCalls, QueuedMap)}[name](int(tasks))
    found = pool_class(pool) if pool in (STDLIB, MILLPOND) else installed()[pool]
    print(workload.sample(found), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
