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
import {module}
print(time.perf_counter() - start_s)
"""
MODULES = {"concurrent.futures": "concurrent.futures.process", "ray": "ray.util.multiprocessing"}
"""Where a peer's pool is not in its package's own module."""


class ImportTime(Workload):
    """The median of some fresh interpreters, in each of which the import is timed from within."""

    name = "import"
    title = "import, median of {size} interpreters"
    sizes = (5,)
    sizes_quick = (3,)
    size_tiny = 1
    goal = Goal("<= 1.5 x multiprocessing.pool", ratio_max=1.5)
    peers = tuple(peer for peer in ALL_PEERS if peer != "ray")  # a second each time

    def run(self, pool_class: PoolClass) -> float:
        if issubclass(pool_class, Peer):
            module = MODULES.get(pool_class.package, pool_class.package)
        else:
            module = "multiprocessing.pool" if pool_class is Pool else "millpond"
        times_s = []
        for _ in range(self.size):
            ended = subprocess.run(
                [sys.executable, "-c", TIMED.format(module=module)],
                check=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                text=True,
            )
            times_s.append(float(ended.stdout.splitlines()[-1]))
        return statistics.median(times_s)
