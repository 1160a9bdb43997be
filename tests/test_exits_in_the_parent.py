"""`SystemExit` and its like, raised by code of the user's that runs in the parent.

They end the thread that runs the code, and in the standard library the pool with it: nobody pickles, or
takes results, any more. Here each is its task's error, and the pool goes on.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import Any, NoReturn

import millpond
import pytest
from testkit.ledger import wait_until
from testkit.pools import DeniedPool, pids_of, running
from testkit.work import identity, square


class OwnBase(BaseException):
    pass


ERRORS = [SystemExit(3), KeyboardInterrupt("raised"), GeneratorExit("raised"), OwnBase("raised")]
each_error = pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)


class RaisesWhenPickled:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> NoReturn:
        raise self.error


class RaisesAtOnce:
    """An iterable without an iterator."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __len__(self) -> int:
        return 4

    def __iter__(self) -> Iterator[int]:
        raise self.error


def generate(error: BaseException) -> Iterator[int]:
    yield from range(3)
    raise error


def polled(result: Any) -> Any:
    """A result that nobody waits for, so that the keeper's thread does all."""
    wait_until(result.ready, "the result")
    return result.get()


def in_a_thread(call: Callable[[], object]) -> BaseException | None:
    """What a call raises in a thread of its own."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return raised[0] if raised else None


Way = Callable[[millpond.Pool, Iterable[Any]], object]

WAYS: dict[str, Way] = {
    "map": lambda pool, items: pool.map(identity, items),
    "map in chunks of one": lambda pool, items: pool.map(identity, items, 1),
    "imap": lambda pool, items: list(pool.imap(identity, items)),
    "imap in chunks": lambda pool, items: list(pool.imap(identity, items, 2)),
    "imap in measured chunks": lambda pool, items: list(pool.imap(identity, items, "auto")),
    "imap_unordered": lambda pool, items: list(pool.imap_unordered(identity, items)),
    "map_async, polled": lambda pool, items: polled(pool.map_async(identity, items)),
}
each_way = pytest.mark.parametrize("way", WAYS)


def check_goes_on(pool: millpond.Pool) -> None:
    assert pool.apply(square, (3,)) == 9
    assert polled(pool.apply_async(square, (4,))) == 16
    assert list(pool.imap(square, iter(range(5)))) == [0, 1, 4, 9, 16]
    pool.close()
    pool.join()


@each_way
@each_error
def test_what_pickling_an_argument_raises_is_its_tasks_error(
    error: BaseException, way: str
) -> None:
    for items in ([1, RaisesWhenPickled(error), 2], iter([1, RaisesWhenPickled(error), 2])):
        with running(2) as pool:
            with pytest.raises(type(error)):
                WAYS[way](pool, items)
            check_goes_on(pool)


@each_error
def test_what_pickling_a_callable_raises_is_its_tasks_error(error: BaseException) -> None:
    callee: Any = RaisesWhenPickled(error)
    with running(2) as pool:
        with pytest.raises(type(error)):
            pool.apply(callee, (1,))
        with pytest.raises(type(error)):
            polled(pool.apply_async(callee, (1,)))
        assert isinstance(in_a_thread(lambda: pool.apply(callee, (1,))), type(error))
        check_goes_on(pool)


@each_way
@each_error
def test_what_an_iterable_raises_ends_its_job(error: BaseException, way: str) -> None:
    for items in (generate(error), RaisesAtOnce(error)):
        with running(2) as pool:
            with pytest.raises(type(error)):
                WAYS[way](pool, items)
            check_goes_on(pool)


@each_error
def test_what_a_callback_raises_becomes_its_jobs_result(error: BaseException) -> None:
    def call_back(_: object) -> NoReturn:
        raise error

    with running(2) as pool:
        for result in (
            pool.apply_async(square, (2,), callback=call_back),
            pool.map_async(square, [2], callback=call_back),
            pool.apply_async(divide_by_zero, error_callback=call_back),
        ):
            with pytest.raises(type(error)):
                result.get()
        check_goes_on(pool)


def divide_by_zero() -> float:
    return 1 / 0


class ExitsWhenLoaded:
    def __reduce__(self) -> tuple[Callable[[int], NoReturn], tuple[int]]:
        return sys.exit, (4,)


def return_one_that_exits(_: int) -> ExitsWhenLoaded:
    return ExitsWhenLoaded()


def test_what_loading_a_result_raises_is_its_tasks_error() -> None:
    """On the main thread it may be a signal handler's, and is raised from whatever waits there, too."""
    with running(2) as pool:
        with pytest.raises(SystemExit):
            polled(pool.apply_async(return_one_that_exits, (1,)))
        with pytest.raises(SystemExit):
            polled(pool.map_async(return_one_that_exits, range(5), 1))
        error = in_a_thread(lambda: list(pool.imap(return_one_that_exits, range(5))))
        assert isinstance(error, SystemExit)
        with pytest.raises(SystemExit):
            pool.apply(return_one_that_exits, (1,))
        check_goes_on(pool)


@each_error
def test_what_starting_a_replacement_raises_breaks_the_pool_if_no_worker_is_left(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is raised by a `Process` of the user's, or where the initializer's arguments are pickled."""
    monkeypatch.setattr(DeniedPool, "denial", error)
    with closing(DeniedPool(1)) as pool:
        assert pool.apply(square, (3,)) == 9
        monkeypatch.setattr(DeniedPool, "denials", 1000)
        dying = pool.apply_async(os._exit, (3,))
        waiting = pool.apply_async(square, (4,))
        with pytest.raises(millpond.WorkerDied):
            dying.get()
        with pytest.raises(type(error)):
            waiting.get()
        with pytest.raises(type(error)):
            pool.apply(square, (5,))
    pool.join()


@each_error
def test_what_starting_a_replacement_raises_is_tried_again_if_a_worker_is_left(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DeniedPool, "denial", error)
    with closing(DeniedPool(2)) as pool:
        monkeypatch.setattr(DeniedPool, "denials", 1)
        with pytest.raises(millpond.WorkerDied):
            pool.apply(os._exit, (3,))
        assert pool.map(square, range(20), 1) == [x * x for x in range(20)]
        wait_until(lambda: len(pids_of(pool)) == 2, "the replacement")
    pool.join()


class InterruptsOnce:
    """While it is pickled on the main thread for the first time, the user presses Ctrl-C."""

    def __init__(self) -> None:
        self.pickled = 0

    def __reduce__(self) -> tuple[Callable[[int], int], tuple[int]]:
        self.pickled += 1
        if self.pickled == 1:
            signal.raise_signal(signal.SIGINT)
        return int, (7,)


def test_an_interrupt_while_the_main_thread_pickles_reaches_it_and_costs_no_task() -> None:
    with running(2) as pool:
        whole = pool.map_async(identity, [1, InterruptsOnce(), 3], 1)
        with pytest.raises(KeyboardInterrupt):
            whole.get()
        assert whole.get() == [1, 7, 3]
        single = pool.imap(identity, [InterruptsOnce()])
        with pytest.raises(KeyboardInterrupt):
            next(single)
        assert next(single) == 7
        check_goes_on(pool)
