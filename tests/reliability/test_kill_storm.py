"""The kill storm: random workers are killed while tasks of all kinds run, and none is lost.

The ledger judges what ran, not the pool. It also drives the killer: each kill is due at a random
length of the ledger, so it falls at a random moment of the work, however fast the machine is.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import millpond
import pytest
from testkit.forms import by_form, seeded
from testkit.ledger import Ledger, wait_until
from testkit.pools import pids_of, running, workers_of
from testkit.work import journalled_square

TASKS = by_form(5_000, 100_000)
KILLS = by_form(100, 1_000)
WORKERS = 8
BATCH = 500
LOOK_S = 0.0005


@dataclass
class Progress:
    """What the ledger tells so far, read piece by piece: it grows to many megabytes."""

    ledger: Ledger
    lines: int = 0
    pids: set[int] = field(default_factory=set)
    _at: int = 0

    def look(self) -> None:
        with open(self.ledger.path, "rb") as file:
            file.seek(self._at)
            new = file.read()
        # A reader, unlike a writer, may meet half a line.
        new = new[: new.rfind(b"\n") + 1]
        for line in new.splitlines():
            self.pids.add(int(line.split(b"\t")[2]))
            self.lines += 1
        self._at += len(new)


class Killer(threading.Thread):
    """Kills a random worker each time that the ledger has grown to the next mark.

    The victim has begun a task, so it is one whose start succeeded, which is what the pool counts
    as a death; and no worker is killed twice.
    """

    def __init__(self, pool: millpond.Pool, ledger: Ledger, random: Random) -> None:
        super().__init__(name="killer")
        self._pool = pool
        self._random = random
        self._progress = Progress(ledger)
        self._marks = sorted(random.sample(range(2 * TASKS * 9 // 10), KILLS))
        self._stopped = threading.Event()
        self.victims: list[int] = []

    def run(self) -> None:
        for mark in self._marks:
            while self._progress.lines < mark or not (candidates := self._candidates()):
                self._progress.look()
                if self._stopped.wait(LOOK_S):
                    return
            victim = self._random.choice(candidates)
            self.victims.append(victim)
            os.kill(victim, signal.SIGKILL)

    def _candidates(self) -> list[int]:
        """A worker that was never killed is neither a zombie nor anybody else by now."""
        seen = self._progress.pids.difference(self.victims)
        return sorted(seen.intersection(worker.pid for worker in workers_of(self._pool)))

    def stop(self) -> None:
        self._stopped.set()
        self.join()


@dataclass
class Answers:
    """What callers were told: each task's value, and the deaths of the others."""

    values: list[int] = field(default_factory=list)
    deaths: list[millpond.WorkerDied] = field(default_factory=list)

    def take(self, call: Callable[[], int]) -> None:
        try:
            self.values.append(call())
        except millpond.WorkerDied as death:
            self.deaths.append(death)


def ask_in_every_way(pool: Any, function: Callable[[int], int], first: int) -> Answers:
    """A batch of tasks, a quarter by each way to ask for one; all are out at the same time."""
    quarter = BATCH // 4
    parts = [range(first + part * quarter, first + (part + 1) * quarter) for part in range(4)]
    singles = [pool.apply_async(function, (x,)) for x in parts[0]]
    ordered = pool.imap(function, parts[1])
    unordered = pool.imap_unordered(function, parts[2])
    maps = [pool.map_async(function, [x]) for x in parts[3]]
    answers = Answers()
    for single in singles:
        answers.take(single.get)
    for results in (ordered, unordered):
        for _ in range(quarter):
            answers.take(partial(next, results))
    for result in maps:
        answers.take(partial(only_item_of, result))
    assert_ended(ordered, unordered)
    return answers


def only_item_of(result: Any) -> int:
    (item,) = result.get()
    return int(item)


def assert_ended(*iterators: Iterator[object]) -> None:
    for iterator in iterators:
        with pytest.raises(StopIteration):
            next(iterator)


@pytest.mark.limit_s(by_form(120, 1800))
def test_a_storm_of_kills_loses_no_task_and_does_none_twice(tmp_path: Path) -> None:
    """Where kills lag behind, more batches follow: all kills fall into the work."""
    ledger = Ledger.at(tmp_path)
    function = partial(journalled_square, ledger)
    values: list[int] = []
    deaths: list[millpond.WorkerDied] = []
    asked = 0
    random = seeded()
    with running(WORKERS) as pool:
        killer = Killer(pool, ledger, random)
        killer.start()
        try:
            while asked < TASKS or len(killer.victims) < KILLS:
                assert killer.is_alive() or len(killer.victims) == KILLS
                answers = ask_in_every_way(pool, function, asked)
                values += answers.values
                deaths += answers.deaths
                asked += BATCH
        finally:
            killer.stop()
        # One that was just killed may still count as alive.
        wait_until(lambda: whole(pool, killer.victims), "the pool to be whole again")
        stats = pool.stats()
        assert pool.map(abs, range(-50, 0)) == list(range(50, 0, -1))
    print(f"{asked} tasks, {len(killer.victims)} kills, {len(deaths)} tasks died with a worker")
    assert len(values) + len(deaths) == asked
    check_answers(ledger, asked, values)
    check_deaths(deaths, killer.victims)
    check_counts(stats, kills=len(killer.victims), completed=len(values))


def whole(pool: millpond.Pool, victims: list[int]) -> bool:
    return len(pids_of(pool).difference(victims)) == WORKERS


def check_answers(ledger: Ledger, asked: int, values: list[int]) -> None:
    """Every value is of a task that ended, and every task without a value is one that died."""
    roots = {x * x: x for x in range(asked)}
    resolved = [roots[value] for value in values]
    failed = set(range(asked)).difference(resolved)
    judgement = ledger.judge(range(asked), resolved=resolved, failed=failed)
    assert judgement.fair, judgement


def check_deaths(deaths: list[millpond.WorkerDied], victims: list[int]) -> None:
    """A kill takes one task with it at most, and nothing but a kill does."""
    pids = [death.pid for death in deaths]
    assert len(pids) == len(set(pids))
    assert set(pids) <= set(victims)
    assert {death.exitcode for death in deaths} <= {-signal.SIGKILL}
    assert deaths, "no kill has hit a task"


def check_counts(stats: dict[str, int], kills: int, completed: int) -> None:
    """The pool has counted what was done to it; a task that died after its end counts as completed."""
    assert kills == KILLS
    assert stats["worker_deaths"] == kills
    assert stats["replacements"] == kills
    assert stats["damaged"] == 0
    assert stats["tasks_completed"] >= completed
