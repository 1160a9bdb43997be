"""Signals that are not the pool's: a child's end that is ignored or reaped by others, Ctrl-C, SIGSTOP.

Goal 23 of the reliability catalogue.
"""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from testkit.forms import by_form
from testkit.ledger import wait_until
from testkit.pools import pids_of, running, stop
from testkit.scripts import orphans_of, run_script, start_script
from testkit.work import touch_and_wait

STOPPED_S = by_form(0.2, 5.0)
# So far apart are the signals of a burst: those that come closer are one to the kernel.
BURST_PAUSE_S = 0.001
BURST_COUNT_MIN = 3
ROUNDS = by_form(1, 20)
# On a loaded machine a parent may end at the second signal: then there was no burst.
ROUNDS_MAX = 2 * ROUNDS + 8

REAPED = """
    import multiprocessing, os, signal, sys, time
    from testkit.work import square
    from millpond import Pool, WorkerDied

    def reap(signum, frame):
        '''Takes the exit codes of all children, as programs do that start some by themselves.'''
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass

    def squares(pool):
        assert pool.map(square, range(50), 1) == [x * x for x in range(50)]

    if __name__ == "__main__":
        signal.signal(signal.SIGCHLD, signal.SIG_IGN if sys.argv[2] == "ignored" else reap)
        context = multiprocessing.get_context(sys.argv[1])
        pool = Pool(2, context=context)
        squares(pool)
        try:
            pool.apply(os._exit, (3,))
        except WorkerDied:
            print("told")
        squares(pool)
        pool.close()
        pool.join()
        pool = Pool(2, context=context)
        pool.apply_async(time.sleep, (600,))
        pool.terminate()
        pool.join()
        with Pool(2, context=context, maxtasksperchild=2) as pool:
            squares(pool)
        with Pool(2, context=context, timeout=0.1) as pool:
            try:
                pool.apply(time.sleep, (600,))
            except TimeoutError:
                print("stopped")
            squares(pool)
            pool.resize(1)
            squares(pool)
        print("done")
"""


@pytest.mark.parametrize("how", ["ignored", "reaped"])
def test_a_program_may_ignore_or_reap_its_children_itself(
    how: str, start_method: str, tmp_path: Path
) -> None:
    """`waitpid` then knows nothing of a worker: its end is seen all the same."""
    ended = run_script(REAPED, tmp_path, start_method, how)
    assert (ended.returncode, ended.stdout) == (0, "told\nstopped\ndone\n"), ended.stderr
    assert ended.stderr == ""
    assert ended.orphans == []


INTERRUPTED = """
    import multiprocessing, os, sys, time
    from millpond import Pool

    def task(x):
        open(f"{sys.argv[2]}.{os.getpid()}", "w").close()
        time.sleep(0.01)
        return x

    if __name__ == "__main__":
        with Pool(2, context=multiprocessing.get_context(sys.argv[1])) as pool:
            pool.map(task, range(100_000), 1)
"""


@contextmanager
def working(start_method: str, directory: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The program, with both its workers in tasks; and its family's mark."""
    directory.mkdir()
    process, mark = start_script(INTERRUPTED, directory, start_method, str(directory / "began"))
    with process:
        wait_until(lambda: len(list(directory.glob("began.*"))) == 2, "both workers to work")
        yield process, mark


def interrupt_until_the_end(process: subprocess.Popen[str]) -> int:
    """Press Ctrl-C for the whole family again and again until the program has ended; how often.

    Its pid is not reaped before, and so cannot be another's.
    """
    count = 0
    ends = os.pidfd_open(process.pid)
    try:
        while not select.select([ends], [], [], BURST_PAUSE_S)[0]:
            os.killpg(process.pid, signal.SIGINT)
            count += 1
    finally:
        os.close(ends)
    return count


@pytest.mark.limit_s(by_form(60, 300))
def test_ctrl_c_among_many_tasks_ends_all_with_one_traceback(
    start_method: str, tmp_path: Path
) -> None:
    for round_ in range(ROUNDS):
        with working(start_method, tmp_path / str(round_)) as (process, mark):
            os.killpg(process.pid, signal.SIGINT)
            _, stderr = process.communicate()
        assert (process.returncode, orphans_of(mark)) == (-signal.SIGINT, []), stderr
        assert stderr.count("Traceback (most recent call last)") == 1, stderr
        assert stderr.count("KeyboardInterrupt") == 1, stderr


@pytest.mark.limit_s(by_form(60, 300))
def test_a_burst_of_ctrl_c_ends_all_and_no_worker_says_a_word(
    start_method: str, tmp_path: Path
) -> None:
    """Each that finds the parent in Python raises there, wherever it is: so is the language.

    They go on until the parent has ended, and so meet the ends of the workers and its own.
    """
    counts: list[int] = []
    while len(counts) < ROUNDS or (len(counts) < ROUNDS_MAX and max(counts) < BURST_COUNT_MIN):
        with working(start_method, tmp_path / str(len(counts))) as (process, mark):
            counts.append(interrupt_until_the_end(process))
            _, stderr = process.communicate()
        assert (process.returncode, orphans_of(mark)) == (-signal.SIGINT, []), stderr
        assert "PoolWorker" not in stderr and "millpond/worker.py" not in stderr, stderr
    assert max(counts) >= BURST_COUNT_MIN


def test_a_worker_that_is_stopped_for_long_is_not_a_dead_one(tmp_path: Path) -> None:
    began, released = tmp_path / "began", tmp_path / "released"
    with running(2) as pool:
        workers = pids_of(pool)
        result = pool.apply_async(touch_and_wait, (str(began), str(released)))
        wait_until(began.exists, "the task to begin")
        stop(sorted(workers))
        released.touch()
        with pytest.raises(multiprocessing.TimeoutError):
            result.get(timeout=STOPPED_S)
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
        assert result.get() is None
        assert pids_of(pool) == workers
        assert pool.stats()["worker_deaths"] == 0
