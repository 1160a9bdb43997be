"""Rule 7: bound buffers arrive with the flags that they would have, writable, and isolated."""

from __future__ import annotations

import array
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from testkit.oracle import Pool

from exactness.calls import by_every_call
from exactness.material import ints, sizes
from exactness.twin import same

BUFFERS: dict[str, Callable[[int], Any]] = {
    "bytearray": lambda n: bytearray(8 * n),
    "array of ints": lambda n: array.array("q", range(n)),
    "array of floats": lambda n: array.array("d", range(n)),
    "array of bytes": lambda n: array.array("B", bytes(n)),
}
buffers = pytest.mark.parametrize("kind", BUFFERS)


def write(x: int, d: Any) -> object:
    before = d[0], d[-1], len(d)
    d[0] += 1
    d[-1] = x
    with memoryview(d) as view:
        flags = view.readonly, view.format, view.contiguous, view.nbytes
    d.append(1)
    return before, flags, d[0], len(d), type(d).__name__


def write_second(x: int, d: list[Any]) -> object:
    return write(x, d[1])


@sizes
@buffers
def test_a_task_writes_to_its_buffer_and_nobody_else_sees_it(kind: str, n: int) -> None:
    """Rules 7 and 1: neither the next task, nor the parent, nor another worker."""

    def program(pool: Pool) -> object:
        bound = BUFFERS[kind](n)
        answers = by_every_call(pool, partial(write, d=bound), range(4))
        beside = by_every_call(
            pool, partial(write_second, d=[ints(n), bound]), range(4), ["imap 1", "map 2"]
        )
        return answers, beside, bound[0], bound[-1], len(bound)

    same(program)


@sizes
@buffers
def test_two_workers_do_not_see_each_others_writes(kind: str, n: int) -> None:
    """Rule 7: the memory may be one, the pages are not."""

    def program(pool: Pool) -> object:
        return list(pool.imap(partial(write, d=BUFFERS[kind](n)), range(16)))

    same(program, processes=2)


@sizes
@buffers
def test_a_write_of_the_parent_is_seen_by_the_next_dispatch_only(kind: str, n: int) -> None:
    """Rules 7 and 2: pointer and length stay as they were."""

    def program(pool: Pool) -> object:
        bound = BUFFERS[kind](n)
        callee = partial(write, d=bound)
        seen = []
        for i in range(5):
            seen.append(pool.apply(callee, (i,)))
            with memoryview(bound) as view:
                view[len(view) // 2 if i % 2 else 0] = i + 9
        return seen

    same(program)


kept: list[Any] = []


def keep_view(x: int, d: Any) -> object:
    seen = [bytes(view[:2].tobytes()) for view in kept]
    d[0] = x + 1
    kept.append(memoryview(d))
    return seen, d[0], d[1]


@sizes
@buffers
def test_a_view_kept_by_a_task_stays_as_the_task_left_it(kind: str, n: int) -> None:
    """Rules 7 and 9: the next task gets other pages."""

    def program(pool: Pool) -> object:
        callee = partial(keep_view, d=BUFFERS[kind](n))
        return [*pool.imap(callee, range(4)), *pool.map(callee, range(4), 2)]

    same(program)


def write_array(x: int, d: Any) -> object:
    flags = d.flags
    before = d.ravel()[:3].tolist(), d.strides, d.dtype.str
    told = [
        bool(flags[name])
        for name in ("C", "F", "OWNDATA", "WRITEABLE", "ALIGNED", "WRITEBACKIFCOPY")
    ]
    if flags.writeable:
        d.ravel(order="K")[0] += 1
        d[(0,) * d.ndim] = x
    return before, told, d.ravel()[:3].tolist()


@pytest.mark.parametrize(
    "layout", ["C", "F", "strided", "read-only", "view", "structured", "empty"]
)
def test_an_array_has_its_flags_and_is_its_tasks_own(layout: str) -> None:
    """Rule 7: numpy arrays, however they lie in memory."""
    numpy = pytest.importorskip("numpy")

    def make() -> Any:
        base = numpy.arange(60_000.0).reshape(300, 200)
        if layout == "F":
            return numpy.asfortranarray(base)
        if layout == "strided":
            return base[::2, ::3]
        if layout == "read-only":
            base.flags.writeable = False
        if layout == "view":
            return base[5:]
        if layout == "structured":
            return numpy.zeros(20_000, dtype="i4,f8")["f1"]
        if layout == "empty":
            return numpy.zeros((0, 5))
        return base

    def program(pool: Pool) -> object:
        bound = make()
        task = write_array if layout != "empty" else shape_of
        answers = by_every_call(pool, partial(task, d=bound), range(4))
        if layout not in ("empty", "read-only"):
            bound[(0,) * bound.ndim] = 77
        return answers, by_every_call(pool, partial(task, d=bound), range(4))

    same(program)


def shape_of(x: int, d: Any) -> object:
    return d.shape, bool(d.flags.writeable), bool(d.flags.owndata)
