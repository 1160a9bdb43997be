"""Rule 9: what a task or the parent keeps stays as it was, and disturbs nobody."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from testkit.oracle import Pool

from exactness.calls import by_every_call
from exactness.material import (
    BINDINGS,
    MATERIALS,
    all_sizes,
    bindings,
    glance,
    ints,
    materials,
    mixed,
    sizes,
    spoil,
    words,
)
from exactness.twin import same

kept: list[Any] = []
"""A worker's own; the parent's stays empty."""


def keep_and_spoil_later(x: object, d: Any) -> object:
    """Keep what is bound; spoil what the tasks before kept; tell of both."""
    for part in kept:
        spoil(part)
    told = glance(d), [glance(part) for part in kept], any(part is d for part in kept)
    kept.append(d)
    del kept[:-3]
    return told


@all_sizes
@pytest.mark.parametrize("material", ["ints", "tuple of lists", "tuple", "opaque beside"])
def test_what_a_task_kept_is_apart_from_what_the_next_gets(material: str, n: int) -> None:
    """Rule 9: a kept list is changed one task later; the next copy is pristine, the kept one as
    left."""

    def program(pool: Pool) -> object:
        callee = partial(keep_and_spoil_later, d=MATERIALS[material](n))
        return by_every_call(
            pool, callee, range(4), ["apply", "map 1", "map 2", "imap 1", "imap 2"]
        )

    same(program)


@sizes
@materials
def test_any_material_may_be_kept(material: str, n: int) -> None:
    """Rule 9, for all that can be bound."""

    def program(pool: Pool) -> object:
        return list(pool.imap(partial(keep_and_spoil_later, d=MATERIALS[material](n)), range(4)))

    same(program)


@sizes
@bindings
def test_what_any_binding_brought_may_be_kept(binding: str, n: int) -> None:
    """Rule 9, for all ways to bind."""

    def program(pool: Pool) -> object:
        callee = BINDINGS[binding](keep_and_spoil_later, [ints(n), words(n)])
        return by_every_call(pool, callee, range(3), ["apply", "map 2", "imap 1"])

    same(program)


@sizes
@materials
def test_an_argument_may_be_kept(material: str, n: int) -> None:
    """Rule 9, for arguments."""

    def program(pool: Pool) -> object:
        part = MATERIALS[material](n)
        return [pool.apply(keep_and_spoil_later, (0, part)) for _ in range(4)]

    same(program)


# --- hidden ways to keep ------------------------------------------------------------------------


def _walk(d: Any) -> Iterator[Any]:
    yield from d


def _in_frame(d: list[Any]) -> BaseException:
    try:
        raise ValueError("kept with its frames")
    except ValueError as error:
        return error


def _of_frame(error: BaseException) -> Any:
    assert error.__traceback__ is not None
    return error.__traceback__.tb_frame.f_locals["d"]


def _closure(d: list[Any]) -> Callable[[], list[Any]]:
    return lambda: d


def _started(d: Any) -> Any:
    generator = _walk(d)
    next(generator)
    return generator


def _recursive(d: list[Any]) -> Callable[[int], Any]:
    def inner(depth: int) -> Any:
        return inner(depth - 1) if depth else d

    return inner


WAYS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "itself": (lambda d: d, lambda k: k),
    "in a tuple": (lambda d: (d,), lambda k: k[0]),
    "a method of it": (lambda d: d.append, lambda k: k.__self__),
    "its iterator": (iter, lambda k: k.__reduce__()[1][0]),
    "a generator": (_started, lambda k: k.gi_yieldfrom.__reduce__()[1][0]),
    "an exception": (_in_frame, _of_frame),
    "a closure": (_closure, lambda k: k()),
    "a recursive function": (_recursive, lambda k: k(2)),
    "a partial": (lambda d: partial(len, d), lambda k: k.args[0]),
    "its inner list": (lambda d: d[-1], lambda k: k),
    "its inner tuple": (lambda d: d[-2], lambda k: k[0]),
    "its inner dict": (lambda d: d[-3], lambda k: k["list"]),
    "a view of its inner dict": (lambda d: d[-3].values(), lambda k: next(iter(k))),
}


def keep_by(x: object, d: Any, way: str) -> object:
    told = glance(d), [glance(WAYS[way][1](one)) for one in kept]
    for one in kept:
        WAYS[way][1](one).append(x)
    kept.append(WAYS[way][0](d))
    del kept[:-3]
    return told


@sizes
@pytest.mark.parametrize("way", WAYS)
def test_no_way_to_keep_is_overlooked(way: str, n: int) -> None:
    """Rules 9 and 1: frames, iterators, methods, views: each lets a later task change the copy."""

    def program(pool: Pool) -> object:
        bound = [*range(n), {"list": [1]}, ([2],), [3]]
        callee = partial(keep_by, d=bound, way=way)
        return by_every_call(pool, callee, range(4), ["apply", "map 2", "imap 1"])

    same(program)


FLAT_WAYS = [way for way in WAYS if "inner" not in way]


@all_sizes
@pytest.mark.parametrize("way", FLAT_WAYS)
def test_no_way_to_keep_a_list_of_atoms_is_overlooked(way: str, n: int) -> None:
    """The same, where nothing but atoms is in the list, so that a pool may know it by heart."""

    def program(pool: Pool) -> object:
        callee = partial(keep_by, d=mixed(n), way=way)
        return by_every_call(pool, callee, range(4), ["apply", "map 2", "imap 1"])

    same(program)


def raise_with(x: object, d: list[Any]) -> object:
    told = len(d)
    d.append(x)
    error = ValueError(told, len(d))
    kept.append(error)
    raise error


@sizes
def test_an_exception_that_a_task_raised_and_kept_disturbs_nobody(n: int) -> None:
    """Rule 9: its traceback holds the frame, the frame the list."""

    def program(pool: Pool) -> object:
        callee = partial(raise_with, d=ints(n))
        told = []
        for x in range(4):
            try:
                pool.apply(callee, (x,))
            except ValueError as error:
                told.append(error.args)
        return told

    assert same(program) == [(n, n + 1)] * 4


later = threading.Event()
threads: list[threading.Thread] = []


def change_from_a_thread(x: int, d: list[Any]) -> object:
    """Each task starts a thread that changes its copy during the next task."""
    if threads:
        later.set()
        threads.pop().join()
        later.clear()
    told = glance(d)

    def change() -> None:
        later.wait(30)
        d.clear()

    thread = threading.Thread(target=change, daemon=True)
    thread.start()
    threads.append(thread)
    return told


@sizes
def test_a_thread_left_by_a_task_changes_its_own_copy_only(n: int) -> None:
    """Rules 9 and 1: the thread writes while the next task runs."""

    def program(pool: Pool) -> object:
        return list(pool.imap(partial(change_from_a_thread, d=ints(n)), range(4)))

    assert len(set(same(program))) == 1


def keep_element(x: int, d: Any) -> object:
    """Keep an element and give back the one kept before, which no later task may have changed."""
    given = kept[-1] if kept else None
    kept.append(d[x])
    return given


@sizes
@materials
def test_a_kept_element_is_given_back_as_it_was(material: str, n: int) -> None:
    """Rule 9: atoms and inner containers, returned by a later task."""

    def program(pool: Pool) -> object:
        made = MATERIALS[material](n)
        bound = made
        if isinstance(made, set | dict):
            bound = [*made.items()] if isinstance(made, dict) else [*made]
        return list(pool.imap(partial(keep_element, d=bound), [0, 1, 0, -1, 1]))

    same(program)


def change_a_kept_part(x: int, d: tuple[list[Any], ...]) -> object:
    """The tuple is kept: an escaped tuple carries its lists with it."""
    told = [len(part) for part in d], [len(part) for one in kept for part in one]
    for one in kept:
        one[0].append(x)
    kept.append(d)
    return told


@sizes
def test_a_kept_tuple_carries_its_lists(n: int) -> None:
    """Rule 9: nothing refers to the inner list but the tuple, which seems unchanged."""

    def program(pool: Pool) -> object:
        return list(pool.imap(partial(change_a_kept_part, d=([0], ints(n))), range(4)))

    assert [told[0] for told in same(program)] == [[1, n]] * 4


class Weak:
    """An element to which a weak reference can be kept."""

    def __init__(self, value: int) -> None:
        self.value = value


def keep_weakly(x: int, d: list[Any]) -> object:
    alive = [reference() is not None for reference in kept]
    kept.append(weakref.ref(d[0]))
    return alive


@sizes
def test_a_weak_reference_to_an_element_is_dead_in_the_next_task(n: int) -> None:
    """Rules 8 and 9: no cached copy may live on behind a weak reference."""

    def program(pool: Pool) -> object:
        return list(pool.imap(partial(keep_weakly, d=[Weak(1), *range(n)]), range(4)))

    assert same(program)[-1] == [False] * 3


# --- results ------------------------------------------------------------------------------------


def give(x: object, d: Any) -> Any:
    return d


def give_kept(x: object, d: Any) -> Any:
    kept.append(d)
    return kept[0]


@sizes
@materials
def test_a_returned_bound_object_is_the_callers_own(material: str, n: int) -> None:
    """Rule 9: the parent changes what came back; later tasks and the bound original are
    untouched."""

    def program(pool: Pool) -> object:
        bound = MATERIALS[material](n)
        callee = partial(give, d=bound)
        seen = []
        for _ in range(3):
            for got in (pool.apply(callee, (0,)), *pool.map(callee, range(2), 1)):
                seen.append((got is bound, glance(got)))
                spoil(got)
        return seen, glance(bound)

    same(program)


@sizes
@materials
def test_a_result_can_be_fed_back(material: str, n: int) -> None:
    """Rule 9: as bound part, as argument, changed in between or not."""

    def program(pool: Pool) -> object:
        part = MATERIALS[material](n)
        seen = []
        for _ in range(3):
            part = pool.apply(give, (0, part))
            seen.append(glance(pool.apply(partial(give, d=part), (part,))))
            spoil(part)
            seen.append(pool.apply(_glance_of, (part,)))
        return seen

    same(program)


def _glance_of(x: Any) -> Any:
    return glance(x)


@sizes
def test_results_stay_as_they_were_while_others_come(n: int) -> None:
    """Rule 9: no memory of a result is lent again while it can be read; not by jobs, not by the
    pool's end."""

    def program(pool: Pool) -> object:
        makers: list[Callable[[int], Any]] = [ints, words, mixed, _text, _bytes]
        held = [pool.apply(maker, (n + i,)) for i in range(4) for maker in makers]
        before = [glance(part) for part in held]
        pool.map(ints, [n] * 20, 1)
        between = [glance(part) for part in held]
        pool.terminate()
        pool.join()
        return before, between == before, [glance(part) for part in held] == before

    assert same(program)[1:] == (True, True)


def _text(n: int) -> str:
    return "x" * n


def _bytes(n: int) -> bytes:
    return b"y" * n


@sizes
def test_a_forked_child_reads_results_that_the_parent_let_go(n: int) -> None:
    """Rule 9: the child holds them still, while the parent drops them and fetches others."""

    def program(pool: Pool) -> object:
        held: list[Any] = pool.map(_bytes, [n * 40] * 3, 1)
        held.append(pool.apply(ints, (n,)))
        expected = [glance(part) for part in held]
        out, into = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.read(out, 1)
                os._exit(0 if [glance(part) for part in held] == expected else 1)
            finally:
                os._exit(2)
        del held
        pool.map(_text, [n * 40] * 6, 1)
        os.write(into, b".")
        _, status = os.waitpid(child, 0)
        os.close(out)
        os.close(into)
        return os.waitstatus_to_exitcode(status)

    assert same(program) == 0


@sizes
def test_a_kept_argument_is_returned_by_a_later_task(n: int) -> None:
    """Rule 9: its memory has not been reused for the tasks in between."""

    def program(pool: Pool) -> object:
        parts = [ints(n), words(n), _bytes(n * 8), bytearray(n * 8), tuple(mixed(n))]
        seen = []
        for part in parts:
            pool.apply(kept.clear)
            pool.apply(give_kept, (0, part))
            for i in range(3):
                other = type(part)() if isinstance(part, bytes) else [i] * n
                seen.append(glance(pool.apply(give_kept, (0, other))) == glance(part))
        return seen

    same(program)
