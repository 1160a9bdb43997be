"""Rule 8: after a job the pool holds nothing of the user's, and never takes a new object for an
old."""

from __future__ import annotations

import gc
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from testkit.oracle import Pool

from exactness.calls import RUNNERS, attempt
from exactness.material import BINDINGS, Holder, Opaque, ints, mixed, sizes, words
from exactness.twin import same

PATIENCE_S = 5.0
"""The standard library's threads let go of the last task a moment after its answer."""


def soon(condition: Callable[[], bool]) -> bool:
    give_up = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > give_up:
            return False
        gc.collect()
        time.sleep(0.005)
    return True


def dead(*references: weakref.ref[Any]) -> list[bool]:
    return [soon(partial(_is_dead, reference)) for reference in references]


def _is_dead(reference: weakref.ref[Any]) -> bool:
    return reference() is None


class Tracked:
    """Of the user, with a weak reference; pickled by its attributes, as any instance is."""

    def __init__(self, part: object) -> None:
        self.part = part


class TrackedList(list[Any]):
    """As before, and a container."""


def length(x: Any, d: Any) -> int:
    return len(d)


def fail(x: Any, d: Any) -> int:
    raise ValueError(len(d))


@sizes
@pytest.mark.parametrize("runner", RUNNERS)
def test_what_was_bound_dies_after_the_job(runner: str, n: int) -> None:
    """Rule 8, while the pool lives: callable, bound containers, and what is in them."""

    def program(pool: Pool) -> object:
        element, bound = Tracked(words(n)), TrackedList(ints(n))
        bound.append(element)
        callee = partial(length, d=bound)
        references = [weakref.ref(part) for part in (element, bound, callee)]
        answers = RUNNERS[runner](pool, callee, range(4))
        del element, bound, callee
        return answers, dead(*references), pool.apply(len, ([],))

    assert same(program)[1] == [True] * 3


@sizes
@pytest.mark.parametrize("binding", BINDINGS)
def test_a_callable_dies_however_it_binds(binding: str, n: int) -> None:
    """Rule 8, for partials, methods, instances."""

    def program(pool: Pool) -> object:
        bound = [ints(n), Tracked(mixed(n))]
        callee = BINDINGS[binding](length, bound)
        references = [weakref.ref(bound[1])]
        if binding != "method":
            references.append(weakref.ref(callee))
        answers = [
            pool.apply(callee, (0,)),
            pool.map(callee, range(4)),
            list(pool.imap(callee, range(4))),
        ]
        del bound, callee
        return answers, dead(*references)

    assert all(same(program)[1])


@sizes
@pytest.mark.parametrize("runner", RUNNERS)
def test_items_die_after_the_job(runner: str, n: int) -> None:
    """Rule 8, for arguments, and the sequence that held them."""

    def program(pool: Pool) -> object:
        items = TrackedList(Tracked([i, ints(n)]) for i in range(4))
        references = [weakref.ref(items), *map(weakref.ref, items)]
        answers = RUNNERS[runner](pool, partial(length, d=ints(n)), items)
        del items
        return answers, dead(*references)

    assert all(same(program)[1])


@sizes
def test_a_failed_job_lets_go_as_well(n: int) -> None:
    """Rule 8, for tasks that raise, and for arguments that do not pickle."""

    def program(pool: Pool) -> object:
        bound, item = TrackedList(ints(n)), Tracked(0)
        bad = Tracked(lambda: 0)
        references = [weakref.ref(part) for part in (bound, item, bad)]
        told = [
            attempt(partial(pool.apply, partial(fail, d=bound), (item,))),
            attempt(partial(pool.map, partial(fail, d=bound), [item, item])),
            type(attempt(partial(pool.apply, partial(length, d=bound), (bad,)))).__name__,
        ]
        del bound, item, bad
        return told, dead(*references)

    assert all(same(program)[1])


@sizes
def test_results_callbacks_and_iterators_die(n: int) -> None:
    """Rule 8: what came back belongs to the caller alone; so do callbacks and generators."""

    def program(pool: Pool) -> object:
        calls = Holder(_ignore, None)

        def items() -> Iterator[int]:
            yield from range(3)

        generator = items()
        result = pool.apply_async(Tracked, (ints(n),), callback=calls)
        answer = result.get()
        iterator = pool.imap(partial(length, d=ints(n)), generator)
        lengths = list(iterator)
        references: list[weakref.ref[Any]] = [
            weakref.ref(part) for part in (calls, generator, result, answer, iterator)
        ]
        del calls, generator, result, answer, iterator
        pool.apply(len, ([],))  # the standard library keeps the iterator until its next job
        return lengths, dead(*references)

    same(program)


def _ignore(x: object, d: object) -> None:
    return None


@sizes
@pytest.mark.parametrize("kind", ["list", "dict", "tuple of lists"])
def test_plain_containers_are_let_go(kind: str, n: int) -> None:
    """Rule 8: no weak reference can tell of a list, its count of references can."""

    def program(pool: Pool) -> object:
        inner = ints(n)
        part: Any = {
            "list": inner,
            "dict": {"a": inner, "b": words(n)},
            "tuple of lists": (inner, words(n)),
        }[kind]
        before = sys.getrefcount(part), sys.getrefcount(inner)
        answers = [
            pool.apply(partial(length, d=part), (0,)),
            pool.map(partial(length, d=part), range(4)),
            pool.apply(length, (part, part)),
            list(pool.imap(partial(length, d=part), [part, 1])),
        ]
        return answers, soon(lambda: (sys.getrefcount(part), sys.getrefcount(inner)) == before)

    assert same(program)[1] is True


def test_atoms_of_a_subclass_are_let_go() -> None:
    """Rule 8: a str subclass can be weakly referenced; only exact atoms may be kept."""

    def program(pool: Pool) -> object:
        bound: list[Any] = [*words(5000), Name("a name")]
        reference = weakref.ref(bound[-1])
        answers = [
            pool.apply(partial(_type_of_last, d=bound), (0,)),
            pool.apply(_type_of_last, (0, bound)),
        ]
        del bound
        return answers, dead(reference)

    assert same(program) == (["Name", "Name"], [True])


class Name(str):
    """Text with attributes."""


def _type_of_last(x: object, d: list[Any]) -> str:
    return type(d[-1]).__name__


class Counting:
    deaths = 0

    def __init__(self, part: object) -> None:
        self.part = part

    def __del__(self) -> None:
        Counting.deaths += 1


@sizes
def test_finalizers_in_the_parent_run_when_they_would(n: int) -> None:
    """Rule 8: `__del__` of what was bound runs once the caller lets go."""

    def program(pool: Pool) -> object:
        before = Counting.deaths
        for _ in range(3):
            pool.apply(partial(length, d=[ints(n), Counting(ints(n))]), (0,))
        return soon(lambda: Counting.deaths - before == 3)

    assert same(program) is True


@sizes
def test_a_terminated_pool_lets_go_of_what_waited(n: int) -> None:
    """Rule 8: terminate with jobs unfinished."""

    def program(pool: Pool) -> object:
        bound, item = TrackedList(ints(n)), Tracked(0)
        references = [weakref.ref(bound), weakref.ref(item)]
        results = [pool.apply_async(partial(_nap, d=bound), (item,)) for _ in range(50)]
        pool.terminate()
        pool.join()
        del bound, item, results
        del pool
        return references

    def wrapped(pool: Pool) -> object:
        references: Any = program(pool)
        del pool
        return len(references)

    same(wrapped)


def _nap(x: object, d: object) -> None:
    time.sleep(0.01)


@sizes
def test_an_id_used_again_is_never_taken_for_the_old_object(n: int) -> None:
    """Rule 8: methods, partials, holders and elements made in a loop lie where their ancestors
    lay."""

    def program(pool: Pool) -> object:
        answers = []
        for i in range(15):
            bound = [i] * n if i % 2 else [[i], *range(n)]
            answers.append(pool.apply(Holder(_first, bound).run, (0,)))
            answers.append(pool.apply(partial(_first, d=(bound, i)), (Opaque(i),)))
            del bound
        return answers

    same(program)


def _first(x: object, d: Any) -> object:
    return d[0] if isinstance(d, list) else (d[0][0], d[1])


seen_in_worker: list[weakref.ref[Any]] = []


def alive_of_earlier(x: Any, d: Any) -> list[bool]:
    gc.collect()
    alive = [reference() is not None for reference in seen_in_worker]
    seen_in_worker[:] = [
        weakref.ref(part) for part in (x, *d) if isinstance(part, Tracked | TrackedList)
    ]
    return alive


@sizes
def test_a_worker_keeps_nothing_of_a_finished_task(n: int) -> None:
    """Rule 8 on the other side: arguments and bound objects of the task before are dead in the
    next."""

    def program(pool: Pool) -> object:
        callee = partial(alive_of_earlier, d=[ints(n), Tracked(ints(n)), TrackedList(ints(n))])
        return [
            *pool.imap(callee, [Tracked(i) for i in range(4)]),
            pool.apply(callee, (Tracked(ints(n)),)),
        ]

    assert same(program)[1:] == [[False] * 3] * 4
