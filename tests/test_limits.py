"""Deadlines, retries, cancelling, memory limits and finalizers."""

from __future__ import annotations

import concurrent.futures
import os
import pickle
import signal
import time
from pathlib import Path
from typing import Any

import millpond
import pytest
from testkit.ledger import Ledger, wait_for_file, wait_until
from testkit.pools import pids_of, running
from testkit.work import pid_of_worker, square, touch_and_wait

METHODS = pytest.mark.parametrize("start_method", ["fork", "spawn", "forkserver"])


def hang(_: object = None) -> None:
    time.sleep(600)


def hang_if(x: int, doomed: int) -> int:
    if x == doomed:
        hang()
    return x


def hang_if_two(x: int) -> int:
    return hang_if(x, 2)


def ignore_and_hang(began: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(began).touch()
    hang()


def die_until(ledger: Ledger, attempts: int) -> int:
    """Note each attempt, and kill the worker in all but the last."""
    ledger.begin("task")
    begun = len(ledger.entries())
    if begun < attempts:
        os.kill(os.getpid(), signal.SIGKILL)
    return begun


def raise_until(ledger: Ledger, attempts: int, kind: type[Exception]) -> int:
    ledger.begin("task")
    begun = len(ledger.entries())
    if begun < attempts:
        raise kind("not yet")
    return begun


def hold_memory(length: int) -> None:
    memory = bytearray(length)
    hang(memory)


def finish(path: str, text: str) -> None:
    with open(path, "a") as file:
        file.write(text)


@METHODS
def test_a_task_past_its_deadline_ends_and_nothing_else_does(start_method: str) -> None:
    with running(2, start_method) as pool:
        before = pids_of(pool)
        hung = pool.apply_async(hang, timeout=1)
        assert pool.map(square, range(20), 1) == [x * x for x in range(20)]
        with pytest.raises(millpond.TaskTimeout) as caught:
            hung.get()
        error = caught.value
        assert isinstance(error, TimeoutError) and error.timeout == 1 and error.pid in before
        assert "hang" in str(error) and error.attempts == 1
        wait_until(lambda: len(pids_of(pool)) == 2 and error.pid not in pids_of(pool), "strength")
        assert pool.map(square, range(20), 1) == [x * x for x in range(20)]
        stats = pool.stats()
    assert (stats["timeouts"], stats["worker_deaths"]) == (1, 0)
    assert stats.deaths["SIGTERM"] >= 1


@pytest.mark.parametrize("way", ["map", "starmap", "imap", "imap_unordered", "pool"])
def test_every_call_takes_a_deadline(way: str) -> None:
    with running(2, timeout=1 if way == "pool" else None) as pool:
        if way == "map":
            call: Any = lambda: pool.map(hang_if_two, range(4), 1, timeout=1)
        elif way == "starmap":
            call = lambda: pool.starmap(hang_if, [(x, 2) for x in range(4)], 1, timeout=1)
        elif way == "pool":
            call = lambda: pool.map(hang_if_two, range(4), 1)
        else:
            results = getattr(pool, way)(hang_if_two, range(4), timeout=1)
            seen: list[Any] = []
            for _ in range(4):
                try:
                    seen.append(next(results))
                except millpond.TaskTimeout:
                    seen.append("late")
            assert sorted(map(str, seen)) == ["0", "1", "3", "late"]
            return
        with pytest.raises(millpond.TaskTimeout):
            call()


def test_a_chunk_may_take_the_time_of_its_items() -> None:
    with running(1) as pool:
        assert pool.map(time.sleep, [0.1] * 5, 5, timeout=0.4) == [None] * 5


def test_time_in_the_queue_does_not_count(tmp_path: Path) -> None:
    began, released = str(tmp_path / "began"), str(tmp_path / "released")
    with running(1) as pool:
        first = pool.apply_async(touch_and_wait, (began, released))
        waiting = [pool.apply_async(square, (x,), timeout=1) for x in range(3)]
        wait_for_file(began)
        # Time has to pass; nothing is ordered by it.
        time.sleep(1.2)
        Path(released).touch()
        first.get()
        assert [result.get() for result in waiting] == [0, 1, 4]


def test_the_waits_of_callers_are_no_deadlines(tmp_path: Path) -> None:
    began, released = str(tmp_path / "began"), str(tmp_path / "released")
    with running(1) as pool:
        result = pool.apply_async(touch_and_wait, (began, released), timeout=60)
        with pytest.raises(millpond.TimeoutError):
            result.get(0.01)
        Path(released).touch()
        assert result.get() is None


def test_a_worker_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    began = str(tmp_path / "began")
    with running(1) as pool:
        # Long enough for the handler to be set, also on a busy machine.
        result = pool.apply_async(ignore_and_hang, (began,), timeout=1)
        with pytest.raises(millpond.TaskTimeout):
            result.get()
        assert Path(began).exists()
        wait_until(lambda: pool.stats().deaths.get("SIGKILL") == 1, "the kill")
        assert pool.apply(square, (3,)) == 9


def test_many_tasks_past_their_deadlines_each_end_once() -> None:
    with running(4) as pool:
        results = [pool.apply_async(hang_if, (x, x - x % 5), timeout=1) for x in range(40)]
        outcomes: list[Any] = []
        for result in results:
            try:
                outcomes.append(result.get())
            except millpond.TaskTimeout:
                outcomes.append("late")
        assert outcomes == ["late" if x % 5 == 0 else x for x in range(40)]
        assert pool.stats()["timeouts"] == 8


def test_a_task_whose_worker_died_is_tried_again(tmp_path: Path) -> None:
    ledger = Ledger.at(tmp_path)
    with running(2) as pool:
        assert pool.apply(die_until, (ledger, 3), retries=5) == 3
        assert pool.stats()["retries"] == 2
    assert len(ledger.entries()) == 3


def test_retries_end_and_the_error_counts_them(tmp_path: Path) -> None:
    ledger = Ledger.at(tmp_path)
    with running(2, retries=2) as pool:
        with pytest.raises(millpond.WorkerDied, match="3 attempts") as caught:
            pool.apply(die_until, (ledger, 99))
        assert caught.value.attempts == 3
        assert len(ledger.entries()) == 3
        with pytest.raises(millpond.WorkerDied) as single:
            pool.apply(die_until, (ledger, 99), retries=0)
        assert single.value.attempts == 1


def test_exceptions_are_tried_again_only_if_they_are_named(tmp_path: Path) -> None:
    with running(1) as pool:
        ledger = Ledger.at(tmp_path, "named")
        arguments = (ledger, 3, ValueError)
        assert pool.apply(raise_until, arguments, retries=3, retry_on=(KeyError, ValueError)) == 3
        ledger = Ledger.at(tmp_path, "exhausted")
        with pytest.raises(ValueError, match="not yet") as caught:
            pool.apply(raise_until, (ledger, 9, ValueError), retries=2, retry_on=ValueError)
        assert "the task was tried 3 times" in caught.value.__notes__
        assert len(ledger.entries()) == 3
        ledger = Ledger.at(tmp_path, "other")
        with pytest.raises(ValueError, match="not yet") as caught:
            pool.apply(raise_until, (ledger, 9, ValueError), retries=2, retry_on=KeyError)
        assert not hasattr(caught.value, "__notes__")
        assert len(ledger.entries()) == 1


def test_a_deadline_is_tried_again_if_it_is_named() -> None:
    with running(1) as pool:
        with pytest.raises(millpond.TaskTimeout) as caught:
            pool.apply(hang, timeout=0.1, retries=2, retry_on=millpond.TaskTimeout)
        assert caught.value.attempts == 3
        assert pool.stats()["timeouts"] == 3


def test_what_is_tried_again_is_what_was_pickled(tmp_path: Path) -> None:
    ledger = Ledger.at(tmp_path)
    heavy = list(range(5000))
    with running(1) as pool:
        changed = str(tmp_path / "changed")
        for text in ("inline", "x" * 1000):
            Path(changed).unlink(missing_ok=True)
            begun = len(ledger.entries())
            task = (ledger, changed, heavy, text)
            result = pool.apply_async(count_and_die, task, retries=1)
            wait_until(lambda: len(ledger.entries()) > begun, "the first attempt")  # noqa: B023
            heavy.append(1)
            Path(changed).touch()
            assert result.get() == (len(heavy) - 1, text)


def count_and_die(ledger: Ledger, changed: str, heavy: list[int], text: str) -> tuple[int, str]:
    """Die once the parent has changed the list; the second attempt is what was sent at first."""
    ledger.begin("task")
    if len(ledger.entries()) % 2:
        wait_for_file(changed)
        os.kill(os.getpid(), signal.SIGKILL)
    return len(heavy), text


def test_waiting_calls_are_cancelled_and_never_run(tmp_path: Path) -> None:
    began, released = str(tmp_path / "began"), str(tmp_path / "released")
    ledger = Ledger.at(tmp_path)
    with running(1) as pool:
        first = pool.apply_async(touch_and_wait, (began, released))
        wait_for_file(began)
        # Beyond what may run ahead of the workers, so some wait in the parent.
        waiting = [pool.apply_async(note, (ledger, x, "x" * 500)) for x in range(400)]
        assert not first.cancel()
        assert all(result.cancel() for result in waiting[::2])
        assert not waiting[0].cancel()
        for result in waiting[::2]:
            assert result.ready() and not result.successful()
            with pytest.raises(concurrent.futures.CancelledError):
                result.get()
        Path(released).touch()
        assert [result.get() for result in waiting[1::2]] == list(range(1, 400, 2))
        assert first.get() is None and not first.cancel()
        assert pool.stats()["jobs_cancelled"] == 200
    assert {int(entry.task) for entry in ledger.entries()} == set(range(1, 400, 2))


def note(ledger: Ledger, x: int, _: str) -> int:
    ledger.begin(x)
    return x


def test_all_that_waits_may_be_cancelled_and_the_pool_goes_on(tmp_path: Path) -> None:
    began, released = str(tmp_path / "began"), str(tmp_path / "released")
    with running(1) as pool:
        for _ in range(3):
            first = pool.apply_async(touch_and_wait, (began, released))
            wait_for_file(began)
            waiting = [pool.apply_async(square, (x,)) for x in range(3000)]
            assert all(result.cancel() for result in waiting)
            after = pool.apply_async(square, (7,))
            Path(released).touch()
            assert after.get() == 49 and first.get() is None
            Path(began).unlink()
            Path(released).unlink()


def test_a_running_call_is_cancelled_only_if_that_is_wanted(tmp_path: Path) -> None:
    began = str(tmp_path / "began")
    with running(2) as pool:
        told: list[BaseException] = []
        result = pool.apply_async(
            touch_and_wait, (began, str(tmp_path / "never")), error_callback=told.append
        )
        wait_for_file(began)
        assert not result.cancel() and result.cancel(running=True)
        with pytest.raises(concurrent.futures.CancelledError):
            result.get()
        assert pool.map(square, range(10), 1) == [x * x for x in range(10)]
        wait_until(lambda: pool.stats().deaths.get("SIGTERM") == 1, "the worker's end")
        assert isinstance(told[0], concurrent.futures.CancelledError) and len(told) == 1


@pytest.mark.parametrize("way", ["map_async", "imap", "imap_unordered"])
def test_maps_and_iterators_are_cancelled(way: str, tmp_path: Path) -> None:
    ledger, released = Ledger.at(tmp_path), str(tmp_path / "released")
    with running(1) as pool:
        items = [(ledger, released, x) for x in range(2000)]
        if way == "map_async":
            result: Any = pool.map_async(begin_and_wait, items, 1)
        else:
            result = getattr(pool, way)(begin_and_wait, items)
        wait_until(lambda: len(ledger.entries()) > 0, "the first task")
        assert result.cancel() and not result.cancel()
        Path(released).touch()
        with pytest.raises(concurrent.futures.CancelledError):
            if way == "map_async":
                result.get()
            while True:
                next(result)
        assert pool.apply(square, (3,)) == 9
    assert [entry.task for entry in ledger.entries()] == ["0"]


def begin_and_wait(item: tuple[Ledger, str, int]) -> int:
    ledger, released, x = item
    ledger.begin(x)
    wait_for_file(released)
    return x


def test_a_worker_over_its_memory_limit_is_killed_and_replaced() -> None:
    with running(1, memory_limit=400 << 20) as pool:
        with pytest.raises(millpond.WorkerMemoryError) as caught:
            pool.apply(hold_memory, (800 << 20,))
        error = caught.value
        assert isinstance(error, MemoryError)
        assert error.memory_limit == 400 << 20 < error.resident
        assert pool.apply(square, (3,)) == 9
        assert pool.stats()["memory_kills"] == 1


@METHODS
def test_finalizers_run_in_workers_that_end_in_order(start_method: str, tmp_path: Path) -> None:
    path = str(tmp_path / "finished")
    with running(2, start_method, finalizer=finish, finalargs=(path, "x")) as pool:
        pool.map(square, range(10))
        pool.close()
        pool.join()
    assert Path(path).read_text() == "xx"
    with running(1, start_method, maxtasksperchild=1, finalizer=finish, finalargs=(path, "y")) as p:
        p.map(square, range(3), 1)
        wait_until(lambda: Path(path).read_text().count("y") == 3, "three finalizers")


def test_a_finalizer_that_raises_harms_nobody(tmp_path: Path) -> None:
    with running(1, maxtasksperchild=1, finalizer=int, finalargs=("no number",)) as pool:
        assert len({pool.apply(pid_of_worker) for _ in range(3)}) == 3


def test_errors_pickle_as_they_are() -> None:
    for error in (
        millpond.TaskTimeout(7, 0.5, "f, task 3 of job 2", 4),
        millpond.WorkerMemoryError(7, 900, 800, "f", 2),
        millpond.WorkerDied(7, -9, "f", 3),
    ):
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is type(error)
        assert (str(copy), vars(copy)) == (str(error), vars(error))


@pytest.mark.parametrize(
    ("option", "error"),
    [
        ({"timeout": 0}, ValueError),
        ({"timeout": float("nan")}, ValueError),
        ({"timeout": "1"}, TypeError),
        ({"timeout": True}, TypeError),
        ({"retries": -1}, ValueError),
        ({"retries": 1.5}, TypeError),
        ({"retry_on": "ValueError"}, TypeError),
        ({"retry_on": (ValueError, 1)}, TypeError),
    ],
)
def test_bad_options_are_told(option: dict[str, Any], error: type[Exception]) -> None:
    with running(1) as pool:
        for call in (
            lambda: pool.apply(square, (1,), **option),
            lambda: pool.map_async(square, [1], **option),
            lambda: pool.imap(square, [1], **option),
        ):
            with pytest.raises(error, match=next(iter(option))):
                call()
        assert pool.apply(square, (2,), timeout=float("inf")) == 4
    with pytest.raises(error):
        millpond.Pool(1, **option)


@pytest.mark.parametrize(
    ("option", "error"),
    [
        ({"memory_limit": 0}, ValueError),
        ({"memory_limit": 1.5}, TypeError),
        ({"finalizer": 3}, TypeError),
    ],
)
def test_bad_options_of_pools_are_told(option: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(option))):
        millpond.Pool(1, **option)


def test_a_cancelled_job_leaves_those_behind_it_alone(tmp_path: Path) -> None:
    """It goes out of the line of waiting jobs while another thread goes along that line."""
    began, released = str(tmp_path / "began"), str(tmp_path / "released")
    with running(1) as pool:
        first = pool.apply_async(touch_and_wait, (began, released))
        wait_for_file(began)
        results: list[Any] = []
        for x in range(600):
            results.append(pool.apply_async(square, (x,)))
            results.append(pool.map_async(square, iter([x, x]), 1))
            results.append(pool.imap(square, iter([x])))
        for result in results[::2]:
            assert result.cancel()
        Path(released).touch()
        first.get()
        for x in range(600):
            single, both, stream = results[3 * x : 3 * x + 3]
            for at, result, wanted in (
                (3 * x, single, x * x),
                (3 * x + 1, both, [x * x, x * x]),
                (3 * x + 2, stream, x * x),
            ):
                take = result.__next__ if result is stream else result.get
                if at % 2:
                    assert take() == wanted
                else:
                    with pytest.raises(concurrent.futures.CancelledError):
                        take()


def test_any_number_of_calls_may_be_cancelled_behind_one_that_waits(tmp_path: Path) -> None:
    """What is withdrawn leaves its place in the ring until what is before it is claimed."""
    began, released = str(tmp_path / "began"), str(tmp_path / "released")
    with running(1) as pool:
        first = pool.apply_async(touch_and_wait, (began, released))
        wait_for_file(began)
        waiting = pool.apply_async(square, (5,))
        for x in range(20_000):
            assert pool.apply_async(square, (x,)).cancel()
        after = pool.apply_async(square, (6,))
        Path(released).touch()
        assert (first.get(), waiting.get(), after.get()) == (None, 25, 36)
        assert pool.stats()["damaged"] == 0


class CancelsItself:
    """Its pickling cancels the very call that it is an argument of."""

    def __init__(self) -> None:
        self.results: list[Any] = []

    def __reduce__(self) -> Any:
        if self.results:
            assert self.results[0].cancel()
        return (str, ())


def test_a_call_that_is_cancelled_while_it_is_pickled_never_runs(tmp_path: Path) -> None:
    ledger = Ledger.at(tmp_path)
    began, released = str(tmp_path / "began"), str(tmp_path / "released")
    with running(1) as pool:
        # Large enough that the next ones are pickled only when it has been claimed.
        first = pool.apply_async(touch_and_wait, (began, released))
        wait_for_file(began)
        waiting = pool.apply_async(note, (ledger, 0, "x" * 100_000))
        argument = CancelsItself()
        argument.results.append(pool.apply_async(note, (ledger, 1, argument)))
        Path(released).touch()
        assert waiting.get() == 0 and first.get() is None
        with pytest.raises(concurrent.futures.CancelledError):
            argument.results[0].get()
        assert pool.apply(square, (3,)) == 9
    assert [entry.task for entry in ledger.entries()] == ["0"]


def test_a_limit_that_every_worker_exceeds_ends_tasks_and_not_the_pools_progress() -> None:
    with running(1, memory_limit=1 << 20) as pool:
        for x in range(5):
            try:
                assert pool.apply(square, (x,)) == x * x
            except millpond.WorkerMemoryError as error:
                assert error.resident > 1 << 20
