"""Rule 1: each task sees its bound arguments pristine; a copy is shared in a chunk and only
there."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from testkit.oracle import Pool

from exactness.calls import FRESH_EACH_ITEM, attempt, by_every_call
from exactness.material import (
    BINDINGS,
    HEAVY,
    MATERIALS,
    all_sizes,
    bindings,
    glance,
    ints,
    materials,
    sizes,
    spoil,
)
from exactness.twin import same


def _extend_then_truncate(d: list[Any]) -> None:
    length = len(d)
    d.extend(range(length))
    del d[length:]


def _append_then_pop(d: list[Any]) -> None:
    d.append(0)
    d.pop()


def _swap(d: list[Any]) -> None:
    d[0], d[-1] = d[-1], d[0]


def _equal_of_another_type(d: list[Any]) -> None:
    d[0] = float(d[0])


def _equal_of_the_same_type(d: list[Any]) -> None:
    d[0] = int(str(d[0]))


MUTATIONS: dict[str, Callable[[list[Any]], object]] = {
    "append": lambda d: d.append(0),
    "setitem": lambda d: d.__setitem__(1, -1),
    "set the last": lambda d: d.__setitem__(-1, -1),
    "sort": lambda d: d.sort(reverse=True),
    "reverse": lambda d: d.reverse(),
    "clear": lambda d: d.clear(),
    "delete": lambda d: d.__delitem__(slice(1, 3)),
    "insert": lambda d: d.insert(0, "first"),
    "slice of the same length": lambda d: d.__setitem__(slice(0, 2), ["a", "b"]),
    "all of it": lambda d: d.__setitem__(slice(None), [0] * len(d)),
    "twice": lambda d: d.__imul__(2),
    "extend then truncate": _extend_then_truncate,
    "append then pop": _append_then_pop,
    "swap": _swap,
    "itself in it": lambda d: d.append(d),
    "equal of another type": _equal_of_another_type,
    "equal of the same type": _equal_of_the_same_type,
}


def mutate(x: int, d: list[Any], how: str) -> object:
    before = glance(d)
    MUTATIONS[how](d)
    return x, before, glance(d)


@sizes
@pytest.mark.parametrize("how", MUTATIONS)
def test_no_mutation_is_seen_by_the_next_task(how: str, n: int) -> None:
    """Rule 1, by every call and chunksize; `glance` tells content, types and allocation."""

    def program(pool: Pool) -> object:
        return by_every_call(pool, partial(mutate, d=ints(n), how=how), range(5))

    answers = same(program)
    for name in FRESH_EACH_ITEM:
        assert len({before for _, before, _ in answers[name]}) == 1


def spoil_and_tell(x: object, d: Any) -> object:
    before = glance(d)
    spoil(d)
    return before, glance(d)


@sizes
@materials
def test_every_material_arrives_pristine(material: str, n: int) -> None:
    """Rule 1, for what is stored and for what is pickled per task, and for both together."""

    def program(pool: Pool) -> object:
        return by_every_call(
            pool,
            partial(spoil_and_tell, d=MATERIALS[material](n)),
            range(4),
            ["apply", "map 2", "imap 1", "imap_unordered 3", "starmap_async 4"],
        )

    same(program)


@sizes
@bindings
@pytest.mark.parametrize("material", ["ints", "tuple of lists", "opaque beside"])
def test_every_binding_arrives_pristine(material: str, binding: str, n: int) -> None:
    """Rule 1, however the heavy part hangs in the callable."""

    def program(pool: Pool) -> object:
        callee = BINDINGS[binding](spoil_and_tell, MATERIALS[material](n))
        return by_every_call(pool, callee, range(4), ["apply", "map 2", "imap 1", "starmap 1"])

    same(program)


def appended_length(x: object, d: list[int]) -> int:
    d.append(0)
    return len(d)


@all_sizes
def test_a_copy_is_shared_within_a_chunk_and_only_there(n: int) -> None:
    """Rule 1: 1 2 3 4 at chunksize 4, and 1 2 1 2 at chunksize 2, above what was bound."""

    def program(pool: Pool) -> object:
        callee = partial(appended_length, d=ints(n))
        return [pool.map(callee, range(4), size) for size in (1, 2, 4)]

    assert same(program) == [
        [n + 1] * 4,
        [n + 1, n + 2] * 2,
        [n + 1, n + 2, n + 3, n + 4],
    ]


@all_sizes
def test_two_workers_are_as_pristine_as_one(n: int) -> None:
    """Rule 1: a copy cached by each worker."""

    def program(pool: Pool) -> object:
        callee = partial(appended_length, d=ints(n))
        return [list(pool.imap(callee, range(12))), pool.map(callee, range(12), 3)]

    same(program, processes=2)


@sizes
@pytest.mark.parametrize("start_method", ["spawn", "forkserver"])
def test_workers_started_otherwise_are_as_pristine(start_method: str, n: int) -> None:
    """Rule 1, where nothing is inherited."""

    def program(pool: Pool) -> object:
        callee = partial(mutate, d=ints(n), how="append then pop")
        return by_every_call(pool, callee, range(4))

    same(program, start_method=start_method)


def mutate_and_raise(x: int, d: list[int]) -> object:
    before = glance(d)
    d.append(x)
    if x % 2:
        raise ValueError(before, glance(d))
    return before, glance(d)


@sizes
def test_a_task_that_raised_has_spoilt_nothing(n: int) -> None:
    """Rule 1: the check after a task is made after a failed one too."""

    def program(pool: Pool) -> object:
        callee = partial(mutate_and_raise, d=ints(n))
        return [attempt(partial(pool.apply, callee, (x,))) for x in range(5)]

    same(program)


def spoil_arguments(*args: Any, **kwds: Any) -> object:
    before = [glance(part) for part in (*args, *kwds.values())]
    for part in (*args, *kwds.values()):
        spoil(part)
    return before


@sizes
@materials
def test_arguments_arrive_pristine_too(material: str, n: int) -> None:
    """Rule 1, for a large argument that the parent passes again and again."""

    def program(pool: Pool) -> object:
        part, other = MATERIALS[material](n), ints(n)
        return [
            [pool.apply(spoil_arguments, (part, 1), {"key": other}) for _ in range(3)],
            list(pool.imap(spoil_arguments, [part, part, other, part])),
            pool.map(spoil_arguments, [part, part, other, part], 2),
            pool.starmap(spoil_arguments, [(part, other), (other, part)], 1),
        ]

    same(program)


def sizes_after_append_and_pop(x: object, d: list[int]) -> tuple[int, int]:
    before = sys.getsizeof(d)
    d.append(0)
    d.pop()
    return before, sys.getsizeof(d)


@all_sizes
def test_the_allocated_size_is_pristine_too(n: int) -> None:
    """Rule 1: `d.append(0); d.pop()` leaves equal content and another `sys.getsizeof`."""

    def program(pool: Pool) -> object:
        callee = partial(sizes_after_append_and_pop, d=list(range(n)))
        return list(pool.imap(callee, range(4)))

    assert len(set(same(program))) == 1


def default_argument(x: int, d: list[int] = list(range(HEAVY))) -> int:
    d.append(x)
    return len(d)


def test_a_default_argument_is_by_name_and_keeps_what_tasks_did() -> None:
    """Rules 1 and 10: what is not bound does not travel, so nothing makes it pristine."""

    def program(pool: Pool) -> object:
        return by_every_call(pool, default_argument, range(4))

    assert same(program)["apply"] == [HEAVY + 1, HEAVY + 2, HEAVY + 3, HEAVY + 4]
