"""One workload in an interpreter of its own: `python -m millpond.bench.one NAME REPEATS`.

So no workload warms, burdens or crashes the next one: a large list that is still there makes every
later fork slower. The measurements are the last line on standard output, as JSON.
"""

from __future__ import annotations

import json
import sys

from millpond.bench.workload import Workload
from millpond.bench.workloads import WORKLOADS
from millpond.demo.pools import MILLPOND, STDLIB, pool_class


def alternate(workload: Workload, repeats: int) -> dict[str, list[float]]:
    """Run on both pools in turn, A B A B, so that both see the same weather; times in seconds."""
    classes = {name: pool_class(name) for name in (STDLIB, MILLPOND)}
    times_s: dict[str, list[float]] = {name: [] for name in classes}
    workload.prepare()
    for _ in range(repeats):
        for name, this in classes.items():
            times_s[name].append(workload.run(this))
    return times_s


def main(name: str, repeats: str) -> None:
    """Measure and print."""
    print(json.dumps(alternate(WORKLOADS[name](), int(repeats))), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
