"""System calls that fail, or kill, on purpose: strace attached to a program of a few tasks."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from testkit import procfs
from testkit.census import Census
from testkit.ledger import wait_until
from testkit.scripts import Ended, orphans_of, start_script

LIMIT_S = 20.0
SETTLE_S = 5.0
CALL = re.compile(r"^(\d+) +(\w+)\((.*)$")

PROGRAM = """
    import functools, gc, multiprocessing, os, signal, sys, traceback
    from testkit.work import square
    from millpond import Pool, WorkerDied

    whom, workers, size, gate = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
    forks = []

    def item(data, x):
        return data[x]

    def stop():
        os.kill(os.getpid(), signal.SIGSTOP)

    def stop_in_first_worker():
        if len(forks) == 1:
            stop()

    def told(result):
        try:
            return result.get()
        except WorkerDied as death:
            return type(death).__name__

    def large(pool):
        # Arguments and results that lie beside the slots, and a list that is proved unchanged, and is
        # found changed.
        yield told(pool.apply_async(len, (bytes(3 << 20),)))
        returned = told(pool.apply_async(bytes, (3 << 20,)))
        yield returned if isinstance(returned, str) else len(returned)
        # Numbers that Python has already: denied memory for ever, it asks anew for each of others.
        data = list(range(256)) * 800
        of_data = functools.partial(item, data)
        for x in range(5, 8):
            yield told(pool.apply_async(of_data, (x,)))
        data[8] = 88
        yield told(pool.apply_async(of_data, (8,)))

    def main():
        pool = Pool(workers)
        try:
            if whom == "keeper":
                assert pool.apply(square, (3,)) == 9
                stop()
                assert told(pool.apply_async(os._exit, (3,))) == "WorkerDied"
            results = [pool.apply_async(square, (x,)) for x in range(3)]
            answers = [told(result) for result in results]
            if size == "large":
                answers += large(pool)
            print(*answers, flush=True)
            pool.close()
        except BaseException:
            pool.terminate()
            raise
        finally:
            pool.join()

    if __name__ == "__main__":
        if whom == "worker":
            os.register_at_fork(before=lambda: forks.append(1), after_in_child=stop_in_first_worker)
        stop()
        code = 0
        try:
            main()
        except Exception:
            traceback.print_exc()
            code = 1
        # As the next start of a process does: it forgets those that a failed join has not.
        multiprocessing.active_children()
        gc.collect()
        # What it holds now is counted from outside: here a census would meet the faults itself.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
        os.mkdir(gate)
        signal.sigwait({signal.SIGUSR1})
        sys.exit(code)
"""


@dataclass(frozen=True)
class Run:
    """How the program ended, and what strace saw of it."""

    ended: Ended
    log: list[str]
    hung: bool = False
    changes: list[str] | None = None
    """What the program held more or less after its pool was joined than before it was made; None if it
    did not come so far."""

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
    directory: Path,
    whom: str,
    workers: int,
    options: Sequence[str],
    limit_s: float = LIMIT_S,
    size: str = "large",
) -> Run:
    """Run the program with strace on the parent's family, or on the first worker alone.

    Args:
        directory: Where the program and its log may lie.
        whom: "parent", from before its pool is made; "keeper", the parent from before its worker
            dies; or "worker", the first one from its birth.
        workers: How many its pool has.
        options: strace's, which say what to inject.
        limit_s: After how many seconds the run has hung.
        size: "small" for three small tasks alone; "large" for such with much data as well.
    """
    gate = directory / f"joined-{uuid.uuid4().hex[:8]}"
    process, mark = start_script(PROGRAM, directory, whom, str(workers), size, str(gate))
    log = directory / f"{mark}.strace"
    strace: subprocess.Popen[bytes] | None = None
    try:
        wait_until(lambda: is_stopped(process.pid), "the program to stop")
        before = Census.take(process.pid)
        pid = process.pid if whom == "parent" else stopped_again(process.pid, whom)
        strace = subprocess.Popen(
            ["strace", "-f", "-qq", "-o", str(log), *options, "-p", str(pid)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        wait_until(attached_to(pid, strace), "strace to be attached")
        os.kill(pid, signal.SIGCONT)
        give_up_s = time.monotonic() + limit_s
        changes: list[str] | None = None
        if is_reached(gate, process, give_up_s):
            changes = settled_changes(before, process.pid)
            os.kill(process.pid, signal.SIGUSR1)
        hung = False
        try:
            stdout, stderr = process.communicate(timeout=max(0.0, give_up_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            hung = True
            process.kill()
            stdout, stderr = process.communicate()
        ended = Ended(process.returncode, stdout, stderr, orphans_of(mark))
        strace.communicate(timeout=LIMIT_S)
        return Run(ended, log.read_text(errors="replace").splitlines(), hung, changes)
    finally:
        for one in (strace, process):
            if one is not None and one.poll() is None:
                one.kill()
        orphans_of(mark, grace_s=0)
        for one in (strace, process):
            if one is not None:
                one.communicate()


def is_stopped(pid: int) -> bool:
    return procfs.state(pid) == "T"


def stopped_again(root: int, whom: str) -> int:
    """Let the program go on, and wait for the process that stops itself next, to be met."""
    os.kill(root, signal.SIGCONT)
    found: list[int] = []

    def look() -> bool:
        family = [process.pid for process in procfs.descendants(root)]
        found[:] = filter(is_stopped, family if whom == "worker" else [root])
        return bool(found)

    wait_until(look, f"the {whom} to stop")
    return found[0]


def is_reached(gate: Path, process: subprocess.Popen[str], give_up_s: float) -> bool:
    """Whether the program comes to its gate, before it ends or the time is over."""
    while not gate.exists():
        if process.poll() is not None or time.monotonic() > give_up_s:
            return False
        time.sleep(0.005)
    return True


def is_pipe(change: str) -> bool:
    return change.startswith("fds: +") and " pipe:" in change


def settled_changes(before: Census, pid: int) -> list[str]:
    """What a process holds more or less than before, once everything had time to end."""
    give_up_s = time.monotonic() + SETTLE_S
    while changes := before.changes(Census.take(pid)):
        if all(map(is_pipe, changes)) or time.monotonic() > give_up_s:
            break  # no pipe of an ended pool has an owner who might still close it
        time.sleep(0.02)
    # Names in /dev/shm are the whole machine's.
    return [line for line in changes if not line.startswith("shm: ")]


def attached_to(pid: int, strace: subprocess.Popen[bytes]) -> Callable[[], bool]:
    def look() -> bool:
        assert strace.poll() is None, "strace may not attach here"
        threads = (procfs.PROC / str(pid) / "task").iterdir()
        return all(f"TracerPid:\t{strace.pid}\n" in (at / "status").read_text() for at in threads)

    return look
