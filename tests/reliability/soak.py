"""A soak: one pool under everything that tasks do, for as long as one likes, and what it grows.

Run by `make soak` (`SOAK_ARGS='--minutes 60'`). Each answer is checked. What the process holds is
counted at quiet moments; at the end the slope of each count is printed, per hour. It fails if an
answer is wrong, or if what must not grow has grown.
"""

from __future__ import annotations

import argparse
import functools
import gc
import os
import random
import signal
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import millpond
import numpy as np
from testkit import census
from testkit.ledger import wait_until
from testkit.pools import pids_of

PROCESSES = 3
RSS_GROWTH_MAX = 64 << 20
"""Bytes: allocators keep what a busy moment took."""
MAPPINGS_GROWTH_MAX = 64
"""What is kept warm lies in more or fewer pieces."""
FIXED = ("descriptors", "threads", "children")
"""What a quiet pool has neither more nor less of."""


def add(x: int, data: Any = None) -> int:
    return x + len(data or ())


def change(x: int, data: list[Any]) -> int:
    data.append([x])
    return len(data)


def doubled(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    array *= 2
    return array


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fail(x: int) -> int:
    raise KeyError(x)


@dataclass
class Soak:
    """What the rounds share: a pool, a bound object that changes now and then, and counters."""

    pool: Any
    rng: random.Random
    data: list[Any] = field(default_factory=lambda: [[x, str(x)] for x in range(3000)])
    deaths: int = 0
    timeouts: int = 0

    def tiny(self) -> None:
        assert self.pool.map(add, range(2000)) == list(range(2000))
        assert list(self.pool.imap(add, range(500))) == list(range(500))

    def bound(self) -> None:
        if self.rng.random() < 0.3:
            self.data[self.rng.randrange(len(self.data))].append(1)
        call = functools.partial(add, data=self.data)
        assert sorted(self.pool.imap_unordered(call, range(20))) == [
            x + len(self.data) for x in range(20)
        ]

    def changed_by_tasks(self) -> None:
        call = functools.partial(change, data=self.data)
        assert self.pool.map(call, range(6), 1) == [len(self.data) + 1] * 6

    def arrays(self) -> None:
        array = np.arange(self.rng.randrange(1, 1 << 17), dtype="f8")
        for twice in self.pool.imap(doubled, [array] * 4):
            assert (twice == array * 2).all()

    def texts(self) -> None:
        words = [f"word {x}" for x in range(5000)]
        assert self.pool.apply(sorted, (words,)) == sorted(words)

    def death(self) -> None:
        others = self.pool.map_async(add, range(50), 1)
        try:
            self.pool.apply(die)
        except millpond.WorkerDied:
            self.deaths += 1
        else:
            raise AssertionError("a task that was killed has ended")
        assert others.get(60) == list(range(50))

    def deadline(self) -> None:
        try:
            self.pool.apply_async(time.sleep, (600,), timeout=0.05).get(60)
        except millpond.TaskTimeout:
            self.timeouts += 1
        else:
            raise AssertionError("a task that was too late has ended")

    def cancelled(self) -> None:
        running = [self.pool.apply_async(time.sleep, (600,)) for _ in range(PROCESSES + 2)]
        for result in running:
            assert result.cancel(running=True)

    def error(self) -> None:
        try:
            self.pool.map(fail, range(3))
        except KeyError as error:
            assert error.args[0] in range(3)
        else:
            raise AssertionError("a task that raised has ended")

    def short_pool(self) -> None:
        with millpond.Pool(1) as pool:
            assert pool.map(add, range(10)) == list(range(10))
        pool.join()

    def actions(self) -> list[Callable[[], None]]:
        """Frequent ones first: the weights follow."""
        return [
            *(self.tiny, self.bound, self.changed_by_tasks, self.arrays, self.texts, self.error),
            *(self.short_pool, self.death, self.deadline, self.cancelled),
        ]


WEIGHTS = (10, 10, 6, 6, 6, 6, 2, 1, 1, 1)


def rss(pid: int) -> int:
    """Bytes of memory that a process has in use."""
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (FileNotFoundError, ProcessLookupError):
        return 0


def counts(pool: Any) -> dict[str, int]:
    """What is held, at a quiet moment."""
    wait_until(lambda: len(pids_of(pool)) == PROCESSES, "all workers to be there")
    gc.collect()
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        named = sum(len(line.split()) > 5 for line in maps)
    return {
        "descriptors": census.open_files().total(),
        "threads": census.threads().total(),
        "children": census.children().total(),
        "named mappings": named,
        "shared bytes": pool.stats()["stored_bytes"] + pool.stats()["warm_bytes"],
        "parent's bytes": rss(os.getpid()),
        "workers' bytes": sum(map(rss, pids_of(pool))),
    }


def told(samples: list[dict[str, int]], hours: list[float]) -> list[str]:
    """A table of slopes; then what has grown that must not."""
    print(f"{'':16} {'first':>14} {'last':>14} {'slope per hour':>16}")
    grown = []
    for name, first in samples[0].items():
        values = [sample[name] for sample in samples]
        slope = statistics.linear_regression(hours, values).slope
        print(f"{name:16} {first:14,} {values[-1]:14,} {slope:16,.1f}")
        if name in FIXED and values[-1] != first:
            grown.append(name)
        if name == "named mappings" and values[-1] - first > MAPPINGS_GROWTH_MAX:
            grown.append(name)
        if name.endswith("bytes") and values[-1] - first > RSS_GROWTH_MAX:
            grown.append(name)
    return grown


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--samples", type=int, default=60)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    options = parser.parse_args()
    print(f"seed {options.seed}, {options.minutes:g} minutes, {PROCESSES} workers", flush=True)
    rounds, samples, hours = 0, [], []
    begin = time.monotonic()
    with millpond.Pool(PROCESSES) as pool:
        soak = Soak(pool, random.Random(options.seed))
        for action in soak.actions():  # all that is made once
            action()
        for number in range(options.samples + 1):
            until = begin + 60 * options.minutes * number / options.samples
            while time.monotonic() < until:
                (action,) = soak.rng.choices(soak.actions(), WEIGHTS)
                action()
                rounds += 1
            samples.append(counts(pool))
            hours.append((time.monotonic() - begin) / 3600)
        stats = pool.stats()
        assert stats["timeouts"] == soak.timeouts
        assert stats["worker_deaths"] == soak.deaths
        print(
            f"{rounds} rounds, {stats['tasks_completed']:,} tasks, {stats['worker_deaths']} deaths"
        )
        pool.close()
        pool.join()
    grown = told(samples, hours)
    print(f"has grown: {', '.join(grown)}" if grown else "nothing has grown")
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main())
