"""A heavy callable goes to each worker once, also while workers are killed and replaced.

The ledger says which workers there were: every one that has begun a task.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import millpond
import pytest
from testkit.forms import by_form, seeded
from testkit.killer import Killer, marks
from testkit.ledger import Ledger, wait_until
from testkit.pools import is_whole, running

TASKS = by_form(2_000, 50_000)
KILLS = by_form(40, 1_000)
WORKERS = 6
BOUND = list(range(20_000))


def journalled_sum(ledger: Ledger, data: list[int], x: int) -> int:
    with ledger.task(x):
        return len(data) + data[x % len(data)]


def outcome(result: millpond.AsyncResult[int]) -> int | None:
    """The value, or None if it died with its worker."""
    try:
        return result.get()
    except millpond.WorkerDied:
        return None


@pytest.mark.limit_s(by_form(120, 1800))
def test_a_storm_of_kills_ships_a_callable_once_to_each_worker(tmp_path: Path) -> None:
    """A victim has an entry in the ledger, so it had loaded and counted its copy before it was killed,
    whatever it was about then. The counts lie in memory that outlives it.
    """
    ledger = Ledger.at(tmp_path)
    function = partial(journalled_sum, ledger, BOUND)
    outcomes: dict[int, int | None] = {}
    with running(WORKERS) as pool:
        killer = Killer(pool, ledger, marks(seeded(), TASKS, KILLS))
        killer.start()
        try:
            while len(outcomes) < TASKS or len(killer.victims) < KILLS:  # kills may lag behind
                assert killer.is_alive() or len(killer.victims) == KILLS
                first = len(outcomes)
                batch = {x: pool.apply_async(function, (x,)) for x in range(first, first + TASKS)}
                outcomes |= {x: outcome(result) for x, result in batch.items()}
        finally:
            killer.stop()
        wait_until(lambda: is_whole(pool, WORKERS, killer.victims), "the pool to be whole again")
        stats = pool.stats()
    (part,) = [part for part in stats.parts if part.kind.startswith("list")]
    workers = ledger.pids()
    print(f"{len(outcomes)} tasks, {len(workers)} workers, {len(killer.victims)} kills: {part}")
    assert len(killer.victims) == len(set(killer.victims) & workers) == KILLS
    assert part.rung == "verified"
    assert part.pickled == stats["heavy_parts_pickled"] == 1
    assert part.bytes == stats["heavy_bytes_pickled"]
    assert part.loaded == stats["heavy_parts_loaded"] == len(workers)
    assert part.sent == stats["tasks_dispatched"] == len(outcomes)
    assert part.changed == 0
    for x, told in outcomes.items():
        assert told in (None, len(BOUND) + BOUND[x % len(BOUND)])
    assert list(outcomes.values()).count(None) <= KILLS
