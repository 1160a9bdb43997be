"""How long a caller waits for the news that its worker was killed."""

from __future__ import annotations

import os
import signal
import statistics
import time
from pathlib import Path

import millpond
import pytest
from testkit.forms import by_form
from testkit.ledger import wait_until
from testkit.pools import pids_of, running
from testkit.work import touch_and_wait

DEATHS = by_form(50, 1_000)
BOUND_S = 1.0
"""Of each death, on a machine that may be busy with other things."""


def notice_s(pool: millpond.Pool, began: Path) -> float:
    """Kill the only worker in its task; the time from the kill to the caller's error."""
    result = pool.apply_async(touch_and_wait, (str(began), "/nonexistent/never"))
    wait_until(began.exists, "the task to begin")
    began.unlink()
    (pid,) = pids_of(pool)
    start = time.perf_counter()
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(millpond.WorkerDied) as caught:
        result.get()
    took_s = time.perf_counter() - start
    assert (caught.value.pid, caught.value.exitcode) == (pid, -signal.SIGKILL)
    return took_s


@pytest.mark.limit_s(by_form(60, 600))
def test_a_killed_workers_task_ends_within_a_bounded_time(tmp_path: Path) -> None:
    with running(1) as pool:
        times_s = [notice_s(pool, tmp_path / "began") for _ in range(DEATHS)]
    median_s = statistics.median(times_s)
    late_s = statistics.quantiles(times_s, n=100)[-1]
    print(
        f"{DEATHS} deaths were told after {median_s * 1e3:.2f} ms (median), "
        f"{late_s * 1e3:.2f} ms (99 of 100), {max(times_s) * 1e3:.2f} ms (all)"
    )
    assert max(times_s) <= BOUND_S
