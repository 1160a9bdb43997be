"""Callbacks: one thread, one at a time, before their job's `get()` returns."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from testkit.pools import running
from testkit.work import reciprocal, square, wait_for


def test_a_callback_has_returned_before_get_does() -> None:
    told: list[object] = []
    with running() as pool:
        for x in range(50):
            assert pool.apply_async(square, (x,), callback=told.append).get() == x * x
            assert told[-1] == x * x
        assert pool.map_async(square, [2, 3], callback=told.append).get() == [4, 9]
        assert told[-1] == [4, 9]
        assert pool.starmap_async(square, [(2,)], callback=told.append).get() == [4]
        assert told[-1] == [4]


def test_an_error_callback_gets_the_error_and_the_callback_does_not() -> None:
    told: list[object] = []
    failed: list[BaseException] = []
    with running() as pool:
        single = pool.apply_async(reciprocal, (0,), {}, told.append, failed.append)
        many = pool.map_async(reciprocal, [1, 0], 1, told.append, failed.append)
        for result in (single, many):
            with pytest.raises(ZeroDivisionError):
                result.get()
    assert told == []
    assert [type(error) for error in failed] == [ZeroDivisionError] * 2


def test_callbacks_run_in_one_thread_and_one_at_a_time() -> None:
    """Programs append to plain lists in them, and count without a lock."""
    threads: set[int] = set()
    inside = threading.Lock()
    overlaps = []
    told = []

    def callback(value: int) -> None:
        if not inside.acquire(blocking=False):
            overlaps.append(value)
            return
        try:
            threads.add(threading.get_ident())
            told.append(value)
        finally:
            inside.release()

    def submit(start: int) -> None:
        results = [
            pool.apply_async(square, (x,), callback=callback) for x in range(start, start + 100)
        ]
        for result in results:
            result.get()

    with running(2) as pool:
        submitters = [threading.Thread(target=submit, args=(n * 100,)) for n in range(4)]
        for thread in submitters:
            thread.start()
        for thread in submitters:
            thread.join()
    assert overlaps == []
    assert sorted(told) == [x * x for x in range(400)]
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_one_workers_callbacks_run_in_order_of_completion() -> None:
    told: list[int] = []
    with running(1) as pool:
        results = [pool.apply_async(square, (x,), callback=told.append) for x in range(200)]
        for result in reversed(results):
            result.wait()
    assert told == [x * x for x in range(200)]


def test_a_callback_runs_though_nobody_ever_asks_for_the_result() -> None:
    done = threading.Event()
    with running() as pool:
        pool.apply_async(square, (3,), callback=lambda _: done.set())
        assert done.wait(30)


def test_a_job_is_not_ready_while_its_callback_runs(tmp_path: Path) -> None:
    """In the standard library `get()` waits for the callback; a map's callback comes first too."""
    entered, leave = threading.Event(), threading.Event()

    def callback(_: object) -> None:
        entered.set()
        leave.wait(30)

    with running() as pool:
        result = pool.apply_async(square, (3,), callback=callback)
        assert entered.wait(30)
        try:
            assert not result.ready()
        finally:
            leave.set()
        assert result.get() == 9


def test_the_callback_of_an_empty_map_is_never_called() -> None:
    """As in the standard library: an empty map is ready at once, and calls nothing."""
    told: list[object] = []
    with running() as pool:
        result = pool.map_async(square, [], callback=told.append)
        assert result.ready() and result.get() == []
        pool.apply(square, (1,))
    assert told == []


def test_a_waiting_thread_is_woken_by_a_result_that_another_thread_takes(tmp_path: Path) -> None:
    """Callers help each other: the result of one `get()` may arrive in the hands of another."""
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    got: list[str] = []
    with running(2) as pool:
        results = [pool.apply_async(wait_for, (gate,)) for gate in (first, second)]
        waiters = [
            threading.Thread(target=lambda result=result: got.append(result.get()))
            for result in results
        ]
        for waiter in waiters:
            waiter.start()
        Path(second).touch()
        waiters[1].join()
        assert got == [second]
        Path(first).touch()
        waiters[0].join()
    assert got == [second, first]


def test_a_callback_may_wait_for_what_would_be_told_after_it() -> None:
    """Results behind it are delivered from within it, callbacks of theirs included."""
    told: list[object] = []
    with running(2) as pool:

        def wait_for_another(value: int) -> None:
            inner = pool.apply_async(square, (value + 1,), callback=told.append)
            told.append(("inner", inner.get()))
            told.append(("map", pool.map(square, range(3))))
            told.append(("imap", list(pool.imap(square, iter(range(3))))))

        outer = pool.apply_async(square, (2,), callback=wait_for_another)
        behind = pool.map_async(square, range(5), callback=told.append)
        assert outer.get() == 4
        assert behind.get() == [0, 1, 4, 9, 16]
    assert [0, 1, 4, 9, 16] in told
    told.remove([0, 1, 4, 9, 16])
    assert told == [25, ("inner", 25), ("map", [0, 1, 4]), ("imap", [0, 1, 4])]
