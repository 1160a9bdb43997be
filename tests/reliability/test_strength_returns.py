"""A pool that lost workers is as strong as before, about as soon as a new worker can be started.

That workers which cannot start are not started for ever is shown in `test_crash_matrix.py` and in
`test_faults_of_pools.py`, which count the starts.
"""

from __future__ import annotations

import os
import signal
import statistics
import time
from pathlib import Path

import pytest
from testkit.forms import by_form
from testkit.pools import asleep, running

WORKERS = 4
ROUNDS = {"fork": by_form(10, 100), "spawn": by_form(2, 20), "forkserver": by_form(2, 20)}


def fresh(directory: Path, name: object) -> Path:
    folder = directory / str(name)
    folder.mkdir()
    return folder


def start_s(directory: Path, start_method: str) -> float:
    """How long a pool of one worker takes to be made and to have done a task."""
    start = time.perf_counter()
    with running(1, start_method) as pool:
        asleep(pool, directory, 1)
        return time.perf_counter() - start


@pytest.mark.limit_s(by_form(60, 300))
@pytest.mark.parametrize("killed", [1, WORKERS])
def test_a_pool_is_at_full_size_again_after_kills(
    killed: int, start_method: str, tmp_path: Path
) -> None:
    """Full size is as many tasks at once as before, each in a worker of its own; a task that waits
    for the others in vain fails.

    The goal for one kill is the time that a worker takes to start and 50 ms; it is printed.
    """
    rounds = ROUNDS[start_method]
    starts_s = [start_s(fresh(tmp_path, f"start-{at}"), start_method) for at in range(rounds)]
    back_s = []
    with running(WORKERS, start_method) as pool:
        pids = asleep(pool, fresh(tmp_path, "first"), WORKERS)
        for at in range(rounds):
            victims = pids[:killed]
            start = time.perf_counter()
            for pid in victims:
                os.kill(pid, signal.SIGKILL)
            pids = asleep(pool, fresh(tmp_path, at), WORKERS)
            back_s.append(time.perf_counter() - start)
            assert len(set(pids)) == WORKERS
            assert not set(pids) & set(victims)
        stats = pool.stats()
    assert stats["worker_deaths"] == stats["replacements"] == rounds * killed
    print(
        f"{start_method}: {WORKERS} workers again {statistics.median(back_s) * 1e3:.0f} ms after "
        f"{killed} were killed, {max(back_s) * 1e3:.0f} ms at most of {rounds}; "
        f"Pool(1) works after {statistics.median(starts_s) * 1e3:.0f} ms"
    )
