"""A soak: one pool under everything that tasks do, for as long as one likes, and what it grows.

Run by `make soak` (`SOAK_ARGS='--minutes 60'`). Each answer is checked. What the process holds is
counted at quiet moments; at the end the slope of each count is printed, per hour, and how the last
quarter's pace compares with the first's. It fails if an answer is wrong, if what must not grow has
grown, and, where it has lasted long enough for that to mean something, if the pool has become slower.
"""

from __future__ import annotations

import argparse
import ctypes
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
from testkit import census, forms, trend
from testkit.ledger import wait_until
from testkit.pools import pids_of

PROCESSES = 3
RSS_GROWTH_MAX = 64 << 20
"""Bytes: allocators keep what a busy moment took."""
MAPPINGS_GROWTH_MAX = 64
"""What is kept warm lies in more or fewer pieces."""
PRIVATE = "parent's private"
PRIVATE_SLOPE_MAX = 1 << 20
"""Bytes an hour that the parent's own memory may grow, once the pool is warm."""
PRIVATE_STEP = 1 << 20
"""Bytes: the piece in which Python takes memory from the system. A quarter of a run may need
one more than the quarter before without a leak, for where free blocks lie is a matter of chance."""
WARM_MINUTES = 4.0
"""How long a run must be for its first quarter to see all that is made once, and rare, by chance."""
PACE_MIN = 0.95
"""Of the first quarter's tasks a second that the last quarter must have."""
JUDGED_MINUTES = 30.0
"""How long a run must be for its pace to be judged: less are too few rounds of each kind a quarter."""
REFERENCE_LOOPS = 1_000_000
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
            # A change deep inside, and none that makes the data grow, for growth is what is looked for.
            self.data[self.rng.randrange(len(self.data))][0] = self.rng.random()
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


def private() -> int:
    """Bytes that this process alone has in use. Free blocks that libc keeps are given back first, and
    shared memory, which is counted by itself, is left out: what remains is what somebody holds."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        (kilobytes,) = [line.split()[1] for line in status if line.startswith("RssAnon:")]
    return int(kilobytes) << 10


def reference_s() -> float:
    """What a fixed piece of work takes now: how fast the machine is, whatever the pool does."""
    begin = time.perf_counter()
    for _ in range(REFERENCE_LOOPS):
        pass
    return time.perf_counter() - begin


def counts(pool: Any) -> dict[str, int]:
    """What is held, at a quiet moment."""
    wait_until(lambda: len(pids_of(pool)) == PROCESSES, "all workers to be there")
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        named = sum(len(line.split()) > 5 for line in maps)
    return {
        "descriptors": census.open_files().total(),
        "threads": census.threads().total(),
        "children": census.children().total(),
        "named mappings": named,
        "shared bytes": pool.stats()["stored_bytes"] + pool.stats()["warm_bytes"],
        PRIVATE: private(),
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
    rise = trend.rise(hours, [sample[PRIVATE] for sample in samples])
    print(f"{PRIVATE}: rises by {rise.per_hour:,.0f} an hour in each part after the warm-up")
    if 60 * hours[-1] > WARM_MINUTES and rise.exceeds(PRIVATE_SLOPE_MAX, PRIVATE_STEP):
        grown.append(f"{PRIVATE}, steadily")
    return grown


@dataclass
class Pace:
    """Tasks done and time passed at each sample, and how fast the machine was then."""

    tasks: list[int] = field(default_factory=list)
    at_s: list[float] = field(default_factory=list)
    reference_s: list[float] = field(default_factory=list)

    def note(self, tasks: int) -> None:
        self.tasks.append(tasks)
        self.at_s.append(time.monotonic())
        self.reference_s.append(reference_s())

    def ratios(self) -> tuple[float, float]:
        """The last quarter's tasks a second as a part of the first quarter's; and the same had the
        machine been as fast as then, by the fixed piece of work."""
        last = len(self.tasks) - 1
        quarter = max(1, last // 4)
        first_pace = self._pace(0, quarter)
        ratio = self._pace(last - quarter, last) / first_pace
        slower = statistics.median(self.reference_s[-quarter:]) / statistics.median(
            self.reference_s[:quarter]
        )
        return ratio, ratio * slower

    def _pace(self, begin: int, end: int) -> float:
        return (self.tasks[end] - self.tasks[begin]) / (self.at_s[end] - self.at_s[begin])


def is_slower(pace: Pace, minutes: float) -> bool:
    """Whether the pool has become slower, and not the machine; tells how it compares. Of a short run
    it tells that alone."""
    ratio, corrected = pace.ratios()
    print(
        f"pace of the last quarter: {ratio:.3f} of the first's, {corrected:.3f} on a machine as fast"
    )
    slower = minutes >= JUDGED_MINUTES and max(ratio, corrected) < PACE_MIN
    if slower:
        print(f"THE POOL HAS BECOME SLOWER: it has less than {PACE_MIN:g} of its pace at first")
    return slower


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--samples", type=int, default=60)
    parser.add_argument(
        "--seed", type=int, help="as MILLPOND_SEED; each its own if it is not given"
    )
    options = parser.parse_args()
    if options.seed is not None:
        os.environ["MILLPOND_SEED"] = str(options.seed)
    rng = forms.seeded()
    print(f"{options.minutes:g} minutes, {PROCESSES} workers", flush=True)
    rounds, samples, hours, pace = 0, [], [], Pace()
    begin = time.monotonic()
    with millpond.Pool(PROCESSES) as pool:
        soak = Soak(pool, rng)
        for action in soak.actions():  # all that is made once
            action()
        for number in range(options.samples + 1):
            until = begin + 60 * options.minutes * number / options.samples
            while time.monotonic() < until:
                (action,) = soak.rng.choices(soak.actions(), WEIGHTS)
                action()
                rounds += 1
            pace.note(pool.stats()["tasks_completed"])
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
    has_slowed = is_slower(pace, options.minutes)
    return 1 if grown or has_slowed else 0


if __name__ == "__main__":
    sys.exit(main())
