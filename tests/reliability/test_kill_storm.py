"""The kill storm: random workers are killed while tasks of all kinds run, and none is lost.

The ledger judges what ran, not the pool. It also drives the killer.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import millpond
import pytest
from testkit.forms import by_form, seeded
from testkit.killer import Killer, marks
from testkit.ledger import Ledger, wait_until
from testkit.pools import is_whole, running
from testkit.work import journalled_square

TASKS = by_form(5_000, 100_000)
KILLS = by_form(100, 1_000)
WORKERS = 8
BATCH = 500


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
        killer = Killer(pool, ledger, marks(random, TASKS, KILLS))
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
        wait_until(lambda: is_whole(pool, WORKERS, killer.victims), "the pool to be whole again")
        stats = pool.stats()
        assert pool.map(abs, range(-50, 0)) == list(range(50, 0, -1))
    print(f"{asked} tasks, {len(killer.victims)} kills, {len(deaths)} tasks died with a worker")
    assert len(values) + len(deaths) == asked
    check_answers(ledger, asked, values)
    check_deaths(deaths, killer.victims)
    assert len(killer.victims) == KILLS
    check_counts(stats, asked, completed=len(values))


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


def check_counts(stats: millpond.Stats, asked: int, completed: int) -> None:
    """The pool has counted what was done to it, and nothing else.

    A worker counts a task before it completes it, so one that was killed in between has counted a task
    that died.
    """
    assert stats.deaths == {"SIGKILL": KILLS}
    assert stats["worker_deaths"] == stats["replacements"] == KILLS
    assert stats["tasks_dispatched"] == asked
    assert completed <= stats["tasks_completed"] <= asked
    for name in ("retries", "timeouts", "memory_kills", "jobs_cancelled", "damaged"):
        assert stats[name] == 0, name
