"""How long a caller waits for the news that its worker was killed."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import millpond
import pytest
from testkit import procfs
from testkit.forms import by_form
from testkit.ledger import wait_until
from testkit.pools import running
from testkit.work import touch_and_wait

DEATHS = by_form(50, 1_000)
BOUND_S = 1.0
"""Of each death, on a machine that may be busy with other things."""
DEATHS_UNDER_LOAD = by_form(10, 200)
LOAD_BOUND_S = 10.0
"""Of each death beside four busy processes for each CPU. The goal is a second, which is printed; who
runs when is the kernel's to say, so only a death that nobody would be told of fails."""
BURNER = """
import os, sys
while os.getppid() == int(sys.argv[1]):
    for _ in range(10**6): pass
"""
"""Ends with the tests, however they end."""


def tell_and_wait(directory: str) -> None:
    touch_and_wait(f"{directory}/{os.getpid()}", "/nonexistent/never")


def notice_s(pool: millpond.Pool, directory: Path) -> float:
    """Kill the only worker in its task; the time from the kill to the caller's error.

    The task tells who runs it: a replacement may do so before the thread that forked it has listed it.
    """
    result = pool.apply_async(tell_and_wait, (str(directory),))
    wait_until(lambda: any(directory.iterdir()), "the task to begin")
    (began,) = directory.iterdir()
    began.unlink()
    pid = int(began.name)
    start = time.perf_counter()
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(millpond.WorkerDied) as caught:
        result.get()
    took_s = time.perf_counter() - start
    assert (caught.value.pid, caught.value.exitcode) == (pid, -signal.SIGKILL)
    return took_s


@contextmanager
def busy_machine() -> Iterator[int]:
    """Four processes for each CPU that do nothing but count; how many they are."""
    count = 4 * (os.cpu_count() or 1)
    command = [sys.executable, "-S", "-c", BURNER, str(os.getpid())]
    burners = [subprocess.Popen(command) for _ in range(count)]
    try:
        wait_until(lambda: all(used_cpu(burner.pid) for burner in burners), "all to be busy")
        yield count
        assert all(burner.poll() is None for burner in burners)
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


def used_cpu(pid: int) -> bool:
    """Whether it has run for a tenth of a second: it has started."""
    fields = (procfs.PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) >= os.sysconf("SC_CLK_TCK") / 10


def told(times_s: list[float]) -> str:
    median_s = statistics.median(times_s)
    late_s = statistics.quantiles(times_s, n=100, method="inclusive")[-1]
    return (
        f"{len(times_s)} deaths were told after {median_s * 1e3:.2f} ms (median), "
        f"{late_s * 1e3:.2f} ms (99 of 100), {max(times_s) * 1e3:.2f} ms (all)"
    )


@pytest.mark.limit_s(by_form(60, 600))
def test_a_killed_workers_task_ends_within_a_bounded_time(tmp_path: Path) -> None:
    with running(1) as pool:
        times_s = [notice_s(pool, tmp_path) for _ in range(DEATHS)]
    print(told(times_s))
    assert max(times_s) <= BOUND_S


@pytest.mark.limit_s(by_form(120, 600))
def test_it_does_so_beside_many_busy_processes(tmp_path: Path) -> None:
    with running(1) as pool, busy_machine() as burners:
        times_s = [notice_s(pool, tmp_path) for _ in range(DEATHS_UNDER_LOAD)]
    print(f"beside {burners} busy processes, with a goal of 1 s: {told(times_s)}")
    assert max(times_s) <= LOAD_BOUND_S
