"""Code of the user's that the pool runs by dropping something, and that uses the pool in its turn.

A destructor, a callback of a weak reference or one of the collector runs wherever a reference goes, in
whatever thread: also in the midst of a dispatch, and where results are taken in.
"""

from __future__ import annotations

import gc
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import millpond
import pytest
from testkit.ledger import wait_until
from testkit.pools import running
from testkit.work import identity, keywords, square

COUNT = 30
HEAVY_LEN = (
    40_000  # two of them exceed what may lie unclaimed, so most go out later, from any thread
)


class Asked:
    """What was asked of the pool from destructors: which numbers, in which threads, and the results."""

    def __init__(self, pool: Any, waits: bool) -> None:
        self.pool, self.waits, self.pid = pool, waits, os.getpid()
        self.results: list[tuple[int, Any]] = []
        self.threads: set[str] = set()

    def ask(self, number: int) -> None:
        if os.getpid() != self.pid:
            return
        self.threads.add(threading.current_thread().name)
        result = self.pool.apply_async(square, (number,))
        if self.waits:
            result.wait()
        self.results.append((number, result))

    def check(self) -> None:
        """All have asked, and all are answered."""
        wait_until(self.is_complete, "all to be dropped")
        for number, result in self.results:
            assert result.get() == number * number
        assert sorted(number for number, _ in self.results) == list(range(COUNT))

    def is_complete(self) -> bool:
        gc.collect()
        return len(self.results) >= COUNT


asked: Asked | None = None


class Dropped:
    """Asks the pool for its square when it is dropped. Arrives as a number."""

    def __init__(self, number: int, weight: int = 0) -> None:
        self.number, self.weight = number, weight

    def __reduce__(self) -> Any:
        return len, (bytes(self.weight),)

    def __del__(self) -> None:
        if asked is not None:
            asked.ask(self.number)


class DroppedCallable(Dropped):
    """Arrives as a function without arguments."""

    def __reduce__(self) -> Any:
        return partial, (square, self.number)

    def __call__(self, *_: object) -> None:
        pass


class DroppedUnpicklable(Dropped):
    def __reduce__(self) -> Any:
        raise LookupError("mine")


class DroppedIterator(Dropped):
    def __iter__(self) -> Iterator[int]:
        return iter(range(3))


class DroppedResult(Dropped):
    """Arrives as itself."""

    def __reduce__(self) -> Any:
        return DroppedResult, (self.number, self.weight)


class DroppedError(Exception):
    def __init__(self, held: object) -> None:
        super().__init__(held)


def fail_with(number: int) -> None:
    raise DroppedError(DroppedResult(number))


def in_cycle(number: int) -> list[Any]:
    """The collector drops it, in whatever thread it runs."""
    cycle: list[Any] = [Dropped(number)]
    cycle.append(cycle)
    return cycle


def each(ask: Callable[[int], object]) -> Callable[[Any], None]:
    """A program that does something for each number, and keeps nothing."""

    def program(_: Any) -> None:
        for number in range(COUNT):
            ask(number)

    return program


def pool() -> Any:
    assert asked is not None
    return asked.pool


def numbers(kind: Callable[..., Any], *args: Any) -> Iterator[Any]:
    return (kind(number, *args) for number in range(COUNT))


PROGRAMS: dict[str, Callable[[Any], object]] = {
    "an argument": each(lambda n: pool().apply_async(identity, (Dropped(n),))),
    "a heavy argument": each(lambda n: pool().apply_async(identity, (Dropped(n, HEAVY_LEN),))),
    "a keyword argument": each(lambda n: pool().apply_async(keywords, (), {"a": Dropped(n)})),
    "a callable": each(lambda n: pool().apply_async(DroppedCallable(n))),
    "an argument that does not pickle": each(
        lambda n: pool().apply_async(identity, (DroppedUnpicklable(n),))
    ),
    "items of a list": lambda p: p.map_async(identity, list(numbers(Dropped)), 3),
    "heavy items of a list": lambda p: p.map_async(identity, list(numbers(Dropped, HEAVY_LEN)), 1),
    "items that a feeder draws": lambda p: list(p.imap(identity, numbers(Dropped))),
    "heavy items that a feeder draws": lambda p: list(
        p.imap_unordered(identity, numbers(Dropped, HEAVY_LEN))
    ),
    "chunks that a feeder draws": lambda p: list(p.imap(identity, numbers(Dropped), 7)),
    "an iterable": each(lambda n: pool().imap(identity, DroppedIterator(n))),
    "a result that nobody waits for": each(lambda n: pool().apply_async(DroppedResult, (n,))),
    "a result that is waited for": each(lambda n: pool().apply(DroppedResult, (n,))),
    "results of an iterator": lambda p: [None for _ in p.imap(DroppedResult, range(COUNT), 3)],
    "results of a map": lambda p: p.map_async(DroppedResult, range(COUNT), 3),
    "an error": each(lambda n: pool().apply_async(fail_with, (n,))),
    "a callback": each(lambda n: pool().apply_async(square, (n,), callback=DroppedCallable(n))),
    "an argument in a cycle": each(lambda n: pool().apply_async(len, (in_cycle(n)[:1],))),
}


@contextmanager
def collecting_all_the_time() -> Iterator[None]:
    old = gc.get_threshold()
    gc.set_threshold(50, 5, 5)
    try:
        yield
    finally:
        gc.set_threshold(*old)


@contextmanager
def beside(how: str) -> Iterator[Asked]:
    """A pool that destructors use: some only ask for a task, some also wait for it."""
    global asked
    with running(2) as pool, collecting_all_the_time():
        asked = Asked(pool, waits=how == "waits")
        try:
            yield asked
        finally:
            asked = None


HOW = pytest.mark.parametrize("how", ["asks", "waits"])


@HOW
@pytest.mark.parametrize("what", PROGRAMS)
def test_what_the_pool_drops_may_use_the_pool(what: str, how: str) -> None:
    with beside(how) as asked:
        PROGRAMS[what](asked.pool)
        asked.check()


def test_destructors_run_in_threads_of_the_pool_as_well() -> None:
    """Else the test above would say little: here the caller keeps nothing, and waits elsewhere."""
    with beside("asks") as asked:
        drawn = asked.pool.imap(identity, numbers(Dropped, HEAVY_LEN))
        wait_until(lambda: len(asked.results) == COUNT, "all to be dropped")
        assert len(list(drawn)) == COUNT
        asked.check()
        assert asked.threads & {"millpond-feeder", "millpond-keeper"}


class WeakSet(set[int]):
    """A set that can be referred to weakly."""


def told(number: int, _: object) -> None:
    if asked is not None:
        asked.ask(number)


@HOW
def test_a_weak_references_callback_may_use_the_pool(how: str) -> None:
    references = []
    with beside(how) as asked:
        for number in range(COUNT):
            argument = WeakSet({number})
            references.append(weakref.ref(argument, partial(told, number)))
            asked.pool.apply_async(len, (argument,))
            del argument
        asked.check()


@HOW
def test_a_callback_of_the_collector_may_use_the_pool(how: str) -> None:
    left = iter(range(COUNT))

    def on_collection(phase: str, _: object) -> None:
        if asked is not None and os.getpid() == asked.pid and phase == "stop":
            number = next(left, None)
            if number is not None:
                asked.ask(number)

    gc.callbacks.append(on_collection)
    try:
        with beside(how) as asked_here:
            for _ in range(3):
                asked_here.pool.map(identity, [[x] for x in range(500)], 3)
                assert list(asked_here.pool.imap(identity, iter(range(50)))) == list(range(50))
            asked_here.check()
    finally:
        gc.callbacks.remove(on_collection)


def test_what_terminate_drops_may_use_the_pool_and_is_refused() -> None:
    refusals = []

    class Refused(Dropped):
        def __del__(self) -> None:
            try:
                pool.apply_async(square, (1,))
            except ValueError as error:
                refusals.append(error)

    with running(1) as pool:
        pool.apply_async(square, (1,)).get()
        results = [pool.apply_async(identity, (Refused(n, HEAVY_LEN),)) for n in range(COUNT)]
        pool.terminate()
        pool.join()
        assert all(result.ready() for result in results)
        del results
        gc.collect()
    assert refusals


def test_native_objects_take_no_attributes() -> None:
    """They are frozen, so that no thread meets one that another is changing."""
    with running(1) as pool:
        result = pool.apply_async(square, (1,))
        objects: list[Any] = [pool._core.engine, pool._core.jobs, result._native, millpond.share(1)]
        for one in objects:
            assert not hasattr(one, "__dict__")
            for name in ("anything", *(name for name in dir(one) if not name.startswith("__"))):
                with pytest.raises((AttributeError, TypeError)):
                    setattr(one, name, None)
        assert result.get() == 1
