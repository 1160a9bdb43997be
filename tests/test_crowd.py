"""More workers than CPUs: none is woken for nothing, and none is left asleep."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from testkit.forms import by_form
from testkit.ledger import wait_until
from testkit.pools import running
from testkit.work import identity, meet, square, wait_for

CPUS = len(os.sched_getaffinity(0))
CROWD = 3 * CPUS + 2
"""So many workers that most of them sleep while tasks are short."""


def assert_none_was_rescued(pool: Any) -> None:
    """No worker found by itself, after a second, what it should have been woken for."""
    assert pool.stats()["rescued_wakeups"] == 0


@pytest.mark.parametrize("attempt", range(by_form(10, 200)))
def test_long_tasks_behind_short_ones_wake_all_workers(attempt: int, tmp_path: Path) -> None:
    """The short ones are claimed so briskly that wakes are held back when the long ones come."""
    with running(CROWD) as pool:
        streamed = pool.imap(identity, range(3000))
        # A meeting ends when as many have come as there are workers.
        long = [pool.apply_async(meet, (str(tmp_path), name, CROWD)) for name in range(CROWD)]
        assert list(streamed) == list(range(3000))
        assert len({result.get() for result in long}) == CROWD
        assert_none_was_rescued(pool)


def test_long_tasks_among_short_ones_hold_nothing_up(tmp_path: Path) -> None:
    with running(CROWD) as pool:
        results = []
        for round_ in range(by_form(5, 100)):
            directory = tmp_path / str(round_)
            directory.mkdir()
            for name in range(CROWD - 1):
                results.append(pool.apply_async(meet, (str(directory), name, CROWD - 1)))
                results.extend(pool.apply_async(square, (x,)) for x in range(200))
        assert len([result.get() for result in results]) == len(results)
        assert_none_was_rescued(pool)


@pytest.mark.parametrize("processes", [CPUS + 1, CROWD, 64])
def test_bursts_of_short_tasks_are_all_done(processes: int) -> None:
    with running(processes) as pool:
        for length in (1, 2, 3, 1000, 1, 5000, 7) * by_form(3, 50):
            assert list(pool.imap(square, range(length))) == [x * x for x in range(length)]
        assert_none_was_rescued(pool)


def test_a_worker_that_dies_while_wakes_are_held_leaves_no_task(tmp_path: Path) -> None:
    with running(CROWD, retries=3) as any_pool:
        pool: Any = any_pool
        results = [pool.imap(identity, range(2000)) for _ in range(3)]
        doomed = pool.apply_async(end_once, (str(tmp_path / "ended"),))
        assert [list(result) for result in results] == [list(range(2000))] * 3
        assert doomed.get() == "ended"
        wait_until(lambda: pool.stats()["replacements"] == 1, "the replacement")


def end_once(path: str) -> str:
    if not os.path.exists(path):
        Path(path).touch()
        os.kill(os.getpid(), 9)
    return "ended"


def test_workers_that_wait_in_tasks_leave_the_others_theirs(tmp_path: Path) -> None:
    """As many workers as CPUs are in tasks that only wait; the rest go on with short ones."""
    with running(CROWD) as pool:
        gate = str(tmp_path / "gate")
        waiting = [pool.apply_async(wait_for, (gate,)) for _ in range(CPUS)]
        for _ in range(3):
            assert pool.map(square, range(20_000), 1) == [x * x for x in range(20_000)]
        Path(gate).touch()
        assert [result.get() for result in waiting] == [gate] * CPUS
        assert_none_was_rescued(pool)
