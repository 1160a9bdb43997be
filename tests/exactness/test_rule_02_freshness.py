"""Rule 2: what the parent changed before a dispatch is seen by it, callable first, then
arguments."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, ClassVar

import pytest
from testkit.oracle import Pool

from exactness.calls import by_every_call
from exactness.gate import gate, let_through, pass_gate
from exactness.material import (
    BINDINGS,
    HEAVIEST,
    HEAVY,
    LIGHT,
    MATERIALS,
    Holder,
    all_sizes,
    bindings,
    floats,
    glance,
    ints,
    materials,
    mixed,
    sizes,
    spoil,
    words,
)
from exactness.twin import both_allowed, same

PIPE = 65536


def look(x: object, d: Any) -> object:
    return glance(d)


def first(x: object, d: Any) -> Any:
    return d[0]


def edges(x: object, d: Any) -> Any:
    return type(d).__name__, len(d), d[:3], d[-3:]


# --- between two calls of apply -----------------------------------------------------------------


def _swap(d: list[Any]) -> None:
    d[0], d[-1] = d[-1], d[0]


def _append_then_pop(d: list[Any]) -> None:
    d.append(7)
    d.pop()


def _clear_and_refill(d: list[Any]) -> None:
    d.clear()
    d.extend(range(2000, 2005))


CHANGES: dict[str, Callable[[list[Any]], object]] = {
    "add one to the first": lambda d: d.__setitem__(0, d[0] + 1),
    "last": lambda d: d.__setitem__(-1, -1),
    "middle": lambda d: d.__setitem__(len(d) // 2, None),
    "append": lambda d: d.append(7),
    "pop": lambda d: d.pop(),
    "append then pop": _append_then_pop,
    "sort": lambda d: d.sort(reverse=d[0] < d[-1]),
    "reverse": lambda d: d.reverse(),
    "swap": _swap,
    "clear and refill": _clear_and_refill,
    "all of it, same length": lambda d: d.__setitem__(slice(None), [i + 1 for i in d]),
    "equal float": lambda d: d.__setitem__(0, float(d[0])),
    "equal bool": lambda d: d.__setitem__(slice(0, 2), [True, 1.0] if d[0] is not True else [1, 1]),
    "zero and its negative": lambda d: d.__setitem__(0, 0.0 if str(d[0]) == "-0.0" else -0.0),
    "equal int": lambda d: d.__setitem__(0, int(str(d[0]))),
    "opaque neighbour": lambda d: d.__setitem__(0, [d[1]]),
    "itself": lambda d: d.__setitem__(0, d),
}


@sizes
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_between_two_dispatches_is_seen(change: str, n: int) -> None:
    """Rule 2: verified at each dispatch, by content, order, type, length; never by address
    alone."""

    def program(pool: Pool) -> object:
        bound = ints(n)
        callee = partial(edges, d=bound)
        seen = []
        for _ in range(4):
            seen.append((pool.apply(callee, (0,)), pool.map(partial(look, d=bound), range(2), 1)))
            CHANGES[change](bound)
        return seen

    same(program)


@sizes
@materials
def test_every_material_is_seen_changed(material: str, n: int) -> None:
    """Rule 2, by every call: the change comes between two calls on one callable."""

    def program(pool: Pool) -> object:
        bound = MATERIALS[material](n)
        callee = partial(look, d=bound)
        seen = []
        for _ in range(3):
            seen.append(by_every_call(pool, callee, range(2), ["apply", "map 2", "imap 1"]))
            spoil(bound)
        return seen

    same(program)


@sizes
@bindings
def test_every_binding_is_seen_changed(binding: str, n: int) -> None:
    """Rule 2, however the heavy part hangs in the callable."""

    def program(pool: Pool) -> object:
        bound = ints(n)
        callee = BINDINGS[binding](first, bound)
        seen = []
        for _ in range(4):
            seen.append(by_every_call(pool, callee, range(2), ["apply", "map 2", "imap 1"]))
            bound[0] += 1
        return seen

    same(program)


@sizes
def test_a_partial_changed_in_place_is_seen(n: int) -> None:
    """Rule 2: `partial.keywords` is a dict, and an instance's attributes can be set."""

    def program(pool: Pool) -> object:
        callee, holder = partial(edges, d=ints(n)), Holder(edges, ints(n))
        method = holder.run
        seen = []
        for other in (words(n), floats(n), tuple(ints(n)), mixed(n)):
            callee.keywords["d"] = other
            holder.bound = other
            seen.append(
                (pool.apply(callee, (0,)), pool.apply(method, (0,)), pool.apply(holder, (0,)))
            )
        callee.keywords["d"] = ints(n)
        holder.task = first
        seen.append((pool.apply(callee, (0,)), pool.apply(method, (0,)), pool.apply(holder, (0,))))
        callee.__setstate__(  # type: ignore[attr-defined]
            (first, (), {"d": words(n)}, {})
        )
        return [*seen, pool.apply(callee, (0,))]

    same(program)


def element(x: int, d: list[Any]) -> Any:
    return type(d[x]).__name__, d[x]


MAKERS: dict[str, Callable[[int], Any]] = {
    "int": lambda i: 10**6 + i,
    "big int": lambda i: 10**30 + i,
    "float": lambda i: i + 0.5,
    "str": lambda i: f"replaced {i:05}",
    "bytes": lambda i: b"replaced %05d" % i,
    "complex": lambda i: complex(i, 1),
}


@sizes
@pytest.mark.parametrize("kind", MAKERS)
def test_a_new_atom_at_the_address_of_the_old_is_seen(kind: str, n: int) -> None:
    """Rule 2: the old atom is freed by the replacement, so the next takes its place in memory."""

    def program(pool: Pool) -> object:
        bound = [MAKERS[kind](-i) for i in range(n)]
        callee = partial(element, d=bound)
        seen = []
        for i in range(12):
            at = i % 3
            bound[at] = None
            bound[at] = MAKERS[kind](i)
            seen.append(pool.apply(callee, (at,)))
        return seen

    assert same(program)[-1] == (type(MAKERS[kind](11)).__name__, MAKERS[kind](11))


REBUILT: dict[str, Callable[[int, int], Any]] = {
    "list": lambda i, n: list(range(i, i + n)),
    "tuple": lambda i, n: tuple(range(i, i + n)),
    "same edges": lambda i, n: [0, *range(i, i + n), 0],
    "words": lambda i, n: [f"{i}"] * n,
    "floats": lambda i, n: [i / 3] * n,
    "mostly equal": lambda i, n: [*range(1000, 1000 + n), i],
}


@all_sizes
@pytest.mark.parametrize("kind", REBUILT)
def test_a_list_at_the_address_of_a_freed_one_is_not_taken_for_it(kind: str, n: int) -> None:
    """Rules 2 and 8: partial and list are made anew, so `id()` is likely reused."""

    def program(pool: Pool) -> object:
        return [pool.apply(partial(edges, d=REBUILT[kind](i, n)), (0,)) for i in range(8)]

    same(program)


@sizes
def test_an_argument_at_the_address_of_a_freed_one_is_not_taken_for_it(n: int) -> None:
    """Rules 2 and 8, for arguments, of apply and drawn one at a time."""

    def program(pool: Pool) -> object:
        return [
            [pool.apply(edges, (0, list(range(i, i + n)))) for i in range(6)],
            [pool.apply(edges, (0,), {"d": tuple(range(i, i + n))}) for i in range(6)],
            list(pool.imap(partial(edges, 0), (list(range(i, i + n)) for i in range(6)))),
        ]

    same(program)


@sizes
def test_an_argument_changed_between_calls_is_seen(n: int) -> None:
    """Rule 2: arguments are looked at as often as callables."""

    def program(pool: Pool) -> object:
        part = ints(n)
        seen = []
        for i in range(5):
            seen.append((pool.apply(edges, (0, part)), pool.apply(edges, (0,), {"d": part})))
            part[i % 3] += 1
        return seen

    same(program)


@sizes
def test_a_change_made_by_a_callback_is_seen_after_get(n: int) -> None:
    """Rules 2 and 11: the callback has returned before `get` does, in another thread."""

    def program(pool: Pool) -> object:
        bound = ints(n)

        def change(answer: int) -> None:
            bound[0] = answer + 1

        callee = partial(first, d=bound)
        return [pool.apply_async(callee, (0,), callback=change).get() for _ in range(6)]

    assert same(program) == [1000, 1001, 1002, 1003, 1004, 1005]


# --- while the job is drawn and pickled ---------------------------------------------------------


@sizes
@pytest.mark.parametrize("chunksize", [1, 2, 3])
def test_a_generator_that_changes_what_is_bound_is_seen_at_each_dispatch(
    chunksize: int, n: int
) -> None:
    """Rule 2: a chunk is drawn, then pickled, then the next is drawn: item i shows the chunk's
    last."""

    def program(pool: Pool) -> object:
        bound = ints(n)

        def changing() -> Iterator[int]:
            for i in range(9):
                bound[0] = i
                yield i

        return [
            list(pool.imap(partial(first, d=bound), changing(), chunksize)),
            list(pool.imap_unordered(partial(first, d=bound), changing(), chunksize)),
        ]

    expected = [i - i % chunksize + chunksize - 1 for i in range(9)]
    assert same(program) == [[min(i, 8) for i in expected]] * 2


@sizes
def test_a_map_draws_everything_before_it_dispatches(n: int) -> None:
    """Rule 2: `map` makes a list of its iterable first."""

    def program(pool: Pool) -> object:
        bound = ints(n)

        def changing() -> Iterator[int]:
            for i in range(6):
                bound[0] = i
                yield i

        return pool.map(partial(first, d=bound), changing(), 1)

    assert same(program) == [5] * 6


class Changes:
    """An argument whose pickling changes another object of the parent."""

    target: ClassVar[list[int]] = []

    def __reduce__(self) -> tuple[type[int], tuple[int]]:
        self.target[0] += 1
        return int, (0,)


@sizes
def test_the_callable_is_verified_before_its_arguments_are_pickled(n: int) -> None:
    """Rule 2: an argument's `__reduce__` changes what is bound; each task shows the task before: 0
    1 2 3."""

    def program(pool: Pool) -> object:
        bound = Changes.target = [0, *range(n)]
        callee = partial(first, d=bound)
        answers = [
            [pool.apply(callee, (Changes(),)) for _ in range(4)],
            list(pool.imap(callee, [Changes() for _ in range(4)])),
            pool.map(callee, [Changes() for _ in range(4)], 1),
            pool.map(callee, [Changes() for _ in range(4)], 2),
            list(pool.imap(callee, [Changes(), 1, Changes(), 2, 3], 2)),
        ]
        Changes.target = []
        return answers, bound[0]

    assert same(program)[0][0] == [0, 1, 2, 3]


def firsts(*args: Any, **kwds: Any) -> object:
    return [part[0] for part in (*args, *kwds.values()) if isinstance(part, list | tuple)]


@sizes
def test_arguments_are_pickled_in_their_order(n: int) -> None:
    """Rule 2: what stands before an argument that changes it travels unchanged, what comes after
    changed."""

    def program(pool: Pool) -> object:
        bound = Changes.target = [0, *range(n)]
        before, after = [0, *range(n)], [0, *range(n)]
        answers = []
        for target in (before, after, bound):
            Changes.target = target
            for _ in range(2):
                callee = partial(firsts, bound)
                answers.append(
                    pool.apply(callee, (before, Changes(), after), {"k": Changes(), "d": [5]})
                )
                answers.append(
                    pool.apply(firsts, (Changes(),), {"a": before, "b": Changes(), "c": after})
                )
        Changes.target = []
        return answers

    same(program)


# --- how far dispatch may run ahead -------------------------------------------------------------


def gated_first(x: object, d: list[int]) -> int:
    pass_gate()
    return d[0]


def gated_lag(x: int, d: list[int]) -> int:
    """How many answers the parent had consumed fewer, when this was pickled, than tasks before
    it."""
    pass_gate()
    return x - d[0]


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("n", [LIGHT, 1500, HEAVY, HEAVIEST])
def test_imap_runs_ahead_no_farther_than_64_kib(n: int, processes: int) -> None:
    """Rule 2: 0 0 0 1 2 3: running ones, and one that waits; or what 64 KiB hold."""
    callee = partial(gated_lag, d=[0, *range(1000, 1000 + n)])
    waiting = PIPE // len(pickle.dumps((0, 0, callee, (0,), {}))) + 1
    tasks = 60 if n <= 1500 else 20

    def program(pool: Pool) -> object:
        bound = [0, *range(1000, 1000 + n)]
        lags = []
        let_through(processes)
        for i, lag in enumerate(pool.imap_unordered(partial(gated_lag, d=bound), range(tasks))):
            lags.append(lag)
            bound[0] += 1
            if i + processes < tasks:
                let_through()
        return lags

    def allowed(lags: list[int]) -> bool:
        return all(0 <= lag <= waiting + 2 * processes - 1 for lag in lags) and len(lags) == tasks

    with gate():
        both_allowed(program, allowed, processes=processes)


def _apply_async(pool: Pool, callee: Callable[[int], int], tasks: int) -> Callable[[], list[int]]:
    results = [pool.apply_async(callee, (i,)) for i in range(tasks)]
    return lambda: [result.get() for result in results]


def _map_async(pool: Pool, callee: Callable[[int], int], tasks: int) -> Callable[[], list[int]]:
    return pool.map_async(callee, range(tasks), 1).get


def _starmap_async(pool: Pool, callee: Callable[[int], int], tasks: int) -> Callable[[], list[int]]:
    return pool.starmap_async(callee, [(i,) for i in range(tasks)], 1).get


def _imap(pool: Pool, callee: Callable[[int], int], tasks: int) -> Callable[[], list[int]]:
    iterator = pool.imap(callee, range(tasks))
    return lambda: list(iterator)


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("submit", [_apply_async, _map_async, _starmap_async, _imap])
@pytest.mark.parametrize("n", [HEAVY, HEAVIEST])
def test_what_does_not_fit_waits_unpickled(
    submit: Callable[[Pool, Callable[[int], int], int], Callable[[], list[int]]],
    n: int,
    processes: int,
) -> None:
    """Rule 2: 12 heavy tasks are submitted, then `L[0] = 1`: only what was claimed or next shows
    0."""

    def program(pool: Pool) -> object:
        bound = [0, *range(1000, 1000 + n)]
        get = submit(pool, partial(gated_first, d=bound), 12)
        bound[0] = 1
        let_through(12)
        return get()

    def allowed(answers: list[int]) -> bool:
        return answers == sorted(answers) and answers.count(0) <= processes + 1

    with gate():
        both_allowed(program, allowed, processes=processes)


@pytest.mark.parametrize("n", [HEAVY])
def test_heavy_arguments_wait_unpickled_too(n: int) -> None:
    """Rule 2: 64 KiB are counted over callable and arguments."""

    def program(pool: Pool) -> object:
        part = [0, *range(1000, 1000 + n)]
        results = [pool.apply_async(gated_first, (i, part)) for i in range(12)]
        part[0] = 1
        let_through(12)
        return [result.get() for result in results]

    def allowed(answers: list[int]) -> bool:
        return answers == sorted(answers) and answers.count(0) <= 2

    with gate():
        both_allowed(program, allowed)
