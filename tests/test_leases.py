"""Memory that an array reads stays as it is, whoever reads it and for how long, and is given back.

The four ways to silent corruption are those of the kernel: pages that were not yet written follow the
file; pages that are dropped under an array; processes that were forked while an array lived; and
children that drop what they have inherited.
"""

from __future__ import annotations

import functools
import gc
import hashlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from testkit.pools import pids_of, running

MEGABYTE = 1 << 20
LENGTH = MEGABYTE // 8
"""Numbers in an array of one megabyte."""


def numbers(start: float) -> Any:
    return np.arange(float(start), start + LENGTH)


def digest(array: Any) -> str:
    return hashlib.sha256(array.tobytes()).hexdigest()


def total(array: Any) -> float:
    return float(array.sum())


def memfd_len() -> int:
    """Bytes of shared memory that this process's files hold."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}").startswith("/memfd:millpond"):
                found += os.stat(f"/proc/self/fd/{name}").st_blocks * 512
        except FileNotFoundError:
            continue
    return found


def mapped_len() -> int:
    """Bytes of this process's addresses at which such files are mapped privately."""
    found = 0
    for line in Path("/proc/self/maps").read_text().splitlines():
        if "/memfd:millpond" in line and "rw-p" in line:
            start, end = (int(x, 16) for x in line.split()[0].split("-"))
            found += end - start
    return found


def recycle(pool: Any, count: int = 20) -> None:
    """Have all memory that is free used again, in the parent and in the workers."""
    for x in range(count):
        array = np.full(LENGTH, -1.0 - x)
        assert pool.apply(total, (array,)) == total(array)
        assert total(pool.apply(numbers, (1000.0 * x,))) == total(numbers(1000.0 * x))


kept: list[Any] = []


def keep(array: Any) -> int:
    array[7] = -7
    kept.append(array)
    return len(kept)


def digests_of_kept() -> list[str]:
    return [digest(array) for array in kept]


def wanted(start: float) -> str:
    array = numbers(start)
    array[7] = -7
    return digest(array)


def test_what_a_task_keeps_stays_while_the_parents_memory_is_used_again() -> None:
    with running(1) as pool:
        for x in range(3):
            assert pool.apply(keep, (numbers(x),)) == x + 1
        recycle(pool)
        assert pool.apply(digests_of_kept) == [wanted(x) for x in range(3)]


def test_results_stay_while_the_workers_memory_is_used_again() -> None:
    with running(2) as pool:
        results = pool.map(numbers, [float(x) for x in range(6)], chunksize=1)
        for array in results:
            array[7] = -7
        recycle(pool)
        assert [digest(array) for array in results] == [wanted(x) for x in range(6)]


def fork_and_wait(array: Any, go: int, out: int) -> int:
    """Fork a child that looks at the array when it is told to."""
    pid = os.fork()
    if pid == 0:
        try:
            os.read(go, 1)
            os.write(out, digest(array).encode())
        finally:
            os._exit(0)
    return pid


def test_a_process_that_a_task_has_forked_still_reads_its_array() -> None:
    (go, go_in), (out, out_in) = os.pipe(), os.pipe()
    try:
        with running(1) as pool:
            array = numbers(3.0)
            pool.apply(fork_and_wait, (array, go, out_in))
            array[:] = -1
            for _ in range(3):
                pool.apply(total, (array,))
            recycle(pool)
            os.write(go_in, b"x")
            assert os.read(out, 64).decode() == digest(numbers(3.0))
            pool.apply(reap)
    finally:
        for fd in (go, go_in, out, out_in):
            os.close(fd)


def reap() -> None:
    os.wait()


def test_a_child_of_the_parent_still_reads_results_and_may_drop_them() -> None:
    (go, go_in), (out, out_in) = os.pipe(), os.pipe()
    try:
        with running(1) as pool:
            array, other = pool.map(numbers, [3.0, 4.0], chunksize=1)
            pid = fork_and_wait(array, go, out_in)
            dropper = os.fork()
            if dropper == 0:
                del array, other
                gc.collect()
                os._exit(0)
            os.waitpid(dropper, 0)
            recycle(pool)
            # What the child has dropped is still the parent's.
            assert [digest(array), digest(other)] == [digest(numbers(3.0)), digest(numbers(4.0))]
            del array, other
            recycle(pool)
            os.write(go_in, b"x")
            assert os.read(out, 64).decode() == digest(numbers(3.0))
            os.waitpid(pid, 0)
    finally:
        for fd in (go, go_in, out, out_in):
            os.close(fd)


def use_a_pool(array: Any) -> Any:
    """A pool within a task: its workers are forked while the array lives."""
    with millpond_pool() as pool:
        return pool.apply(total, (array,)), pool.apply(numbers, (array[0],)), digest(array)


def millpond_pool() -> Any:
    import millpond

    multiprocessing.current_process()._config["daemon"] = False
    return millpond.Pool(1)


def test_a_pool_within_a_task_may_use_its_array() -> None:
    with running(1) as pool:
        array = numbers(5.0)
        for _ in range(2):
            found = pool.apply(use_a_pool, (array,))
            assert found[0] == total(array) and found[2] == digest(array)
            assert digest(found[1]) == digest(array)
        recycle(pool)
        assert digest(found[1]) == digest(array)


@pytest.mark.parametrize("end", ["close", "terminate"])
def test_results_outlive_their_pool_and_their_memory_goes_with_them(end: str) -> None:
    before = mapped_len()
    with running(2) as pool:
        results = pool.map(numbers, [float(x) for x in range(6)], chunksize=1)
        getattr(pool, end)()
        pool.join()
    del pool
    gc.collect()
    assert [digest(array) for array in results] == [digest(numbers(x)) for x in range(6)]
    assert mapped_len() >= before + 6 * MEGABYTE
    for _ in range(3):
        results.pop()
    wait_until(lambda: mapped_len() < before + 4 * MEGABYTE)
    assert [digest(array) for array in results] == [digest(numbers(x)) for x in range(3)]
    view = results[0][5:10]
    results.clear()
    assert view.tolist() == [5.0, 6.0, 7.0, 8.0, 9.0]
    del view
    wait_until(lambda: mapped_len() == before)


def wait_until(is_so: Callable[[], bool]) -> None:
    """Until it is so: the watchdog ends what never is."""
    while not is_so():
        time.sleep(0)


def test_results_outlive_their_worker() -> None:
    with running(2, maxtasksperchild=1) as pool:
        results = pool.map(numbers, [float(x) for x in range(8)], chunksize=1)
        recycle(pool, 4)
        assert [digest(array) for array in results] == [digest(numbers(x)) for x in range(8)]
    with running(1) as pool:
        results = pool.map(numbers, [float(x) for x in range(4)], chunksize=1)
        (pid,) = pids_of(pool)
        os.kill(pid, signal.SIGKILL)
        recycle(pool, 4)
        assert [digest(array) for array in results] == [digest(numbers(x)) for x in range(4)]


def test_memory_of_results_comes_back_while_the_pool_runs() -> None:
    with running(1, memory=4 * MEGABYTE) as pool:
        for x in range(30):
            assert digest(pool.apply(numbers, (float(x),))) == digest(numbers(x))
        wait_until(lambda: memfd_len() < 12 * MEGABYTE)
        results = [pool.apply(numbers, (float(x),)) for x in range(20)]
        assert memfd_len() >= 20 * MEGABYTE
        assert pool.stats()["borrowed_bytes"] >= 20 * MEGABYTE
        assert total(results[-1]) == total(numbers(19.0))
        del results
        wait_until(lambda: pool.stats()["borrowed_bytes"] == 0)
        # The worker gives it back when it looks, which it does at the latest when it is idle.
        wait_until(lambda: memfd_len() < 12 * MEGABYTE)


def test_memory_of_arguments_comes_back_while_the_pool_runs() -> None:
    with running(1, memory=4 * MEGABYTE) as pool:
        for x in range(30):
            array = numbers(x)
            bound = functools.partial(total, array)
            assert [pool.apply(bound) for _ in range(2)] == [total(array)] * 2
        wait_until(lambda: memfd_len() < 12 * MEGABYTE)
        wait_until(lambda: pool.stats()["stored_bytes"] == 0)


def test_nothing_is_kept_mapped_that_no_task_names_any_more() -> None:
    with running(1) as pool:
        before = pool.apply(mapped_len)
        array = numbers(1.0)
        pool.apply(total, (array,))
        assert pool.apply(mapped_len) >= before + MEGABYTE
        del array
        wait_until(lambda: pool.apply(mapped_len) <= before + MEGABYTE // 2)


def test_an_array_may_change_hands_many_times() -> None:
    with running(2) as pool:
        array = numbers(1.0)
        for _ in range(20):
            array = pool.apply(add_one, (array,))
        assert digest(array) == digest(numbers(21.0))


def add_one(array: Any) -> Any:
    array += 1
    return array


def test_the_result_of_one_pool_is_the_argument_of_another() -> None:
    with running(1) as one, running(1) as other:
        array = numbers(1.0)
        for x in range(6):
            array = (other if x % 2 else one).apply(add_one, (array,))
            if x % 2:
                array[0] = 1.0 + x
        array[0] = 7.0
        assert digest(array) == digest(numbers(7.0))


def die(array: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_dies_with_an_array_leaves_nothing_behind() -> None:
    import millpond

    with running(1, memory=4 * MEGABYTE) as pool:
        for x in range(4):
            with pytest.raises(millpond.WorkerDied):
                pool.apply(die, (numbers(x),))
        recycle(pool, 4)
        wait_until(lambda: memfd_len() < 12 * MEGABYTE)


def test_an_array_that_a_cycle_holds_is_let_go_when_the_cycle_is() -> None:
    with running(1) as pool:
        for x in range(5):
            assert pool.apply(tie, (numbers(x),)) == total(numbers(x))
        before = pool.apply(mapped_len)
        pool.apply(gc.collect)
        assert pool.apply(mapped_len) < before
        recycle(pool, 3)


def tie(array: Any) -> float:
    gc.disable()
    knot: list[Any] = [array]
    knot.append(knot)
    return total(array)


def small(x: int) -> Any:
    return np.full(50_000, float(x))


@pytest.mark.limit_s(120)
def test_more_workers_may_end_than_there_is_room_for_what_they_have_lent() -> None:
    with running(2, maxtasksperchild=1) as pool:
        results = pool.map(small, range(150), chunksize=1)
        results[3][1] = -1
        more = pool.map(small, range(1000, 1100), chunksize=1)
        results[3][1] = 3
    del pool
    for x, array in enumerate(results):
        assert array.tolist() == [float(x)] * 50_000
    # What was completed has no place in the file that another could lose with it.
    for x, _array in enumerate(results):
        results[x] = None
        if x % 30 == 0:
            assert [float(a[49_999]) for a in more] == [1000.0 + y for y in range(100)]
