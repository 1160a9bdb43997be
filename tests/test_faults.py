"""The crash matrix: every way a worker can die in a task, for every way a task can be asked for.

A death is an error of its own task and of nothing else. The ledger judges, not the pool.
"""

from __future__ import annotations

import pickle
import signal
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Any

import millpond
import pytest
from testkit.ledger import Ledger, wait_until
from testkit.pools import running, workers_of
from testkit.work import (
    die,
    journalled_square,
    journalled_square_or_death,
    pid_of_worker,
    square,
)

DEATHS: dict[str, int] = {
    "kill": -signal.SIGKILL,
    "segfault": -signal.SIGSEGV,
    "exit": 3,
    "exit 0": 0,
    "abort": -signal.SIGABRT,
}
COUNT = 12
DOOMED = 5

Outcomes = dict[int, object]


def collect(calls: Iterator[tuple[int, Callable[[], object]]]) -> Outcomes:
    """Value or error of each task."""
    outcomes: Outcomes = {}
    for x, call in calls:
        try:
            outcomes[x] = call()
        except millpond.WorkerDied as death:
            outcomes[x] = death
    return outcomes


def by_apply(pool: Any, function: Callable[[int], int]) -> Outcomes:
    return collect((x, partial(pool.apply, function, (x,))) for x in range(COUNT))


def by_apply_async(pool: Any, function: Callable[[int], int]) -> Outcomes:
    results = [pool.apply_async(function, (x,)) for x in range(COUNT)]
    return collect((x, result.get) for x, result in enumerate(results))


def only_item_of(result: Any) -> object:
    (item,) = result.get()
    return item


def by_map_async(pool: Any, function: Callable[[int], int]) -> Outcomes:
    """One job for each task: a map's first error is the whole map's answer."""
    results = [pool.map_async(function, [x]) for x in range(COUNT)]
    return collect((x, partial(only_item_of, result)) for x, result in enumerate(results))


def by_imap(pool: Any, function: Callable[[int], int]) -> Outcomes:
    results = pool.imap(function, range(COUNT))
    return collect((x, lambda: next(results)) for x in range(COUNT))


def by_imap_unordered(pool: Any, function: Callable[[int], int]) -> Outcomes:
    """Which result is whose is told by the values; the death is the one that is none."""
    results = pool.imap_unordered(function, range(COUNT))
    outcomes = collect((x, lambda: next(results)) for x in range(COUNT))
    squares = {x * x: x for x in range(COUNT)}
    return {squares.get(value, DOOMED): value for value in outcomes.values()}  # type: ignore[call-overload]


WAYS: dict[str, Callable[[Any, Callable[[int], int]], Outcomes]] = {
    "apply": by_apply,
    "apply_async": by_apply_async,
    "map_async": by_map_async,
    "imap": by_imap,
    "imap_unordered": by_imap_unordered,
}


def check_cell(how: str, way: str, start_method: str, directory: Path) -> None:
    ledger = Ledger.at(directory)
    function = partial(journalled_square_or_death, ledger, how, DOOMED)
    with running(2, start_method) as pool:
        before = {worker.pid for worker in workers_of(pool)}
        outcomes = WAYS[way](pool, function)
        death = outcomes.pop(DOOMED)
        assert isinstance(death, millpond.WorkerDied)
        assert outcomes == {x: x * x for x in range(COUNT) if x != DOOMED}
        check_death(death, how, ledger)
        check_recovery(pool, before, death.pid)
    assert ledger.judge(range(COUNT), resolved=outcomes, failed=[DOOMED]).fair


def check_death(death: millpond.WorkerDied, how: str, ledger: Ledger) -> None:
    """It tells who died, how, and in which task."""
    assert isinstance(death, BrokenProcessPool)
    doomed = [entry.pid for entry in ledger.entries() if entry.task == str(DOOMED)]
    assert [death.pid] == doomed
    assert death.exitcode == DEATHS[how]
    assert str(death.pid) in str(death)
    assert death.task in str(death)


def check_recovery(pool: Any, before: set[int], dead: int) -> None:
    """The dead worker is replaced; the other one is the old one; both work."""

    def whole() -> bool:
        pids = {worker.pid for worker in workers_of(pool) if worker.is_alive()}
        return len(pids) == 2 and dead not in pids

    wait_until(whole, "the pool to be whole again")
    assert before - {dead} <= {worker.pid for worker in workers_of(pool)}
    assert pool.map(square, range(50)) == [x * x for x in range(50)]


@pytest.mark.parametrize("how", DEATHS)
@pytest.mark.parametrize("way", WAYS)
def test_a_dying_worker_ends_its_own_task_with_WorkerDied_and_no_other(
    how: str, way: str, tmp_path: Path
) -> None:
    check_cell(how, way, "fork", tmp_path)


@pytest.mark.parametrize("start_method", ["spawn", "forkserver"])
@pytest.mark.parametrize(
    ("how", "way"), [("kill", "imap"), ("exit", "apply"), ("segfault", "map_async")]
)
def test_a_death_is_told_alike_however_the_worker_was_started(
    start_method: str, how: str, way: str, tmp_path: Path
) -> None:
    """A forkserver's worker is nobody's child here, and yet its exit code must be known."""
    check_cell(how, way, start_method, tmp_path)


def test_a_death_in_a_map_is_the_maps_error_after_all_other_chunks_are_done(tmp_path: Path) -> None:
    """As with an exception in the standard library: the map ends when its last chunk has ended."""
    ledger = Ledger.at(tmp_path)
    function = partial(journalled_square_or_death, ledger, "kill", DOOMED)
    with running(2) as pool:
        with pytest.raises(millpond.WorkerDied) as caught:
            pool.map(function, range(COUNT), chunksize=1)
        assert str(DOOMED) in caught.value.task, "the task tells its index"
        assert {int(task) for task in ledger.tasks("end")} == set(range(COUNT)) - {DOOMED}


def test_a_death_takes_its_whole_chunk_and_only_that(tmp_path: Path) -> None:
    """A chunk is the unit of failure: its later items are not begun, its earlier results gone."""
    ledger = Ledger.at(tmp_path)
    function = partial(journalled_square_or_death, ledger, "kill", DOOMED)
    with running(2) as pool:
        results = pool.imap(function, range(COUNT), chunksize=4)
        assert [next(results) for _ in range(4)] == [0, 1, 4, 9]
        with pytest.raises(millpond.WorkerDied):
            next(results)
        wait_until(lambda: ledger.count("end", COUNT - 1), "the last chunk to be done")
    assert {int(task) for task in ledger.tasks("begin")} == set(range(COUNT)) - {6, 7}


def test_error_callbacks_are_told_of_deaths() -> None:
    told: list[BaseException] = []
    with running(1) as pool:
        result = pool.apply_async(die, ("kill",), error_callback=told.append)
        with pytest.raises(millpond.WorkerDied):
            result.get()
    assert [type(error) for error in told] == [millpond.WorkerDied]


@pytest.mark.limit_s(120)
def test_a_pool_lives_through_many_deaths_of_all_its_workers(tmp_path: Path) -> None:
    """Deaths after a claim are not failed starts: no number of them breaks the pool."""
    ledger = Ledger.at(tmp_path)
    with running(4) as pool:
        deaths = [pool.apply_async(die, ("kill",)) for _ in range(20)]
        works = [pool.apply_async(journalled_square, (ledger, x)) for x in range(200)]
        for death in deaths:
            with pytest.raises(millpond.WorkerDied):
                death.get()
        assert [work.get() for work in works] == [x * x for x in range(200)]
    assert ledger.judge(range(200), resolved=range(200)).fair


def test_a_death_is_told_though_nobody_waits_for_it() -> None:
    """No progress depends on a caller: `ready()` turns true by itself."""
    with running(1) as pool:
        result = pool.apply_async(die, ("kill",))
        wait_until(result.ready, "the death to be told")
        assert not result.successful()
        assert isinstance(pool.apply(pid_of_worker), int)


@pytest.mark.parametrize("bound", [False, True])
def test_WorkerDied_names_the_function_and_which_of_its_tasks_it_was(bound: bool) -> None:
    """Of a partial it names the function within: 'partial' helps nobody to find the task."""
    with running(1) as pool:
        function = partial(die_at, 5) if bound else die_at_five
        results = pool.imap(function, range(8))
        assert [next(results) for _ in range(5)] == list(range(5))
        with pytest.raises(millpond.WorkerDied) as caught:
            next(results)
        assert function_name(function) in caught.value.task
        assert "5" in caught.value.task


def die_at(doomed: int, x: int) -> int:
    if x == doomed:
        die("kill")
    return x


def die_at_five(x: int) -> int:
    return die_at(5, x)


def function_name(function: Any) -> str:
    return str(getattr(function, "func", function).__name__)


def test_WorkerDied_can_be_pickled() -> None:
    """It may be the result of a task of an outer pool."""
    with running(1) as pool:
        result = pool.apply_async(die, ("exit",))
        with pytest.raises(millpond.WorkerDied) as caught:
            result.get()
    copy = pickle.loads(pickle.dumps(caught.value))
    assert isinstance(copy, millpond.WorkerDied)
    assert (copy.pid, copy.exitcode, copy.task) == (
        caught.value.pid,
        caught.value.exitcode,
        caught.value.task,
    )
    assert str(copy) == str(caught.value)
