"""Deadlines and retries while random workers are killed: every task ends as it should, and once.

The pool's counts are held against the ledger's. A worker that is killed between two tasks may have
claimed one, which the ledger cannot know; where all kills fall into tasks, everything is known, and
each count must be what the ledger says, to the last one.
"""

from __future__ import annotations

import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import millpond
import pytest
from testkit.forms import by_form, seeded
from testkit.killer import Killer, marks
from testkit.ledger import Ledger, wait_until
from testkit.pools import is_whole, running

TASKS = by_form(500, 20_000)
KILLS = by_form(30, 400)
WORKERS = 6
RETRIES = 3
TIMEOUT_S = 1.0
LATE = 50
"""Of so many tasks one never ends by itself."""

Outcomes = dict[int, Any]
"""What became of each task: its value, or its error."""


def work(ledger: Ledger, x: int) -> int:
    with ledger.task(x):
        if x % LATE == 0:
            time.sleep(600)
    return x * x


def outcome(result: Any) -> Any:
    try:
        return result.get(60)
    except (millpond.TaskTimeout, millpond.WorkerDied) as error:
        return error


@pytest.mark.limit_s(by_form(120, 1800))
@pytest.mark.parametrize("within_tasks", [False, True], ids=["at any moment", "within tasks"])
def test_deadlines_and_retries_hold_in_a_storm_of_kills(within_tasks: bool, tmp_path: Path) -> None:
    ledger = Ledger.at(tmp_path)
    function = partial(work, ledger)
    with running(WORKERS, timeout=TIMEOUT_S, retries=RETRIES) as pool:
        killer = Killer(pool, ledger, marks(seeded(), TASKS, KILLS), within_tasks)
        killer.start()
        try:
            results = {x: pool.apply_async(function, (x,)) for x in range(TASKS)}
            outcomes = {x: outcome(result) for x, result in results.items()}
            extra = TASKS * LATE + 1
            while len(killer.victims) < KILLS:  # where kills lag behind
                assert killer.is_alive()
                outcomes[extra] = outcome(pool.apply_async(function, (extra,)))
                extra += LATE
        finally:
            killer.stop()
        wait_until(lambda: is_whole(pool, WORKERS, killer.victims), "the pool to be whole again")
        stats = pool.stats()
        assert pool.map(abs, range(-50, 0)) == list(range(50, 0, -1))
    print(f"{len(outcomes)} tasks, {len(killer.victims)} kills, {dict(stats)}, {stats.deaths}")
    assert len(killer.victims) == KILLS
    check_outcomes(ledger, outcomes)
    check_counts(ledger, outcomes, stats)
    if within_tasks:
        check_counts_exactly(ledger, outcomes, stats, killer.victims)


def check_outcomes(ledger: Ledger, outcomes: Outcomes) -> None:
    begun = Counter(ledger.tasks("begin"))
    for x, told in outcomes.items():
        assert begun[str(x)] <= 1 + RETRIES
        if isinstance(told, millpond.WorkerDied):
            assert told.attempts == 1 + RETRIES
        elif x % LATE == 0:
            assert isinstance(told, millpond.TaskTimeout), x
        else:
            assert told == x * x


def count_of(outcomes: Outcomes, kind: type) -> int:
    return sum(isinstance(told, kind) for told in outcomes.values())


def check_counts(ledger: Ledger, outcomes: Outcomes, stats: millpond.Stats) -> None:
    """What holds wherever the kills fall."""
    timeouts, died = (
        count_of(outcomes, millpond.TaskTimeout),
        count_of(outcomes, millpond.WorkerDied),
    )
    assert stats["tasks_dispatched"] == len(outcomes)
    assert stats["timeouts"] == timeouts
    assert stats["worker_deaths"] + timeouts == stats["replacements"]
    assert stats["memory_kills"] == stats["jobs_cancelled"] == stats["damaged"] == 0
    # A kill takes one attempt at most, and whatever the ledger has seen again was tried again.
    begins = ledger.count("begin")
    assert begins - len(outcomes) <= stats["retries"] <= KILLS - died
    assert stats["worker_deaths"] <= KILLS <= stats["replacements"]


def check_counts_exactly(
    ledger: Ledger, outcomes: Outcomes, stats: millpond.Stats, victims: list[int]
) -> None:
    """Every attempt has begun in the ledger, and each kill has taken the one that its victim was in:
    that was tried again, or was the task's last, or was about to be stopped for being late.
    """
    timeouts, died = (
        count_of(outcomes, millpond.TaskTimeout),
        count_of(outcomes, millpond.WorkerDied),
    )
    begun = Counter(ledger.tasks("begin"))
    last_pid = {entry.task: entry.pid for entry in ledger.entries() if entry.event == "begin"}
    assert begun.keys() == {str(x) for x in outcomes}
    for x, told in outcomes.items():
        if isinstance(told, (millpond.TaskTimeout, millpond.WorkerDied)):
            assert (told.attempts, told.pid) == (begun[str(x)], last_pid[str(x)]), x
    both = sum(
        isinstance(told, millpond.TaskTimeout) and last_pid[str(x)] in victims
        for x, told in outcomes.items()
    )
    assert stats["retries"] == begun.total() - len(outcomes) == KILLS - died - both
    assert stats["tasks_completed"] == len(outcomes) - timeouts - died
    assert stats["worker_deaths"] == KILLS - both
    assert stats["replacements"] == KILLS - both + timeouts
    assert stats.deaths == {"SIGKILL": KILLS, "SIGTERM": timeouts - both}
