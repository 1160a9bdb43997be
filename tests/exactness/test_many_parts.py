"""Rules 1 to 4 where a callable has many heavy parts, and parts take each other's places.

A pool that keeps parts for a next dispatch drops some for others; none may go that a task names. With
`maxtasksperchild=1` no worker has a part from a task before, so each must be where the task says.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import pytest
from testkit.oracle import Pool

from exactness.material import MATERIALS, glance
from exactness.twin import same

LENGTH = 5000
lives = pytest.mark.parametrize("tasks_per_worker", [None, 1], ids=["old workers", "new workers"])


def firsts(*parts: Any) -> list[Any]:
    return [part[0] for part in parts]


def glances(*parts: Any) -> list[object]:
    return [glance(part) for part in parts]


def parts_of(count: int, start: int = 0) -> list[list[int]]:
    return [[start + i] * LENGTH for i in range(count)]


@lives
@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 40, 300])
def test_a_callable_may_have_any_number_of_parts(count: int, tasks_per_worker: int | None) -> None:
    """Rule 4: each arrives, and as itself."""

    def program(pool: Pool) -> object:
        callee = partial(firsts, *parts_of(count))
        return [
            pool.apply(callee),
            pool.map(callee, parts_of(3, 1000), 1),
            pool.map(callee, parts_of(4, 2000), 2),
            list(pool.imap(callee, parts_of(2, 3000))),
        ]

    same(program, maxtasksperchild=tasks_per_worker)


@lives
@pytest.mark.parametrize("count", [2, 3, 5, 20])
def test_parts_that_exchange_their_contents_are_seen(
    count: int, tasks_per_worker: int | None
) -> None:
    """Rule 2: each content is known from before, at another address."""

    def program(pool: Pool) -> object:
        parts = parts_of(count)
        callee, seen = partial(firsts, *parts), []
        for _ in range(5):
            seen.append(pool.apply(callee))
            contents = [part[:] for part in parts]
            for i, part in enumerate(parts):
                part[:] = contents[i - 1]
        return seen

    same(program, maxtasksperchild=tasks_per_worker)


@lives
@pytest.mark.parametrize("material", ["small ints", "words", "mixed", "floats", "tuple"])
def test_a_part_that_stays_is_there_beside_others_that_come_and_go(
    material: str, tasks_per_worker: int | None
) -> None:
    """Rule 2: a partial with one list that stays and a new one each time."""

    def program(pool: Pool) -> object:
        make = MATERIALS[material]
        stays = make(40_000)
        alive, seen = [], []
        for i in range(30):
            comes = [i, *stays[1:]]
            alive.append(comes)
            seen.append(pool.apply(partial(glances, stays, comes)))
            time.sleep(0.002)  # for the answer's bookkeeping to be done
        return seen

    same(program, maxtasksperchild=tasks_per_worker)


@lives
def test_jobs_that_wait_keep_their_parts(tasks_per_worker: int | None) -> None:
    """Rule 11: sixty callables in the line, each with parts of its own, then all of them again."""

    def program(pool: Pool) -> object:
        callees = [partial(firsts, *parts_of(2, 2 * i)) for i in range(60)]
        return [
            [result.get() for result in [pool.apply_async(callee) for callee in callees]]
            for _ in range(2)
        ]

    same(program, maxtasksperchild=tasks_per_worker)


@lives
def test_jobs_in_turn_keep_their_parts(tasks_per_worker: int | None) -> None:
    """Rule 11: the iterators of several jobs are consumed in turn."""

    def program(pool: Pool) -> object:
        iterators = [
            pool.imap(partial(firsts, *parts_of(3, 100 * i)), parts_of(4, 10_000 + i))
            for i in range(10)
        ]
        return [[next(iterator) for iterator in iterators] for _ in range(4)]

    same(program, maxtasksperchild=tasks_per_worker)


@lives
@pytest.mark.parametrize("pause_s", [0.0, 1.2, 2.5])
def test_a_part_not_used_for_long_is_there_again(
    pause_s: float, tasks_per_worker: int | None
) -> None:
    """Rules 2 and 8: what was dropped meanwhile is stored anew; what was changed is seen."""

    def program(pool: Pool) -> object:
        parts = parts_of(3)
        callee, seen = partial(firsts, *parts), []
        for _ in range(2):
            seen.append([pool.apply(callee), *pool.map(callee, parts_of(2, 50), 1)])
            time.sleep(pause_s)
            parts[1][0] += 1
        return seen

    same(program, maxtasksperchild=tasks_per_worker)


@lives
def test_starmap_with_heavy_items_keeps_what_is_bound(tasks_per_worker: int | None) -> None:
    """Found by composed programs: a bound list that stays, a tuple made anew, items of 70 kB."""

    def program(pool: Pool) -> object:
        stays, seen = [i % 50 for i in range(3000)], []
        for _ in range(40):
            new = tuple((i, i / 2, f"{i}", b"%d" % i, None, i % 2 == 0)[i % 6] for i in range(3000))
            items: list[tuple[Any]] = [([0] * 3000,), (["x" * 70_000],), ([1],), ([2],)]
            seen.append(pool.starmap(partial(firsts, stays, new), items, 2))
        return len(seen), seen[0] == seen[-1]

    same(program, maxtasksperchild=tasks_per_worker)
