"""Known failures of programs with pools: rows of the catalogue in `test_known_failures.py`.

Each runs in an interpreter of its own, and is judged from outside: by its exit code, what it printed,
and whom and what it left.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from testkit import procfs
from testkit.forms import by_form
from testkit.ledger import wait_until
from testkit.pools import stop
from testkit.scripts import Ended, orphans_of, run_script, start_script

PROLOGUE = """
import multiprocessing, os, sys
from testkit.ledger import wait_until
from testkit.work import square, touch_and_wait
from millpond import Pool, WorkerDied

def make(**kwds):
    return Pool(2, context=multiprocessing.get_context(sys.argv[1]), **kwds)

"""


def run(body: str, directory: Path, *args: str) -> Ended:
    return run_script(PROLOGUE + body, directory, *args)


def assert_quiet(ended: Ended, stdout: str) -> None:
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, stdout, ""), ended
    assert ended.orphans == []


BUSY_PARENT = """
import importlib, io, logging, threading, warnings
warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*multi-threaded")

def allocate(): return [bytearray(n) for n in range(1, 2000, 7)]
def note(): logging.getLogger("parent").warning("busy")
def load(): importlib.reload(importlib.import_module("colorsys"))
def start(): threading.Thread(target=allocate).start()

def use_all(x):
    allocate(), logging.getLogger("worker").warning("busy")
    importlib.import_module("fractions")
    return x * x

def for_ever(busy):
    while not done.is_set(): busy()

if __name__ == "__main__":
    logging.basicConfig(stream=io.StringIO())
    sys.setswitchinterval(sys.getswitchinterval() / 10)  # forks come soon, at many a state of theirs
    done = threading.Event()
    threads = [threading.Thread(target=for_ever, args=(busy,))
               for busy in (allocate, note, load) * 3 + (start,)]
    for thread in threads: thread.start()
    try:
        for _ in range(int(sys.argv[2])):
            with make(maxtasksperchild=1) as pool:
                assert pool.map(use_all, range(6), 1) == [x * x for x in range(6)]
    finally:
        done.set()
    print("done")
"""
POOLS = {"fork": by_form(4, 1000), "spawn": by_form(1, 25), "forkserver": by_form(1, 25)}


@pytest.mark.limit_s(by_form(60, 3600))
def test_pools_may_be_made_in_a_parent_of_many_busy_threads(
    start_method: str, tmp_path: Path
) -> None:
    """Row 8, gh-90622 and gh-105464: the child has their locks, and nobody who gives them back.

    Nine threads allocate, log and import, and one starts threads; each task has a worker of its own,
    which does likewise.
    """
    ended = run(BUSY_PARENT, tmp_path, start_method, str(POOLS[start_method]))
    assert (ended.returncode, ended.stdout) == (0, "done\n"), ended.stderr
    assert ended.orphans == []


COUNTED = """
if __name__ == "__main__":
    if sys.argv[3:] != ["traced"]:
        calls = "trace=clone,clone3,fork,vfork"
        strace = ["strace", "-f", "-qq", "-e", calls, "-o", sys.argv[2]]
        os.execvp("strace", [*strace, sys.executable, *sys.argv, "traced"])
    pool = make()
    assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]
    assert pool.apply(len, (bytes(1 << 20),)) == 1 << 20
    try:
        pool.apply(os._exit, (3,))
    except WorkerDied:
        pass
    wait_until(lambda: pool.stats()["replacements"] == 1, "the replacement")
    assert sorted(pool.imap_unordered(square, range(5))) == [0, 1, 4, 9, 16]
    pool.close()
    pool.join()
    print("done")
"""
WORKERS_STARTED = 3
BEGUN = re.compile(r"^(\d+) +(clone3?|v?fork)\(")
MADE = re.compile(r" = (\d+)$")


def births(log: list[str]) -> list[tuple[str, str, str]]:
    """(who, "thread", "vfork" or "fork", whom) of each call that made one; a call that another
    process's interrupts in the log has its result on a line of its own."""
    begun: dict[str, str] = {}
    found = []
    for line in log:
        who = line.split(maxsplit=1)[0]
        if match := BEGUN.match(line):
            is_vfork = match[2] == "vfork" or "CLONE_VFORK" in line
            begun[who] = "thread" if "CLONE_THREAD" in line else "vfork" if is_vfork else "fork"
        if (made := MADE.search(line)) and who in begun:
            found.append((who, begun.pop(who), made[1]))
    return found


def births_by_first(log: list[str]) -> list[str]:
    """The kinds of those that the first process made, by whichever of its threads."""
    all_births = births(log)
    threads = {log[0].split(maxsplit=1)[0]}
    for _ in all_births:  # a thread may be in the log before it is told whose it is
        threads |= {whom for who, kind, whom in all_births if kind == "thread" and who in threads}
    return [kind for who, kind, _ in all_births if who in threads]


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_the_parent_is_copied_once_for_each_forked_worker_and_for_nothing_else(
    start_method: str, tmp_path: Path
) -> None:
    """A copy of a process of many threads has their locks; one that at once becomes another program
    (vfork and exec) takes none of them. One of three workers takes a dead one's place."""
    log = tmp_path / "strace"
    assert_quiet(run(COUNTED, tmp_path, start_method, str(log)), "done\n")
    kinds = births_by_first(log.read_text().splitlines())
    print({kind: kinds.count(kind) for kind in ("thread", "vfork", "fork")})
    assert kinds.count("thread") > 0, "the pool has threads, so the log is not understood"
    if start_method == "fork":
        assert kinds.count("fork") == WORKERS_STARTED
    else:
        assert kinds.count("fork") == 0
        # Under forkserver, the server; besides, the standard library's tracker of resources.
        assert kinds.count("vfork") >= (WORKERS_STARTED if start_method == "spawn" else 1)


CLOSED_WHILE_BUSY = """
if __name__ == "__main__":
    pool = make()
    result = pool.apply_async(touch_and_wait, (sys.argv[2], "/nonexistent/never"))
    wait_until(lambda: os.path.exists(sys.argv[2]), "the task to begin")
    pool.close()
    print("done")
"""


def test_a_program_may_end_after_close_while_a_task_runs(start_method: str, tmp_path: Path) -> None:
    """Row 9, gh-83386: the exit waits for a thread that waits for the exit."""
    assert_quiet(run(CLOSED_WHILE_BUSY, tmp_path, start_method, str(tmp_path / "began")), "done\n")


NESTED = """
def hold(began):
    global kept
    kept = make()
    kept.apply_async(touch_and_wait, (began, "/nonexistent/never")).get()

def use(count):
    inner = make()
    squares = inner.map(square, range(count))
    inner.close()
    inner.join()
    return squares

if __name__ == "__main__":
    pool = make()
    if sys.argv[2] == "hold":
        began = [sys.argv[3] + str(n) for n in range(2)]
        results = pool.map_async(hold, began, 1)
        wait_until(lambda: all(map(os.path.exists, began)), "the inner tasks to begin")
    else:
        assert pool.map(use, [5, 5], 1) == [[0, 1, 4, 9, 16]] * 2
        pool.close()
        pool.join()
    print("done")
"""


def test_a_program_of_nested_pools_that_are_busy_ends(start_method: str, tmp_path: Path) -> None:
    """Row 16, loky #363: outer and inner wait for each other at the exit."""
    ended = run(NESTED, tmp_path, start_method, "hold", str(tmp_path / "began"))
    assert_quiet(ended, "done\n")


def test_nested_pools_report_no_leaks(start_method: str, tmp_path: Path) -> None:
    """Row 18, loky #369: the resource tracker tells of what the inner pool has cleaned up itself."""
    assert_quiet(run(NESTED, tmp_path, start_method, "use"), "done\n")


RESTARTED = """
def hold(began):
    touch_and_wait(began, "/nonexistent/never")

if __name__ == "__main__":
    pool = make()
    assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]
    assert pool.apply(len, (bytes(1 << 20),)) == 1 << 20
    if sys.argv[2] == "stay":
        pool.map(hold, [sys.argv[3] + str(n) for n in range(2)], 1)
    pool.close()
    pool.join()
    print("works")
"""


def kill_parent(
    directory: Path, start_method: str, before: Callable[[list[int]], None]
) -> tuple[list[int], str]:
    """Kill a program whose two workers are in a task: its family's ids, and their mark."""
    args = (start_method, "stay", str(directory / "began"))
    program = PROLOGUE + RESTARTED
    parent, mark = start_script(program, directory, *args, extra={"TMPDIR": str(directory)})
    with parent:
        began = [directory / f"began{n}" for n in range(2)]
        wait_until(lambda: all(path.exists() for path in began), "both tasks to begin")
        family = [pid for pid in procfs.with_environment(mark) if pid != parent.pid]
        before(family)
        parent.kill()
        parent.wait()
    return family, mark


def kill_all(pids: list[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def test_a_family_that_is_killed_leaves_no_names_and_the_next_one_works(
    start_method: str, tmp_path: Path
) -> None:
    """Row 22, iceoryx2 #601: stale names of the dead are in the way of the living.

    The standard library's forkserver may leave the folder of its socket. /dev/shm is the census's.
    """
    _, mark = kill_parent(tmp_path, start_method, kill_all)
    assert orphans_of(mark) == []
    left = {path.name for path in tmp_path.iterdir()} - {"began0", "began1"}
    assert all(name.startswith(("script-", "pymp-")) for name in left), left
    assert_quiet(run(RESTARTED, tmp_path, start_method, "end"), "works\n")


def test_a_program_that_starts_again_before_the_clean_up_is_not_touched_by_it(
    start_method: str, tmp_path: Path
) -> None:
    """Row 24, iceoryx #653: the new one and the clean-up of the old one end each other.

    The old workers are stopped while their parent dies, so they go only after the new program.
    """
    old, mark = kill_parent(tmp_path, start_method, stop)
    try:
        assert_quiet(run(RESTARTED, tmp_path, start_method, "end"), "works\n")
        assert all(procfs.state(pid) == "T" for pid in old)
    finally:
        for pid in old:
            os.kill(pid, signal.SIGCONT)
    assert orphans_of(mark) == []


REFUSED = """
def refuse(name):
    raise PermissionError(1, "Operation not permitted")

os.sysconf = refuse

if __name__ == "__main__":
    pool = make()
    assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]
    pool.close()
    pool.join()
    print("works")
"""


def test_a_pool_works_where_sysconf_is_refused(start_method: str, tmp_path: Path) -> None:
    """Row 25, gh-155912: a sandbox denies a look at the limit of semaphores."""
    assert_quiet(run(REFUSED, tmp_path, start_method), "works\n")
