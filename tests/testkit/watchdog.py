"""The watchdog: a hang is a failure that tells where everybody stands.

It is a process of its own, not a thread: it can be stopped by no lock of ours, and a thread in the
tested process would make every fork a fork of a threaded program. When a test exceeds its limit it
makes the process print its Python stacks (by a signal that `faulthandler` answers without the GIL;
forked workers have inherited the answer), tells for each process of the family what the kernel
knows, kills the children, and asks the test to fail. A test that cannot even do that is killed.

What a test has noted here is told when it exceeds its limit, and when its process ends in it: what it
has printed may be lost by then.
"""

from __future__ import annotations

import faulthandler
import fcntl
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from types import FrameType
from typing import IO

DUMP_SIGNAL = signal.SIGRTMAX - 1
FAIL_SIGNAL = signal.SIGRTMAX - 2
FAIL_GRACE_S = float(os.environ.get("MILLPOND_WATCHDOG_GRACE_S", "10"))


class Expired(BaseException):
    """Raised in a test that exceeded its limit; no `except Exception` stops it."""


class Watchdog:
    """The end in the tested process: starts the monitor, tells it what runs and how long it may."""

    _current: Watchdog | None = None

    def __init__(self) -> None:
        self._stacks: IO[str] = tempfile.TemporaryFile("w+", prefix="millpond-stacks-")
        shared = self._stacks.fileno()  # by the whole family, so every write goes to the end
        fcntl.fcntl(shared, fcntl.F_SETFL, fcntl.fcntl(shared, fcntl.F_GETFL) | os.O_APPEND)
        self._running: str | None = None
        Watchdog._current = self
        self._owner = os.getpid()
        faulthandler.register(DUMP_SIGNAL, file=self._stacks, all_threads=True)
        signal.signal(FAIL_SIGNAL, self._fail)
        self._monitor = subprocess.Popen(
            [sys.executable, os.path.abspath(__file__), str(self._owner), str(shared)],
            pass_fds=[shared],
            stdin=subprocess.PIPE,
            text=True,
            bufsize=1,
            start_new_session=True,  # a Ctrl-C is for the tests
        )

    @property
    def pid(self) -> int:
        """The monitor's, for the census to leave out."""
        return self._monitor.pid

    def arm(self, name: str, limit_s: float) -> None:
        self._running = name
        self._tell(f"arm {limit_s} {name}")

    def disarm(self) -> None:
        self._running = None
        self._tell("disarm")

    def note(self, text: str) -> None:
        if self._running is not None and os.getpid() == self._owner:
            self._tell(f"note {text}")

    def stop(self) -> None:
        assert self._monitor.stdin is not None
        Watchdog._current = None
        self._monitor.stdin.close()
        self._monitor.wait()
        faulthandler.unregister(DUMP_SIGNAL)
        self._stacks.close()

    def _tell(self, line: str) -> None:
        assert self._monitor.stdin is not None
        self._monitor.stdin.write(line.replace("\n", " ") + "\n")
        self._monitor.stdin.flush()

    def _fail(self, _signum: int, _frame: FrameType | None) -> None:
        if self._running is not None and os.getpid() == self._owner:
            raise Expired(f"{self._running} exceeded its limit; the dump is on standard error")


def note(text: str) -> None:
    """Have a line told if the running test hangs, or its process ends; nothing outside of tests."""
    if Watchdog._current is not None:
        Watchdog._current.note(text)


# The monitor, from here on: it runs as a script and imports nothing of the project.


def _read(path: str) -> str:
    try:
        with open(path, errors="replace") as file:
            return file.read().replace("\0", " ").strip()
    except OSError as error:
        return f"({error.strerror})"


def _family(root: int) -> list[int]:
    """`root` and its descendants, parents first."""
    parents: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = _read(f"/proc/{name}/stat").rpartition(")")[2].split()
            if len(fields) > 1:
                parents.setdefault(int(fields[1]), []).append(int(name))
    family = [root]
    for pid in family:
        family += parents.get(pid, [])
    return [pid for pid in family if pid != os.getpid()]


def _catches_dump(pid: int) -> bool:
    """Whether the signal would print stacks there, rather than kill."""
    for line in _read(f"/proc/{pid}/status").splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (DUMP_SIGNAL - 1) & 1)
    return False


def _describe(pid: int) -> str:
    keep = ("Name", "State", "PPid", "Threads", "VmRSS", "SigBlk", "SigPnd")
    status = [line for line in _read(f"/proc/{pid}/status").splitlines() if line.startswith(keep)]
    lines = [f"--- process {pid}: {_read(f'/proc/{pid}/cmdline')}", "    " + "; ".join(status)]
    try:
        tids = sorted(os.listdir(f"/proc/{pid}/task"), key=int)
    except OSError:
        tids = []
    for tid in tids:
        at = f"/proc/{pid}/task/{tid}"
        lines.append(
            f"    thread {tid} {_read(at + '/comm')}: wchan {_read(at + '/wchan')}, "
            f"syscall {_read(at + '/syscall')}"
        )
    return "\n".join(lines)


def _say(what: str, notes: list[str]) -> None:
    print(f"=== WATCHDOG: {what} ===", *notes, sep="\n", file=sys.stderr, flush=True)


def _expire(root: int, stacks: int, what: str, notes: list[str]) -> None:
    family = _family(root)
    print(file=sys.stderr)
    _say(what, notes)
    offset = os.fstat(stacks).st_size
    for pid in family:
        print(_describe(pid), file=sys.stderr, flush=True)
        if _catches_dump(pid):
            os.write(stacks, f"--- Python stacks of {pid}\n".encode())
            os.kill(pid, DUMP_SIGNAL)
            time.sleep(0.3)
    while part := os.pread(stacks, 65536, offset):
        sys.stderr.write(part.decode(errors="replace"))
        offset += len(part)
    _say("end of dump; killing the children", [])
    # Later tests need the standard library's helpers: it would warn of their loss.
    _kill([pid for pid in family[1:] if not _is_stdlib_helper(pid, root)])
    os.kill(root, FAIL_SIGNAL)


def _is_stdlib_helper(pid: int, root: int) -> bool:
    """Children of the tested process; the forkserver's own children carry its command line too."""
    line = _read(f"/proc/{pid}/cmdline")
    helper = "from multiprocessing.resource_tracker" in line or "multiprocessing.forkserver" in line
    return helper and _read(f"/proc/{pid}/stat").rpartition(")")[2].split()[1:2] == [str(root)]


def _kill(pids: list[int]) -> None:
    for pid in reversed(pids):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def monitor(root: int, stacks: int) -> None:
    """Read `arm SECONDS NAME`, `note TEXT`, `disarm`; act when the time is over; end with the tests."""
    deadline: float | None = None
    name, limit_s, expired = "", 0.0, False
    notes: list[str] = []
    pending = b""
    while os.getppid() == root:
        wait = 1.0 if deadline is None else max(0.0, min(1.0, deadline - time.monotonic()))
        if select.select([0], [], [], wait)[0]:
            data = os.read(0, 65536)
            if not data:
                break
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                verb, _, rest = line.decode().partition(" ")
                if verb == "note":
                    notes.append(rest)
                    continue
                expired, deadline, notes = False, None, []
                if verb == "arm":
                    limit, _, name = rest.partition(" ")
                    limit_s = float(limit)
                    deadline = time.monotonic() + limit_s
        elif deadline is not None and time.monotonic() >= deadline:
            if expired:
                _say(f"{name} does not end; killing it", notes)
                _kill(_family(root))
                return
            _expire(root, stacks, f"{name} exceeded {limit_s:g} s", notes)
            expired, deadline = True, time.monotonic() + FAIL_GRACE_S
    if deadline is not None:
        _say(f"the tests' process has ended in {name}", notes)


if __name__ == "__main__":
    monitor(int(sys.argv[1]), int(sys.argv[2]))
