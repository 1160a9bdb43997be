"""Each way to end by each state of the pool: a program that ends so is judged from outside.

The exit code is the one that the standard library's pool leaves where it does not hang; the end takes
five seconds at most, and one where the program is killed; a second later nobody of the family lives;
standard error has the traceback that the program's end is told by, and nothing else. Nothing is left in
/dev/shm, says the census.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
import warnings
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import millpond
import pytest
from testkit.forms import IS_LONG, by_form, seeded
from testkit.pools import pids_of, workers_of
from testkit.scripts import Ended, orphans_of, start_script
from testkit.work import square

END_S, KILLED_S, GONE_S = 5.0, 1.0, 1.0
ROUNDS = by_form(40, 10_000)

PROGRAM = """
import gc, importlib, multiprocessing, os, signal, sys, time, warnings
from testkit import census
from testkit.ledger import wait_until
from testkit.pools import pids_of
from testkit.work import meet, square, touch, touch_and_wait

library, end, state, method = sys.argv[1:]
began, released = os.path.abspath("began"), os.path.abspath("released")

def make():
    return importlib.import_module(library).Pool(2, context=multiprocessing.get_context(method))

def hold(name):
    touch_and_wait(began + name, released)

def nest(name):
    with make() as inner:
        inner.map(hold, [name + "0", name + "1"], 1)

def hold_both(pool, task, names):
    results = [pool.apply_async(task, (name,)) for name in ("0", "1")]
    wait_until(lambda: all(os.path.exists(began + name) for name in names), "the tasks to begin")
    return results

def bring(pool):
    '''Bring the pool into the state; the results that are out.'''
    assert pool.map(square, range(20)) == [x * x for x in range(20)]
    # Both workers serve by now: one that a signal meets while it is being born would tell of it.
    pool.starmap(meet, [(os.getcwd(), number, 2) for number in range(2)], 1)
    if state == "idle":
        return []
    if state == "nested":
        return hold_both(pool, nest, ("00", "01", "10", "11"))
    results = hold_both(pool, hold, ("0", "1"))
    if state == "backlog":
        results += [pool.apply_async(square, (x,)) for x in range(500)]
        results += [pool.apply_async(len, (bytes(1 << 20),)) for _ in range(20)]
        results.append(pool.map_async(square, iter(range(500)), 1))
        pool.imap(square, iter(range(500)))
    if state == "dying":
        os.kill(min(pids_of(pool)), signal.SIGKILL)
    return results

def end_by_itself(box):
    '''All of them leave no children, while the program goes on.'''
    if end == "with":
        with box[0] as pool:
            results = bring(pool)
            print("ready", flush=True)
    else:
        results = bring(box[0])
        print("ready", flush=True)
    if end == "close":
        box[0].close()
        touch(released)
        box[0].join()
        assert all(result.ready() for result in results)
    elif end == "terminate":
        box[0].terminate()
        box[0].join()
    elif end == "cycle":
        box.append(box)
    # A pool that nobody holds lives until its jobs are done.
    del results, box
    gc.collect()
    touch(released)
    wait_until(lambda: not gc.collect() and not census.children(), "all children to be gone", 5)

def end_the_program(pool):
    results = bring(pool)
    print("ready", flush=True)
    if end == "exception":
        raise LookupError("mine")
    if end == "sys.exit":
        sys.exit(7)
    if end == "os._exit":
        os._exit(6)
    for result in results:
        result.wait()
    time.sleep(600)

if __name__ == "__main__":
    # Whoever started the tests may have ignored them.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    warnings.simplefilter("ignore", ResourceWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*multi-threaded")
    if end in ("close", "terminate", "with", "del", "cycle"):
        end_by_itself([make()])
    else:
        end_the_program(make())
"""


@dataclass(frozen=True)
class End:
    """What the program ends with, and what is done to it from outside once it is ready."""

    returncode: int = 0
    tracebacks: int = 0
    act: Callable[[subprocess.Popen[str]], None] = lambda _: None


ENDS = {
    "close": End(),
    "terminate": End(),
    "with": End(),
    "del": End(),
    "cycle": End(),
    "exception": End(1, tracebacks=1),
    "sys.exit": End(7),
    "os._exit": End(6),
    # As a terminal does: the whole group gets it.
    "SIGINT": End(-signal.SIGINT, 1, lambda process: os.killpg(process.pid, signal.SIGINT)),
    "SIGTERM": End(-signal.SIGTERM, 0, lambda process: process.terminate()),
    "SIGKILL": End(-signal.SIGKILL, 0, lambda process: process.kill()),
}
STATES = ("idle", "busy", "backlog", "dying", "nested")


def run(library: str, end: str, state: str, method: str, directory: Path) -> tuple[Ended, float]:
    """How the program ended, and how many seconds after it was ready."""
    process, mark = start_script(PROGRAM, directory, library, end, state, method)
    with process:
        assert process.stdout is not None
        told = process.stdout.readline()
        start_s = time.monotonic()
        if told:
            ENDS[end].act(process)
        stdout, stderr = process.communicate()
        took_s = time.monotonic() - start_s
    ended = Ended(process.returncode, told + stdout, stderr, orphans_of(mark, grace_s=GONE_S))
    assert told == "ready\n", ended
    return ended, took_s


def check(end: str, state: str, method: str, directory: Path) -> None:
    """A new interpreter that is interrupted, or whose parent goes, while the standard library starts
    a worker in it, tells so by a traceback of its own; a forked one that is interrupted, by
    threading's hook."""
    ended, took_s = run("millpond", end, state, method, directory)
    assert ended.returncode == ENDS[end].returncode, ended
    is_born_then = state == "dying" and end == "SIGINT"
    if (method == "fork" and not is_born_then) or (state != "dying" and end != "SIGINT"):
        assert ended.tracebacks == ENDS[end].tracebacks, ended.stderr
        assert ended.tracebacks or ended.stderr == ""
    assert ended.orphans == []
    assert took_s <= (KILLED_S if end == "SIGKILL" else END_S)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("end", ENDS)
def test_a_program_ends_in_each_way_out_of_each_state(end: str, state: str, tmp_path: Path) -> None:
    check(end, state, "fork", tmp_path)


SOME_CELLS = [("close", "dying"), ("sys.exit", "nested"), ("SIGINT", "backlog")]
CELLS = [(end, state) for end in ENDS for state in STATES]
STANDARD_CELLS = [
    (end, state)
    for end, state in CELLS
    # Its workers may have no pools, and it hangs when a worker dies; now and then, too, when one that
    # has the lock of the queue, to take a task or wait for one, is interrupted.
    if state == "busy" or (state in ("idle", "backlog") and end != "SIGINT")
]


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.parametrize(("end", "state"), by_form(SOME_CELLS, CELLS))
def test_and_so_it_does_however_its_workers_were_started(
    end: str, state: str, method: str, tmp_path: Path
) -> None:
    check(end, state, method, tmp_path)


@pytest.mark.skipif(not IS_LONG, reason="says something of the standard library only")
@pytest.mark.parametrize(("end", "state"), STANDARD_CELLS)
def test_the_standard_librarys_exit_codes_are_those(end: str, state: str, tmp_path: Path) -> None:
    ended, _ = run("multiprocessing.pool", end, state, "fork", tmp_path)
    assert ended.returncode == ENDS[end].returncode, ended


def start_something(pool: Any, random: Random) -> list[Any]:
    """One of the things that a program does with a pool; the results that are out."""
    action = random.randrange(6)
    if action == 0:
        return [pool.apply_async(square, (x,)) for x in range(random.randrange(40))]
    if action == 1:
        return [pool.map_async(square, range(random.randrange(1, 200)), 3)]
    if action == 2:
        return [pool.map_async(square, iter(range(random.randrange(1, 20))))]
    if action == 3:
        pool.imap_unordered(square, iter(range(random.randrange(20))))
        return []
    if action == 4:
        return [pool.apply_async(len, (bytes(1 << 18),)) for _ in range(5)]
    result = pool.apply_async(square, (3,), callback=lambda _: None)
    result.cancel()
    return [result]


def kill_one(pool: Any) -> None:
    """A worker that may have ended by itself meanwhile; nobody else, for only its parent reaps it."""
    for worker in workers_of(pool)[:1]:
        worker.kill()


def outcome(result: Any) -> object:
    try:
        return result.get()
    except (millpond.WorkerDied, millpond.PoolTerminated, CancelledError) as error:
        return error


@pytest.mark.limit_s(by_form(60, 3600))
def test_random_work_and_a_random_end_leave_no_result_without_its_end() -> None:
    """A pool that nobody holds does its jobs, and goes with the last of them."""
    random = seeded()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        for _ in range(ROUNDS):
            limit = random.choice([None, 1, 3])
            pool = millpond.Pool(random.randint(1, 3), maxtasksperchild=limit)
            results: list[Any] = []
            for _ in range(random.randrange(5)):
                results += start_something(pool, random)
                if random.random() < 0.2:
                    kill_one(pool)
            end = random.choice(["close", "terminate", "collect"])
            if end != "collect":
                getattr(pool, end)()
                pool.join()
                assert all(result.ready() for result in results)
                assert not pids_of(pool)
            del pool
            outcomes = [outcome(result) for result in results]
            if end != "terminate":
                assert not any(isinstance(one, millpond.PoolTerminated) for one in outcomes)
