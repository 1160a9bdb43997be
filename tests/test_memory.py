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
