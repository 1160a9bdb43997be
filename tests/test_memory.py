"""`Pool(memory=...)`: what is kept for later while no task needs it."""

from __future__ import annotations

import functools
import os
import time
from typing import Any

import pytest
from testkit.pools import running

MEGABYTE = 1 << 20


def resident_len() -> int:
    """Bytes of this process's memory, shared memory included."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def size(data: Any) -> int:
    return len(data)


def echo(data: Any) -> Any:
    return data


@pytest.mark.parametrize("memory", [-1, 1.5, "1G"])
def test_a_size_that_is_none_is_refused(memory: Any) -> None:
    import millpond

    with pytest.raises((ValueError, TypeError), match="bytes"):
        millpond.Pool(1, memory=memory)


@pytest.mark.parametrize("memory", [0, MEGABYTE, None, 1 << 80])
def test_large_payloads_cross_whatever_is_kept(memory: int | None) -> None:
    with running(1, memory=memory) as pool:
        data = list(range(300_000))
        for x in range(3):
            data[x] = -x
            assert pool.apply(functools.partial(size, data)) == len(data)
            assert pool.apply(echo, (data,)) == data
            assert pool.apply(echo, (b"x" * 3 * MEGABYTE,)) == b"x" * 3 * MEGABYTE


def test_parts_beyond_the_bound_are_not_kept() -> None:
    with running(1, memory=MEGABYTE) as pool:
        for start in range(8):
            data = list(range(start, start + 200_000))
            assert pool.apply(functools.partial(size, data)) == 200_000
        # The last one is kept, whatever its size.
        assert pool.stats()["stored_bytes"] <= 2 * MEGABYTE


def test_many_jobs_with_much_data_do_not_grow_the_process() -> None:
    with running(1, memory=16 * MEGABYTE) as pool:

        def jobs(count: int) -> None:
            for start in range(count):
                data = list(range(start, start + 100_000))
                assert pool.apply(size, (data,)) == 100_000
                assert pool.apply(functools.partial(size, data)) == 100_000
                assert len(pool.apply(echo, (b"x" * MEGABYTE,))) == MEGABYTE

        jobs(20)
        before = resident_len()
        jobs(100)
        assert resident_len() < before + 40 * MEGABYTE


def test_what_lies_unused_is_let_go_without_another_call() -> None:
    with running(1) as pool:
        for start in range(3):
            pool.apply(functools.partial(size, list(range(start, start + 100_000))))
        assert pool.stats()["stored_bytes"] > 0
        # The watchdog ends what never is so.
        while pool.stats()["stored_bytes"]:
            time.sleep(0)


def ends(data: list[int], at: int) -> tuple[int, int, int]:
    return data[at], data[-1], len(data)


def test_each_of_many_callables_that_take_turns_is_sent_twice_at_most() -> None:
    with running(2) as pool:
        functions = [functools.partial(ends, list(range(x, x + 3000))) for x in range(300)]
        for at in range(4):
            for x, function in enumerate(functions):
                assert pool.apply(function, (at,)) == (x + at, x + 2999, 3000)
        # The first time nobody knows that it comes again.
        assert pool.stats()["heavy_parts_pickled"] <= 600


def test_what_changes_between_its_turns_arrives_changed() -> None:
    with running(2) as pool:
        functions = [functools.partial(ends, list(range(x, x + 3000))) for x in range(100)]
        for turn in range(4):
            for x, function in enumerate(functions):
                if (x + turn) % 3 == 0:
                    function.args[0][0] = -turn
                    function.args[0].append(turn)
                assert pool.apply(function, (0,)) == ends(function.args[0], 0)


def test_of_callables_that_come_once_few_are_kept() -> None:
    with running(1) as pool:
        functions = [functools.partial(ends, list(range(x, x + 3000))) for x in range(600)]
        for x, function in enumerate(functions):
            assert pool.apply(function, (1,)) == (x + 1, x + 2999, 3000)
        stats = pool.stats()
        assert stats["heavy_parts_pickled"] == 600
        assert stats["stored_bytes"] < stats["heavy_bytes_pickled"] / 6
