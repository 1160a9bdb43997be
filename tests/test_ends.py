"""Every way a program can end while it has a pool: no hang, no crash, no orphan, no traceback.

Each is a program of its own. The exit code is the program's, standard error holds what the program
put there and nothing of ours, and nobody of its family is alive five seconds later.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
from testkit.ledger import wait_until
from testkit.scripts import orphans_of, run_script, start_script

PROLOGUE = """
import atexit, gc, multiprocessing, os, sys, threading, time, warnings
warnings.simplefilter("ignore", ResourceWarning)
warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*multi-threaded")
from testkit.work import square, identity, touch_and_wait
from millpond import Pool

def make(processes=2):
    return Pool(processes, context=multiprocessing.get_context(sys.argv[1]))

def nested(x):
    with Pool(2, context=multiprocessing.get_context("fork")) as inner:
        return inner.map(square, range(x))

def nested_left_open(x):
    global kept
    kept = Pool(2, context=multiprocessing.get_context("fork"))
    return kept.map(square, range(x))

"""


@dataclass(frozen=True)
class Ending:
    """A program's body (run under `__main__`), its exit code, and its own tracebacks."""

    body: str
    returncode: int = 0
    tracebacks: int = 0
    stdout: str = "done\n"


ENDINGS: dict[str, Ending] = {
    "global never closed": Ending("pool = make(); pool.map(square, range(9)); print('done')"),
    "global never used": Ending("pool = make(); print('done')"),
    "global closed, not joined": Ending(
        "pool = make(); r = pool.map_async(square, range(9)); pool.close(); print('done')"
    ),
    "global with a backlog": Ending(
        "pool = make(); r = pool.map_async(time.sleep, [600] * 50, 1); print('done')"
    ),
    "global with an unread imap": Ending(
        "pool = make(); it = pool.imap(square, iter(range(100000))); next(it); print('done')"
    ),
    "closed in atexit": Ending(
        "pool = make()\n"
        "def end(): pool.close(); pool.join(); print('done')\n"
        "atexit.register(end)\n"
        "pool.map(square, range(9))"
    ),
    "used in atexit": Ending(
        "pool = make()\n"
        "def end(): print('done' if pool.map(square, [3]) == [9] else 'wrong')\n"
        "atexit.register(end)"
    ),
    "made at module level, deleted": Ending(
        "pool = make(); pool.map(square, [1]); del pool; gc.collect(); print('done')"
    ),
    "deleted in another thread": Ending(
        "box = [make()]\n"
        "box[0].map(square, range(9))\n"
        "t = threading.Thread(target=box.clear); t.start(); t.join(); gc.collect(); print('done')"
    ),
    "in a cycle": Ending(
        "class Holder: pass\n"
        "h = Holder(); h.me = h; h.pool = make(); h.pool.map(square, [1]); del h\n"
        "gc.collect(); print('done')"
    ),
    "many pools": Ending(
        "pools = [make(1) for _ in range(5)]; [p.apply(square, (2,)) for p in pools]; print('done')"
    ),
    "exception in with": Ending(
        "with make() as pool:\n    r = pool.map_async(time.sleep, [600] * 5, 1)\n"
        "    print('done'); raise LookupError('mine')",
        returncode=1,
        tracebacks=1,
    ),
    "exception with a global": Ending(
        "pool = make(); pool.map(square, [1]); print('done'); raise LookupError('mine')",
        returncode=1,
        tracebacks=1,
    ),
    "sys.exit in with": Ending(
        "with make() as pool:\n    print('done'); sys.exit(7)", returncode=7
    ),
    "sys.exit with a global": Ending(
        "pool = make(); pool.map(square, [1]); print('done'); sys.exit(7)", returncode=7
    ),
    "os._exit": Ending(
        "pool = make(); pool.map(square, [1]); print('done', flush=True); os._exit(6)", returncode=6
    ),
    "os._exit with a backlog": Ending(
        "pool = make(); r = pool.map_async(time.sleep, [600] * 9, 1)\n"
        "print('done', flush=True); os._exit(6)",
        returncode=6,
    ),
    "daemon thread in get": Ending(
        "pool = make(); r = pool.apply_async(time.sleep, (600,))\n"
        "threading.Thread(target=r.wait, daemon=True).start(); print('done')"
    ),
    "daemon threads that submit for ever": Ending(
        "pool = make()\n"
        "def busy():\n"
        "    try:\n"
        "        while True: pool.apply(square, (3,))\n"
        "    except BaseException: pass\n"
        "for _ in range(4): threading.Thread(target=busy, daemon=True).start()\n"
        "pool.map(square, range(99)); print('done')"
    ),
    "iterable that blocks for ever": Ending(
        "pool = make()\n"
        "def blocked():\n"
        "    yield 1\n"
        "    threading.Event().wait()\n"
        "it = pool.imap(square, blocked()); next(it); print('done')"
    ),
    "callback that blocks for ever": Ending(
        "pool = make(); into = threading.Event()\n"
        "def block(_): into.set(); time.sleep(600)\n"
        "pool.apply_async(square, (1,), callback=block); into.wait(); print('done')"
    ),
    "nested pool": Ending(
        "pool = make(); print('done' if pool.map(nested, [3]) == [[0, 1, 4]] else 'wrong')"
    ),
    "nested pool left open": Ending(
        "pool = make(); pool.map(nested_left_open, [3, 4], 1); print('done')"
    ),
    "nested pool left open, closed orderly": Ending(
        "pool = make(); pool.map(nested_left_open, [3, 4], 1); pool.close()\n"
        "pool.join(); print('done')"
    ),
    "result outlives the pool": Ending(
        "pool = make(); kept = pool.map(identity, [bytes(1 << 22)] * 3)\n"
        "pool.terminate(); pool.join(); del pool\n"
        "print('done' if kept[2][-1] == 0 else 'wrong')"
    ),
    "a forked child drops the pool": Ending(
        "pool = make(); pool.map(square, [1]); child = os.fork()\n"
        "if child == 0:\n    del pool; gc.collect(); os._exit(0)\n"
        "assert os.waitpid(child, 0)[1] == 0; assert pool.map(square, [3]) == [9]; print('done')"
    ),
}

SLOW_STARTS = (
    "global never closed",
    "exception in with",
    "sys.exit with a global",
    "nested pool",
    "os._exit",
)


def program(ending: Ending) -> str:
    body = "\n".join("    " + line for line in ending.body.splitlines())
    return f"{PROLOGUE}\nif __name__ == '__main__':\n{body}\n"


def check(name: str, start_method: str, directory: Path) -> None:
    ending = ENDINGS[name]
    ended = run_script(program(ending), directory, start_method)
    assert ended.returncode == ending.returncode, ended
    assert ended.stdout == ending.stdout, ended
    assert ended.tracebacks == ending.tracebacks, ended.stderr
    if not ending.tracebacks:
        assert ended.stderr == ""
    assert ended.orphans == []


@pytest.mark.parametrize("name", ENDINGS)
def test_a_program_ends_as_it_wants_to(name: str, tmp_path: Path) -> None:
    check(name, "fork", tmp_path)


@pytest.mark.parametrize("start_method", ["spawn", "forkserver"])
@pytest.mark.parametrize("name", SLOW_STARTS)
def test_and_so_it_does_under_spawn_and_forkserver(
    name: str, start_method: str, tmp_path: Path
) -> None:
    check(name, start_method, tmp_path)


INTERRUPTED = """
if __name__ == "__main__":
    import signal
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored
    pool = make()
    print("ready", flush=True)
    try:
        pool.apply_async(touch_and_wait, (sys.argv[2], "/nonexistent/never")).get()
    except KeyboardInterrupt:
        pool.terminate()
        pool.join()
        sys.exit(9)
"""


def test_ctrl_c_reaches_a_get_and_the_program_ends(tmp_path: Path) -> None:
    """The wait returns for a signal and runs its handler; only the parent is signalled here."""
    began = tmp_path / "began"
    process, mark = start_script(PROLOGUE + INTERRUPTED, tmp_path, "fork", str(began))
    with process:
        wait_until(began.exists, "the task to begin")
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate()
        assert process.returncode == 9
        assert stderr == ""
    assert orphans_of(mark) == []


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_the_parent_ends_everybody(
    signum: signal.Signals, tmp_path: Path
) -> None:
    began = tmp_path / "began"
    process, mark = start_script(PROLOGUE + INTERRUPTED, tmp_path, "fork", str(began))
    with process:
        wait_until(began.exists, "the task to begin")
        process.send_signal(signum)
        process.wait()
        assert process.returncode == -signum
        orphans = orphans_of(mark)
    assert orphans == []
