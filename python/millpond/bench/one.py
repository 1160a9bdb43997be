"""One workload in an interpreter of its own: `python -m millpond.bench.one OPTIONS`.

So no workload warms, burdens or crashes the next one: a large list that is still there makes every
later fork slower. The options are JSON, and so are the measurements, the last line on standard output.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from millpond.bench.peers import installed
from millpond.bench.workload import Workload
from millpond.bench.workloads import WORKLOADS
from millpond.demo.pools import MILLPOND, STDLIB, PoolClass, pool_class


@dataclass(frozen=True)
class Options:
    """What is to be measured."""

    name: str
    sizes: Sequence[int]
    repeats: int
    peers: Sequence[str] = ()
    peer_repeats: int = 1
    others_limit_s: float = 60.0
    """A peer that has taken longer than this at a size, all repeats together, is not run again there;
    in a series, no other pool than Millpond is, nor is one tried that would take longer, by its cost
    at the size before."""


@dataclass
class Found:
    """What was measured: for each size, by each pool's name, the costs."""

    costs: dict[int, dict[str, list[float]]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    """What was not measured, in sentences."""


class Turns:
    """The pools of one workload, each of which may drop out."""

    def __init__(self, workload: type[Workload], options: Options) -> None:
        here = installed()
        self.classes: dict[str, PoolClass] = {
            name: pool_class(name) for name in (STDLIB, MILLPOND)
        } | {name: here[name] for name in options.peers if name in here}
        self.workload = workload
        self.options = options
        self.found = Found()
        self.cost_before: dict[str, tuple[int, float]] = {}
        """The last size of each pool at which it was measured, and its least cost there."""

    def limited(self, name: str) -> bool:
        """Tell whether this pool need not be measured to the end."""
        return name != MILLPOND and (name != STDLIB or self.workload.is_series())

    def repeats(self, name: str) -> int:
        """How often this pool is measured."""
        is_peer = name not in (STDLIB, MILLPOND)
        return self.options.peer_repeats if is_peer else self.options.repeats

    def part(self, name: str) -> int:
        """By how much less work this pool does."""
        return 1 if name in (STDLIB, MILLPOND) else self.workload.peers_part

    def chosen(self, size: int) -> list[str]:
        """The pools that are tried at this size."""
        names = []
        for name in self.classes:
            before, cost = self.cost_before.get(name, (size, 0.0))
            forecast_s = self.workload(size).forecast_s(cost, before) / self.part(name)
            repeats = self.repeats(name)
            if self.limited(name) and forecast_s * repeats > self.options.others_limit_s:
                self.left_out(
                    f"{name} at {size:,}: {repeats} x {forecast_s:.1f} s are to be expected, "
                    f"more than {self.options.others_limit_s:g} s"
                )
            else:
                names.append(name)
        return names

    def left_out(self, what: str) -> None:
        self.found.left_out.append(f"{self.workload.name}: {what}")

    def measure(self, size: int) -> None:
        """All pools in turn, A B A B, so that all see the same weather."""
        workload = self.workload(size)
        workload.prepare()
        costs: dict[str, list[float]] = {name: [] for name in self.chosen(size)}
        self.found.costs[size] = costs
        spent_s = dict.fromkeys(costs, 0.0)
        for repeat in range(self.options.repeats):
            for name in list(costs):
                if self.limited(name) and spent_s[name] > self.options.others_limit_s:
                    continue
                if repeat >= self.repeats(name):
                    continue
                gc.collect()  # no pool pays for the garbage of another
                start_s = time.perf_counter()
                try:
                    costs[name].append(workload.run(self.classes[name]))
                except Exception as error:
                    # Of a peer that is an answer, too: it cannot do this work.
                    if name in (STDLIB, MILLPOND):
                        raise
                    self.left_out(f"{name}: {type(error).__name__}: {error!s:.100}")
                    del self.classes[name], costs[name]
                    continue
                spent_s[name] += time.perf_counter() - start_s
        for name, found in costs.items():
            if len(found) < self.repeats(name):
                self.left_out(f"{name} at {size:,}: all but {len(found)} of its repeats, for time")
        self.cost_before |= {name: (size, min(found)) for name, found in costs.items() if found}


def measure(options: Options) -> Found:
    """Measure one workload at all sizes that are asked for."""
    turns = Turns(WORKLOADS[options.name], options)
    for size in options.sizes:
        turns.measure(size)
    return turns.found


def main(options: str) -> None:
    """Measure and print."""
    chosen: dict[str, Any] = json.loads(options)
    print(json.dumps(asdict(measure(Options(**chosen)))), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
