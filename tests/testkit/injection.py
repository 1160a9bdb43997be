"""System calls that fail, or kill, on purpose: strace attached to a program of three tasks."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from testkit import procfs
from testkit.ledger import wait_until
from testkit.scripts import Ended, orphans_of, start_script

LIMIT_S = 20.0
CALL = re.compile(r"^(\d+) +(\w+)\((.*)$")

PROGRAM = """
    import os, signal, sys
    from testkit.work import square
    from millpond import Pool, WorkerDied

    forks = []

    def stop_in_first_worker():
        if len(forks) == 1:
            os.kill(os.getpid(), signal.SIGSTOP)

    def told(result):
        try:
            return result.get()
        except WorkerDied as death:
            return type(death).__name__

    if __name__ == "__main__":
        if sys.argv[1] == "worker":
            os.register_at_fork(before=lambda: forks.append(1), after_in_child=stop_in_first_worker)
        if sys.argv[1] == "parent":
            os.kill(os.getpid(), signal.SIGSTOP)
        pool = Pool(int(sys.argv[2]))
        if sys.argv[1] == "keeper":
            assert pool.apply(square, (3,)) == 9
            os.kill(os.getpid(), signal.SIGSTOP)
            assert told(pool.apply_async(os._exit, (3,))) == "WorkerDied"
        results = [pool.apply_async(square, (x,)) for x in range(3)]
        print(*map(told, results), flush=True)
        pool.close()
        pool.join()
"""


@dataclass(frozen=True)
class Run:
    """How the program ended, and what strace saw of it."""

    ended: Ended
    log: list[str]
    hung: bool = False

    @property
    def injected(self) -> list[str]:
        """The calls that failed on purpose. One that another thread's call interrupts in the log is
        put together: its beginning tells what it was."""
        begun: dict[str, str] = {}
        found = []
        for line in self.log:
            thread, _, rest = line.partition(" ")
            if "<unfinished ...>" in rest:
                begun[thread] = line
            elif "(INJECTED)" in rest:
                found.append(begun.get(thread, "") + line if "resumed>" in rest else line)
        return found

    def counts(self) -> Counter[str]:
        """Each system call's most occurrences in one thread: the n that injections can have."""
        by_thread: Counter[tuple[str, str]] = Counter()
        for line in self.log:
            match = CALL.match(line)
            if match:
                by_thread[match[1], match[2]] += 1
        most: Counter[str] = Counter()
        for (_, call), count in by_thread.items():
            most[call] = max(most[call], count)
        return most


def run_traced(
    directory: Path, whom: str, workers: int, options: Sequence[str], limit_s: float = LIMIT_S
) -> Run:
    """Run the program with strace on the parent's family, or on the first worker alone.

    Args:
        whom: "parent", from before its pool is made; "keeper", the parent from before its worker
            dies; or "worker", the first one from its birth.
        options: strace's, which say what to inject.
        limit_s: After how many seconds the run has hung.
    """
    process, mark = start_script(PROGRAM, directory, whom, str(workers))
    log = directory / f"{mark}.strace"
    strace: subprocess.Popen[bytes] | None = None
    try:
        pid = stopped_one(process.pid, whom)
        strace = subprocess.Popen(
            ["strace", "-f", "-qq", "-o", str(log), *options, "-p", str(pid)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        wait_until(attached_to(pid, strace), "strace to be attached")
        os.kill(pid, signal.SIGCONT)
        hung = False
        try:
            stdout, stderr = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            hung = True
            process.kill()
            stdout, stderr = process.communicate()
        ended = Ended(process.returncode, stdout, stderr, orphans_of(mark))
        strace.communicate(timeout=LIMIT_S)
        return Run(ended, log.read_text(errors="replace").splitlines(), hung)
    finally:
        for one in (strace, process):
            if one is not None and one.poll() is None:
                one.kill()
        orphans_of(mark, grace_s=0)
        for one in (strace, process):
            if one is not None:
                one.communicate()


def stopped_one(root: int, whom: str) -> int:
    """Wait for the process that has stopped itself, to be met."""
    found: list[int] = []

    def look() -> bool:
        family = procfs.descendants(root) if whom == "worker" else procfs.processes()
        found[:] = [
            process.pid
            for process in family
            if process.state == "T" and (whom == "worker" or process.pid == root)
        ]
        return bool(found)

    wait_until(look, f"the {whom} to stop")
    return found[0]


def attached_to(pid: int, strace: subprocess.Popen[bytes]) -> Callable[[], bool]:
    def look() -> bool:
        assert strace.poll() is None, "strace may not attach here"
        threads = (procfs.PROC / str(pid) / "task").iterdir()
        return all(f"TracerPid:\t{strace.pid}\n" in (at / "status").read_text() for at in threads)

    return look
