"""One workload in an interpreter of its own: `python -m millpond.bench.one NAME REPEATS PEERS`.

So no workload warms, burdens or crashes the next one: a large list that is still there makes every
later fork slower. The measurements are the last line on standard output, as JSON.
"""

from __future__ import annotations

import json
import sys

from millpond.bench.peers import installed
from millpond.bench.workload import Workload
from millpond.bench.workloads import WORKLOADS
from millpond.demo.pools import MILLPOND, STDLIB, pool_class


def alternate(workload: Workload, repeats: int, peers: bool) -> dict[str, list[float]]:
    """Run on all pools in turn, A B A B, so that all see the same weather; times in seconds."""
    classes = {name: pool_class(name) for name in (STDLIB, MILLPOND)}
    if peers and workload.with_peers:
        classes.update(installed())
    times_s: dict[str, list[float]] = {name: [] for name in classes}
    workload.prepare()
    for _ in range(repeats):
        for name, this in list(classes.items()):
            try:
                times_s[name].append(workload.run(this))
            except Exception as error:
                # Of a peer that is an answer, too: it cannot do this work.
                if name in (STDLIB, MILLPOND):
                    raise
                print(f"{workload.name}: not {name}: {error!r:.200}", file=sys.stderr)
                del classes[name]
                times_s.pop(name)
    return times_s


def main(name: str, repeats: str, peers: str) -> None:
    """Measure and print."""
    print(json.dumps(alternate(WORKLOADS[name](), int(repeats), peers == "yes")), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
