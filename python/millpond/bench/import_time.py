"""What an import costs a program that has imported nothing yet."""

from __future__ import annotations

import statistics
import subprocess
import sys
from multiprocessing.pool import Pool

from millpond.bench.goal import Goal
from millpond.bench.peers import ALL_PEERS, Peer
from millpond.bench.workload import Workload
from millpond.demo.pools import PoolClass

TIMED = """
import time
start_s = time.perf_counter()
from {module} import {name}
print(time.perf_counter() - start_s)
"""
POOLS = {
    "concurrent.futures": "ProcessPoolExecutor",
    "loky": "ProcessPoolExecutor",
    "mpire": "WorkerPool",
    "joblib": "Parallel",
}
"""What a program imports of a peer; some packages import their parts when these are asked for."""


class ImportTime(Workload):
    """The median of some fresh interpreters, in each of which the import is timed from within."""

    name = "import"
    title = "import of the pool, median of {size} interpreters"
    sizes = (5,)
    sizes_quick = (3,)
    size_tiny = 1
    goal = Goal("<= 1.5 x multiprocessing.pool", ratio_max=1.5)
    peers = tuple(peer for peer in ALL_PEERS if peer != "ray")  # a second each time

    def run(self, pool_class: PoolClass) -> float:
        if issubclass(pool_class, Peer):
            module, name = pool_class.package, POOLS[pool_class.package]
        else:
            module, name = "multiprocessing.pool" if pool_class is Pool else "millpond", "Pool"
        times_s = []
        for _ in range(self.size):
            ended = subprocess.run(
                [sys.executable, "-c", TIMED.format(module=module, name=name)],
                check=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                text=True,
            )
            times_s.append(float(ended.stdout.splitlines()[-1]))
        return statistics.median(times_s)
