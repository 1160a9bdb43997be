"""Rules 1 to 4 where a callable has many heavy parts, and parts take each other's places.

A pool that keeps parts for a next dispatch drops some for others; none may go that a task names. With
`maxtasksperchild=1` no worker has a part from a task before, so each must be where the task says.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from testkit.oracle import Pool

from exactness.material import MATERIALS, Opaque, glance
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


def met(x: Any, first: Any, second: Any) -> object:
    """Where in `first` the very lists stand that `second` and the item hold; then one is changed."""
    places = [[i for i, part in enumerate(first) if part is one[0]] for one in (second, x)]
    second[0].append("changed")
    return places, len(first[-1]), first[-1] is second[0]


INNER: dict[str, Callable[[int], list[Any]]] = {
    "ints": MATERIALS["ints"],
    "floats": MATERIALS["floats"],
    "words": lambda n: [f"word {i}" for i in range(n)],
    "lists": lambda n: [[i] for i in range(n)],
}


@lives
@pytest.mark.parametrize("kind", INNER)
@pytest.mark.parametrize("beside", ["other heavy lists", "many light ones"])
@pytest.mark.parametrize("is_first", [True, False], ids=["whole first", "list first"])
def test_a_part_that_lies_in_another_is_one_with_it(
    kind: str, beside: str, is_first: bool, tasks_per_worker: int | None
) -> None:
    """Rule 3, found by composed programs: a list that holds more heavy lists than are looked at, or
    very many objects, is a part as a whole, and one of its lists is another part by itself."""

    def program(pool: Pool) -> object:
        heavy = [INNER[kind](2100) for _ in range(6)]
        whole = heavy if beside == "other heavy lists" else [*([i] for i in range(2100)), heavy[5]]
        bound: dict[str, Any] = {"first": whole, "second": [heavy[5]]}
        if not is_first:
            bound = dict(reversed(bound.items()))
        items: list[list[Any]] = [[heavy[5]], [heavy[4]], [0]]
        seen: list[object] = []
        for _ in range(2):
            for size in (1, 2):
                seen.append(pool.map(partial(met, **bound), items, size))
            seen.append(pool.apply(met, (items[0], whole, [heavy[5]])))
            # Code of the user's runs while this one is pickled.
            seen.append(pool.apply(met, ([Opaque(heavy[5])], whole, [heavy[5]])))
            heavy[5][0] = heavy[5][1]
        return seen

    same(program, maxtasksperchild=tasks_per_worker)
