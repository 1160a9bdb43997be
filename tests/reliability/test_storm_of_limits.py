"""Deadlines and retries while random workers are killed: every task ends as it should, and once."""

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
from testkit.pools import pids_of, running

TASKS = by_form(1_000, 20_000)
KILLS = by_form(40, 400)
WORKERS = 6
RETRIES = 3
TIMEOUT_S = 1.0
LATE = 50
"""Of so many tasks one never ends by itself."""


def work(ledger: Ledger, x: int) -> int:
    with ledger.task(x):
        if x % LATE == 0:
            time.sleep(600)
    return x * x


def outcome(result: Any) -> Any:
    """The value, or the error's class."""
    try:
        return result.get(60)
    except (millpond.TaskTimeout, millpond.WorkerDied) as error:
        return type(error)


@pytest.mark.limit_s(by_form(120, 1800))
def test_deadlines_and_retries_hold_in_a_storm_of_kills(tmp_path: Path) -> None:
    ledger = Ledger.at(tmp_path)
    function = partial(work, ledger)
    with running(WORKERS, timeout=TIMEOUT_S, retries=RETRIES) as pool:
        killer = Killer(pool, ledger, marks(seeded(), TASKS, KILLS))
        killer.start()
        try:
            results = [pool.apply_async(function, (x,)) for x in range(TASKS)]
            outcomes = [outcome(result) for result in results]
            extra = 0
            while len(killer.victims) < KILLS:  # where kills lag behind
                assert killer.is_alive()
                extra += 1
                results.append(pool.apply_async(function, (TASKS * LATE + extra % LATE + 1,)))
                outcome(results[-1])
        finally:
            killer.stop()
        wait_until(lambda: len(pids_of(pool)) == WORKERS, "the pool to be whole again")
        stats = pool.stats()
        assert pool.map(abs, range(-50, 0)) == list(range(50, 0, -1))
    begun = Counter(ledger.tasks("begin"))
    print(f"{TASKS} tasks, {len(killer.victims)} kills, {dict(stats)}")
    for x, told in enumerate(outcomes):
        assert begun[str(x)] <= 1 + RETRIES
        if told is millpond.WorkerDied:
            continue  # it was killed each time; the count is judged below
        assert told == (millpond.TaskTimeout if x % LATE == 0 else x * x), x
    # Four of so few kills hardly ever meet one task.
    assert outcomes.count(millpond.WorkerDied) <= KILLS // (1 + RETRIES)
    assert stats["timeouts"] == outcomes.count(millpond.TaskTimeout)
    assert 0 < stats["retries"] <= KILLS
    assert stats["worker_deaths"] <= KILLS
    assert stats["replacements"] <= KILLS + stats["timeouts"]
