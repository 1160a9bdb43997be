"""A program's own exit handlers that use or end its pool, registered before it was made and after.

Handlers run in the reverse order. One from before the import of multiprocessing comes when the
library's own has ended all pools; the others come before that, and find a pool that works.
"""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest
from testkit.forms import IS_LONG
from testkit.scripts import Ended, orphans_of, start_script

END_S, GONE_S = 5.0, 1.0

PROGRAM = """
import atexit, os, sys

library, registered, action, state = sys.argv[1:]
began, released = os.path.abspath("began"), os.path.abspath("released")
pool = None

def at_exit():
    print("handler", flush=True)
    open(released, "w").close()
    if action == "use":
        assert pool.map(square, range(5), 1) == [0, 1, 4, 9, 16]
        assert list(pool.imap(square, iter(range(5)))) == [0, 1, 4, 9, 16]
    elif action == "close":
        pool.close()
        pool.join()
    elif action == "terminate":
        pool.terminate()
        pool.join()
    print("through", flush=True)

if registered == "before the import":
    atexit.register(at_exit)

import importlib, multiprocessing.util, time
from testkit.ledger import wait_until
from testkit.work import square, touch_and_wait

def hold(name):
    touch_and_wait(began + name, released)

if __name__ == "__main__":
    if registered == "before the pool":
        atexit.register(at_exit)
    pool = importlib.import_module(library).Pool(2)
    if registered == "after the pool":
        atexit.register(at_exit)
    assert pool.map(square, range(20)) == [x * x for x in range(20)]
    results = []
    if state != "idle":
        results += [pool.apply_async(hold, (name,)) for name in "01"]
        wait_until(lambda: all(os.path.exists(began + name) for name in "01"), "the tasks to begin")
    if state == "backlog":
        results += [pool.apply_async(square, (x,)) for x in range(500)]
        results += [pool.apply_async(len, (bytes(1 << 20),)) for _ in range(20)]
        results.append(pool.imap(square, iter(range(500))))
    print(time.monotonic(), flush=True)
"""

REGISTERED = ("before the import", "before the pool", "after the pool")
ACTIONS = ("use", "close", "terminate")
STATES = ("idle", "busy", "backlog")
# The library has ended the pool by then. The standard library's hangs.
REFUSED = ("before the import", "use", "idle")
CELLS = [
    (when, action, state)
    for when in REGISTERED
    for action in ACTIONS
    for state in STATES
    if (when, action) != REFUSED[:2]
]


def run(
    library: str, registered: str, action: str, state: str, directory: Path
) -> tuple[Ended, float]:
    """How the program ended, and how many seconds after it was ready."""
    process, mark = start_script(PROGRAM, directory, library, registered, action, state)
    try:
        stdout, stderr = process.communicate(timeout=2 * END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        stdout, stderr = process.communicate()
    now_s = time.monotonic()
    ready_s, _, told = stdout.partition("\n")
    assert ready_s, stderr
    ended = Ended(process.returncode, told, stderr, orphans_of(mark, GONE_S))
    return ended, now_s - float(ready_s)


EXPECTED = (0, "handler\nthrough\n", 0)


def seen(ended: Ended) -> tuple[int, str, int]:
    return ended.returncode, ended.stdout, ended.tracebacks


@pytest.mark.parametrize(("registered", "action", "state"), CELLS)
def test_an_exit_handler_may_use_or_end_a_pool(
    registered: str, action: str, state: str, tmp_path: Path
) -> None:
    ended, took_s = run("millpond", registered, action, state, tmp_path)
    assert (seen(ended), ended.stderr, ended.orphans) == (EXPECTED, "", [])
    assert took_s <= END_S


def test_an_exit_handler_that_comes_too_late_is_refused_the_pool(tmp_path: Path) -> None:
    """It is told, and the program goes on to its end."""
    ended, took_s = run("millpond", *REFUSED, tmp_path)
    assert (seen(ended), ended.orphans) == ((0, "handler\n", 1), []), ended
    assert took_s <= END_S


@pytest.mark.skipif(not IS_LONG, reason="says something of the standard library only")
@pytest.mark.parametrize(("registered", "action", "state"), CELLS)
def test_the_standard_librarys_pool_answers_the_same(
    registered: str, action: str, state: str, tmp_path: Path
) -> None:
    ended, _ = run("multiprocessing.pool", registered, action, state, tmp_path)
    if ended.returncode == -signal.SIGKILL and action == "terminate":
        pytest.xfail("its terminate() hangs now and then on a loaded machine")
    assert seen(ended) == EXPECTED, ended
