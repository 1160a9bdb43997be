"""The whole surface of `multiprocessing.Pool`: signatures, methods, what they return."""

from __future__ import annotations

import inspect
import multiprocessing
import multiprocessing.pool
import threading
from collections.abc import Callable
from pathlib import Path

import millpond
import pytest
from testkit.pools import running, workers_of
from testkit.work import (
    identity,
    initialize,
    initialized,
    keywords,
    meet,
    multiply,
    pid_of_worker,
    reciprocal,
    square,
    wait_for,
)

STDLIB = multiprocessing.pool.Pool
METHODS = [
    *("__init__", "apply", "apply_async", "map", "map_async", "imap", "imap_unordered"),
    *("starmap", "starmap_async", "close", "terminate", "join", "__enter__", "__exit__"),
]


def parameters(function: Callable[..., object]) -> list[tuple[str, object, object]]:
    """Names, kinds and defaults: what a caller can rely on. Annotations may be better than none."""
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


@pytest.mark.parametrize("name", METHODS)
def test_signatures_are_the_standard_librarys(name: str) -> None:
    expected = parameters(getattr(STDLIB, name))
    if name.startswith("imap") and "buffersize" not in [parameter[0] for parameter in expected]:
        expected.append(("buffersize", inspect.Parameter.POSITIONAL_OR_KEYWORD, None))
    found = parameters(getattr(millpond.Pool, name))
    # What is ours alone (such as `memory=`) can be given by keyword only, after all else.
    assert found[: len(expected)] == expected
    assert all(kind is inspect.Parameter.KEYWORD_ONLY for _, kind, _ in found[len(expected) :])


def test_arguments_by_position_are_in_the_standard_librarys_order() -> None:
    context = multiprocessing.get_context("fork")
    with millpond.Pool(1, initialize, ("ready",), 1, context) as pool:
        assert pool.apply(initialized) == "ready"
        assert pool.apply(pid_of_worker) != pool.apply(pid_of_worker)
    pool.join()


def test_every_method_answers_like_the_builtin_it_is_named_after(start_method: str) -> None:
    pairs = [(x, x + 1) for x in range(7)]
    squares = [x * x for x in range(23)]
    products = [x * y for x, y in pairs]
    with running(2, start_method) as pool:
        assert pool.apply(square, (5,)) == 25
        assert pool.apply(keywords, (1, 2), {"a": 3}) == ((1, 2), {"a": 3})
        assert pool.apply_async(multiply, (5,), {"y": 3}).get() == 15
        assert pool.map(square, range(23)) == squares
        assert pool.map_async(square, range(23)).get() == squares
        assert list(pool.imap(square, range(23))) == squares
        assert sorted(pool.imap_unordered(square, range(23))) == squares
        assert pool.starmap(multiply, pairs) == products
        assert pool.starmap_async(multiply, pairs).get() == products


@pytest.mark.parametrize("chunksize", [None, 1, 2, 5, 22, 23, 24, 1000])
@pytest.mark.parametrize("count", [0, 1, 23])
def test_a_chunksize_changes_no_answer(chunksize: int | None, count: int) -> None:
    expected = [x * x for x in range(count)]
    with running() as pool:
        assert pool.map(square, range(count), chunksize) == expected
        assert pool.map(square, iter(range(count)), chunksize) == expected
        assert pool.starmap(multiply, ((x, x) for x in range(count)), chunksize) == expected
        if chunksize is not None:
            assert list(pool.imap(square, range(count), chunksize)) == expected
            assert sorted(pool.imap_unordered(square, iter(range(count)), chunksize)) == expected


def test_a_result_tells_whether_it_is_ready_and_successful(tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    with running(1) as pool:
        held = pool.apply_async(wait_for, (gate,))
        assert not held.ready()
        with pytest.raises(ValueError, match="not ready"):
            held.successful()
        with pytest.raises(multiprocessing.TimeoutError):
            held.get(timeout=0.01)
        held.wait(0.01)
        assert not held.ready()
        Path(gate).touch()
        held.wait()
        assert held.ready() and held.successful() and held.get(timeout=0) == gate
        failed = pool.apply_async(reciprocal, (0,))
        failed.wait()
        assert failed.ready() and not failed.successful()
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                failed.get()


@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
def test_next_takes_a_timeout_and_goes_on_after_it(method: str, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    with running(1) as pool:
        results = getattr(pool, method)(wait_for, [gate])
        assert iter(results) is results
        with pytest.raises(multiprocessing.TimeoutError):
            results.next(timeout=0.01)
        Path(gate).touch()
        assert results.next(timeout=30) == gate
        for _ in range(2):
            with pytest.raises(StopIteration):
                results.next()


def test_imap_goes_on_after_a_task_that_raised() -> None:
    with running() as pool:
        results = pool.imap(reciprocal, [1, 0, 2])
        assert next(results) == 1
        with pytest.raises(ZeroDivisionError):
            next(results)
        assert next(results) == 0.5
        with pytest.raises(StopIteration):
            next(results)


def test_a_pool_has_as_many_workers_at_once_as_it_was_given(tmp_path: Path) -> None:
    with running(3) as pool:
        pids = pool.starmap(meet, [(str(tmp_path), name, 3) for name in range(3)], chunksize=1)
        assert len(set(pids)) == 3
        assert set(pids) == {worker.pid for worker in workers_of(pool)}


def test_maxtasksperchild_counts_chunks_and_replaces_the_worker() -> None:
    with running(1, maxtasksperchild=2) as pool:
        pids = pool.map(pid_of_worker, range(12), chunksize=3)
    assert len(set(pids)) == 2
    assert pids == [pids[0]] * 6 + [pids[6]] * 6


def test_the_initializer_runs_in_every_worker_and_in_every_replacement() -> None:
    with running(2, initializer=initialize, initargs=("ready",), maxtasksperchild=1) as pool:
        assert pool.map(initialized, range(8), chunksize=1) == ["ready"] * 8


def test_close_lets_all_tasks_end_and_join_waits_for_them() -> None:
    pool = millpond.Pool(2)
    results = pool.map_async(square, range(100), chunksize=1)
    lazy = pool.imap(square, range(100))
    pool.close()
    pool.join()
    assert results.ready()
    assert results.get() == list(lazy) == [x * x for x in range(100)]
    assert all(worker.exitcode == 0 for worker in workers_of(pool))


def test_the_context_manager_terminates_and_returns_the_pool() -> None:
    pool = millpond.Pool(1)
    with pool as entered:
        assert entered is pool
    with pytest.raises(ValueError, match="Pool not running"):
        pool.apply(square, (1,))
    pool.join()
    pool.join()
    pool.terminate()


def test_eight_threads_use_one_pool_at_once() -> None:
    wrong: list[object] = []
    together = threading.Barrier(8)

    def use(number: int) -> None:
        try:
            together.wait()
            mine = range(number * 1000, number * 1000 + 200)
            expected = [x * x for x in mine]
            assert pool.map(square, mine) == expected
            assert list(pool.imap(square, mine)) == expected
            assert [pool.apply(square, (x,)) for x in mine] == expected
            assert sorted(pool.imap_unordered(square, mine, 7)) == expected
        except BaseException as error:
            wrong.append(error)

    with running(2) as pool:
        threads = [threading.Thread(target=use, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_an_argument_comes_back_as_an_equal_value() -> None:
    values = [None, True, 1 << 200, 1.5, "ä\0€", b"\0\xff", (1, [2, {3: {4}}]), range(3), ...]
    with running() as pool:
        assert pool.map(identity, values) == values
