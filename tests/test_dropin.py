"""What programs use beside the documented methods: attributes, subclassing, contexts."""

from __future__ import annotations

import multiprocessing
import multiprocessing.context
import multiprocessing.pool
import multiprocessing.process
import os
import pickle
import types
from multiprocessing import util
from pathlib import Path
from typing import Any

import millpond
import pytest
from testkit.ledger import Ledger, wait_until
from testkit.pools import running, workers_of
from testkit.scripts import run_script
from testkit.work import identity, meet, pid_of_worker, square, touch_and_wait, wait_for


def test_a_pool_is_an_instance_of_the_standard_librarys() -> None:
    """Libraries ask `isinstance(pool, multiprocessing.pool.Pool)` to tell a pool from a number."""
    with running(1) as pool:
        assert isinstance(pool, multiprocessing.pool.Pool)
        assert not isinstance(pool, multiprocessing.pool.ThreadPool)


def test_results_are_instances_of_the_standard_librarys() -> None:
    """Libraries tell a result from a value by `isinstance(result, ApplyResult)`."""
    with running(1) as pool:
        results = [
            pool.apply_async(square, (1,)),
            pool.map_async(square, [1]),
            pool.map_async(square, []),
            pool.starmap_async(square, [(1,)]),
        ]
        for result in results:
            assert isinstance(result, multiprocessing.pool.ApplyResult)
            assert isinstance(result, multiprocessing.pool.AsyncResult)


def test_the_standard_librarys_pool_is_left_as_it_was() -> None:
    """Importing Millpond changes nothing for those who did not ask for it."""
    assert multiprocessing.pool.Pool is not millpond.Pool
    assert multiprocessing.pool.Pool.__module__ == "multiprocessing.pool"
    with multiprocessing.pool.ThreadPool(1) as threads:
        assert threads.apply(os.getpid) == os.getpid()
    threads.join()


MANAGED = """
    import multiprocessing, millpond
    from testkit.pools import pids_of
    from testkit.work import pid_of_worker, square

    if __name__ == "__main__":
        with millpond.Pool(1) as pool, multiprocessing.Manager() as manager:
            theirs = manager.Pool(1)
            assert not isinstance(theirs, millpond.Pool)
            assert type(theirs).__module__ == "multiprocessing.managers"
            assert theirs.apply(square, (3,)) == pool.apply(square, (3,)) == 9
            # The one behind the proxy, as the manager's own process sees it.
            assert "multiprocessing.pool.Pool" in str(theirs)
            assert theirs.apply(pid_of_worker) not in pids_of(pool)
            theirs.terminate()
            theirs.join()
"""


def test_a_managers_pool_is_left_as_it_was(tmp_path: Path) -> None:
    """It is made in the manager's process, by the standard library.

    In a program of its own: the module of managers registers reducers for all of the process.
    """
    ended = run_script(MANAGED, tmp_path)
    assert (ended.returncode, ended.stderr, ended.orphans) == (0, "", [])


def test_a_result_type_can_be_subscripted_for_annotations() -> None:
    with running(1) as pool:
        result = pool.apply_async(square, (1,))
        subscripted: object = type(result)[int]  # type: ignore[index]
        assert isinstance(subscripted, types.GenericAlias)


def test_a_pool_refuses_to_be_pickled() -> None:
    with running(1) as pool:
        with pytest.raises(NotImplementedError, match="cannot be passed between processes"):
            pickle.dumps(pool)
        with pytest.raises(NotImplementedError):
            pool.apply(identity, (pool,))
        assert pool.apply(square, (2,)) == 4


def test_the_workers_can_be_looked_at(start_method: str) -> None:
    with running(2, start_method) as pool:
        workers = workers_of(pool)
        assert len(workers) == 2
        for worker in workers:
            assert isinstance(worker, multiprocessing.process.BaseProcess)
            assert worker.is_alive() and worker.exitcode is None and worker.daemon
            assert "PoolWorker" in worker.name
        assert pool.apply(pid_of_worker) in {worker.pid for worker in workers}
        pool.close()
        pool.join()
        assert not any(worker.is_alive() for worker in workers)


def test_size_and_outstanding_work_can_be_looked_at(tmp_path: Path) -> None:
    """`_processes`, `_cache`, `_number_left` and `_taskqueue.qsize()`: schedulers poll these."""
    gate = str(tmp_path / "gate")
    with running(1) as any_pool:
        pool: Any = any_pool
        assert pool._processes == 1
        assert len(pool._cache) == 0
        held = pool.map_async(wait_for, [gate] * 6, chunksize=2)
        assert held._number_left == 3
        assert len(pool._cache) == 1
        later = [pool.apply_async(square, (x,)) for x in range(10)]
        assert len(pool._cache) == 11
        assert 0 <= pool._taskqueue.qsize() <= 11
        Path(gate).touch()
        assert held.get() == [gate] * 6
        assert held._number_left == 0
        assert [result.get() for result in later] == [x * x for x in range(10)]
        wait_until(lambda: len(pool._cache) == 0, "an empty cache")
        wait_until(lambda: pool._taskqueue.qsize() == 0, "an empty queue")


class NamedPool(millpond.Pool):
    """A subclass with a worker class of its own, by the hook that the standard library has."""

    @staticmethod
    def Process(ctx: Any, *args: Any, **kwds: Any) -> Any:
        process = ctx.Process(*args, **kwds)
        process.name = "Process-of-mine"
        return process


def name_of_process(_: object = None) -> str:
    return multiprocessing.current_process().name


def test_a_subclass_may_make_the_processes() -> None:
    with NamedPool(2) as pool:
        assert pool.apply(name_of_process) == "PoolWorker-of-mine"
        assert [worker.name for worker in workers_of(pool)] == ["PoolWorker-of-mine"] * 2
        assert repr(pool).startswith(f"<{__name__}.NamedPool ")
    pool.join()


class CountingPool(millpond.Pool):
    """A subclass that adds arguments, state and a method."""

    def __init__(self, tag: str, processes: int) -> None:
        self.tag = tag
        super().__init__(processes)

    def tagged(self, x: int) -> tuple[str, int]:
        return self.tag, self.apply(square, (x,))


def test_a_subclass_may_have_a_constructor_of_its_own() -> None:
    pool = CountingPool("mine", 1)
    with pool:
        assert pool.tagged(3) == ("mine", 9)
    pool.join()


class NoDaemonProcess(multiprocessing.context.ForkProcess):
    """The widespread recipe for nested pools: workers that are not daemons."""

    @property
    def daemon(self) -> bool:
        return False

    @daemon.setter
    def daemon(self, value: bool) -> None:
        pass


class NoDaemonContext(multiprocessing.context.ForkContext):
    Process = NoDaemonProcess


class NoDaemonPool(millpond.Pool):
    def __init__(self, processes: int, **kwargs: Any) -> None:
        kwargs["context"] = NoDaemonContext()
        super().__init__(processes, **kwargs)


def nested_map(count: int) -> list[int]:
    """A pool within a task."""
    pool = millpond.Pool(2, context=multiprocessing.get_context("fork"))
    with pool:
        squares = pool.map(square, range(count))
    pool.join()
    return squares


def nested_process(path: str) -> int | None:
    """A process within a task."""
    process = multiprocessing.get_context("fork").Process(target=Path(path).touch)
    process.start()
    process.join()
    return process.exitcode


def is_daemon(_: object = None) -> bool:
    return multiprocessing.current_process().daemon


def test_the_no_daemon_recipe_works() -> None:
    with NoDaemonPool(2) as pool:
        assert all(isinstance(worker, NoDaemonProcess) for worker in workers_of(pool))
        assert pool.apply(is_daemon) is False
        assert pool.map(nested_map, [1, 3], chunksize=1) == [[0], [0, 1, 4]]
    pool.join()


def test_a_task_reads_that_it_is_a_daemon_and_may_have_children_all_the_same(
    start_method: str, tmp_path: Path
) -> None:
    """Libraries branch on the flag; the standard library makes an error of the children."""
    with running(2, start_method) as pool:
        assert pool.apply(is_daemon) is True
        assert pool.map(nested_map, [1, 3], chunksize=1) == [[0], [0, 1, 4]]
        path = tmp_path / "made by a grandchild"
        assert pool.apply(nested_process, (str(path),)) == 0
        assert path.exists()
        assert pool.apply(is_daemon) is True


def family(_: object = None) -> tuple[int | None, str]:
    parent = multiprocessing.parent_process()
    return None if parent is None else parent.pid, multiprocessing.current_process().name


def test_a_task_sees_its_parent(start_method: str) -> None:
    with running(1, start_method) as pool:
        parent, name = pool.apply(family)
        assert parent == os.getpid()
        assert name.startswith(f"{start_method.title().replace('server', 'Server')}PoolWorker-")


def at_exit_note(ledger: Ledger) -> None:
    util.Finalize(None, ledger.note, args=(os.getpid(), "finalized"), exitpriority=1)
    ledger.note(os.getpid(), "initialized")


def test_a_workers_own_exit_handlers_run_when_it_ends_orderly(tmp_path: Path) -> None:
    """After `maxtasksperchild` and after `close()`; coverage tools write their files there."""
    ledger = Ledger.at(tmp_path)
    with running(1, initializer=at_exit_note, initargs=(ledger,), maxtasksperchild=2) as pool:
        for x in range(5):
            assert pool.apply(square, (x,)) == x * x
        pool.close()
        pool.join()
    assert sorted(ledger.tasks("finalized")) == sorted(ledger.tasks("initialized"))
    assert len(ledger.tasks("finalized")) == 3


@pytest.mark.limit_s(120)
def test_sixty_four_workers_work_at_once(tmp_path: Path) -> None:
    """More than 60, where `select` and some platforms give up; more than this machine has cores."""
    with running(64) as pool:
        meetings = [(str(tmp_path), number, 64) for number in range(64)]
        assert len(set(pool.starmap(meet, meetings, chunksize=1))) == 64


@pytest.mark.parametrize("start_method", ["spawn", "forkserver"])
def test_a_new_interpreter_imports_what_the_standard_librarys_worker_imports(
    start_method: str,
) -> None:
    """Tasks reach `multiprocessing.pool` by its package's name; what the parent needs costs nothing."""
    with running(1, start_method) as pool:
        ask = "__import__('sys').modules.keys() & {'multiprocessing.pool', 'millpond.pool'}"
        assert pool.apply(eval, (ask,)) == {"multiprocessing.pool"}


def test_the_default_context_is_the_one_that_is_set_when_the_pool_is_made() -> None:
    previous = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method("spawn", force=True)
    try:
        with millpond.Pool(1) as pool:
            assert pool.apply(name_of_process).startswith("SpawnPoolWorker-")
        pool.join()
    finally:
        multiprocessing.set_start_method(previous, force=True)


def test_terminate_does_not_wait_for_tasks_that_run(tmp_path: Path) -> None:
    began, never = str(tmp_path / "began"), str(tmp_path / "never")
    with running(1) as pool:
        pool.apply_async(touch_and_wait, (began, never))
        wait_until(lambda: os.path.exists(began), "the task to begin")
    # The block's end terminates and joins; a hang here is the watchdog's.


def test_jobs_that_are_out_can_be_looked_at_by_number(tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    with running(1) as any_pool:
        pool: Any = any_pool
        held = [pool.apply_async(wait_for, (gate,)) for _ in range(3)]
        assert {id(job) for job in pool._cache.values()} == {id(job) for job in held}
        assert dict(pool._cache) == {job._job: job for job in held} == dict(pool._cache.items())
        assert held[0]._cache == pool._cache and held[0]._callback is None
        Path(gate).touch()
        assert [job.get() for job in held] == [gate] * 3
        wait_until(lambda: dict(pool._cache) == {}, "an empty cache")
