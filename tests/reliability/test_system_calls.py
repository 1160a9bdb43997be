"""A system call fails, or its process is killed at it: each call of a run of three tasks in turn.

The method is sqlite's: the first occurrence, the second, and so on to the last. strace counts the
occurrences of a call in each thread by itself, so parent and workers can meet the same fault at once.
The run ends with three answers or a clear error: a hang is a failure, and so is anything left behind.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from testkit.denial import FUTEX_NUMBERS
from testkit.forms import IS_LONG, by_form, seeded
from testkit.injection import LIMIT_S, Run, run_traced
from testkit.scripts import run_script

ANSWERS = ["0", "1", "4"]
DIED = "WorkerDied"

ERRORS: dict[str, tuple[str, ...]] = {
    "memfd_create": ("EMFILE", "ENOMEM", "ENOSYS"),
    "ftruncate": ("ENOSPC",),
    "mmap": ("ENOMEM",),
    "mprotect": ("ENOMEM",),
    "madvise": ("ENOMEM",),
    "eventfd2": ("EMFILE",),
    "epoll_create1": ("EMFILE",),
    "epoll_ctl": ("ENOMEM",),
    "epoll_pwait": ("EINTR",),
    "poll": ("EINTR", "ENOMEM"),
    "ppoll": ("EINTR", "ENOMEM"),
    "futex": ("EINTR", "EAGAIN"),
    "clone": ("EAGAIN", "ENOMEM"),
    "clone3": ("EAGAIN",),
    "pidfd_open": ("EMFILE", "ENOMEM"),
    "pipe2": ("EMFILE",),
    "fcntl": ("EMFILE",),
    "fallocate": ("ENOSPC",),
    "openat": ("EMFILE",),
}
CLEAR = (
    "OSError: ",
    "BlockingIOError: ",
    "MemoryError",
    "RuntimeError: can't start new thread",
    "millpond.errors.WorkerDied: ",
)
WAITS = ("futex", "poll", "ppoll", "epoll_pwait")
FUTEX_LIMIT_S = 4.0
"""What of a run with a failed wake hangs, is not judged, and need not be waited for."""
FAULTS_SHORT, KILLS_SHORT = 40, 15

pytestmark = [
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed"),
    pytest.mark.limit_s(by_form(120, 3600)),
]


def each_occurrence(directory: Path, whom: str, workers: int) -> list[tuple[str, int]]:
    """(call, n) of an undisturbed run, which must answer."""
    run = run_traced(directory, whom, workers, [])
    assert run.ended.stdout.split() == ANSWERS, run
    return [(call, n) for call, most in sorted(run.counts().items()) for n in range(1, most + 1)]


def is_answer(tokens: list[str], deaths_max: int) -> bool:
    """Three answers in order, of which a few may be deaths."""
    deaths = tokens.count(DIED)
    right = all(token in (DIED, answer) for token, answer in zip(tokens, ANSWERS, strict=False))
    return len(tokens) == len(ANSWERS) and right and deaths <= deaths_max


def is_clear(run: Run) -> bool:
    """Answers, or an error that says what the matter is."""
    if run.hung or run.ended.orphans:
        return False
    if run.ended.returncode == 0:
        return is_answer(run.ended.stdout.split(), deaths_max=len(ANSWERS))
    last = run.ended.stderr.strip().splitlines()[-1:]
    return run.ended.returncode == 1 and any(line.startswith(CLEAR) for line in last)


def is_impossible(run: Run) -> bool:
    """Whether a call was told to fail that cannot: a wake by futex. Who should wake then sleeps on,
    in locks of libc and of Python as well, so nothing can be said of such a run."""
    return any("FUTEX_WAKE" in line for line in run.injected)


def tell(run: Run) -> str:
    end = f"hung: {run.hung}, code {run.ended.returncode}, orphans {run.ended.orphans}"
    return f"{end}\n{run.ended.stdout}{run.ended.stderr[-1500:]}\n" + "\n".join(run.injected[-5:])


def faults(occurrences: list[tuple[str, int]]) -> Iterator[str]:
    """The long form lets each call fail once, and from then on for ever; but no wait is interrupted
    for ever."""
    for call, n in occurrences:
        for error in ERRORS.get(call, ()):
            for ever in ("", "+") if IS_LONG and call not in WAITS else ("",):
                yield f"inject={call}:error={error}:when={n}{ever}"


def check_faults(directory: Path, whom: str, workers: int, most: int) -> None:
    all_faults = list(faults(each_occurrence(directory, whom, workers)))
    chosen = all_faults
    if not IS_LONG:
        random = seeded()
        by_futex = [fault for fault in all_faults if "futex" in fault]
        others = [fault for fault in all_faults if "futex" not in fault]
        chosen = random.sample(others, min(most, len(others))) + random.sample(by_futex, 4)
    judged, unclear = 0, []
    for fault in chosen:
        limit_s = FUTEX_LIMIT_S if "futex" in fault else LIMIT_S
        run = run_traced(directory, whom, workers, ["-e", fault], limit_s)
        if is_impossible(run):
            continue
        judged += bool(run.injected)
        if not is_clear(run):
            unclear.append(f"{fault}: {tell(run)}")
    print(f"{whom}: {len(chosen)} of {len(all_faults)} faults, {judged} that could be judged")
    assert not unclear, "\n\n".join(unclear)
    assert judged >= len(chosen) // 3


def test_a_system_call_that_fails_leaves_answers_or_a_clear_error(tmp_path: Path) -> None:
    check_faults(tmp_path, "parent", 2, FAULTS_SHORT)


def test_a_system_call_that_fails_while_a_worker_is_replaced_does_likewise(tmp_path: Path) -> None:
    """Nobody asks the keeper for a replacement, so nobody is there to be told at once."""
    check_faults(tmp_path, "keeper", 1, FAULTS_SHORT)


def test_a_worker_may_be_killed_at_any_system_call(tmp_path: Path) -> None:
    """From its birth to its end: all others' tasks are answered, and its own at most is a death.

    Row 21 of the known failures, iceoryx #325, #2193 and #2260: who dies with a mutex in shared memory
    stops everybody else. A lock held between any two system calls would be found here.
    """
    occurrences = each_occurrence(tmp_path, "worker", 1)
    killed, wrong = 0, []
    for call, n in occurrences:
        run = run_traced(tmp_path, "worker", 1, ["-e", f"inject={call}:signal=KILL:when={n}"])
        killed += any("+++ killed by SIGKILL" in line for line in run.log)
        fine = run.ended.returncode == 0 and is_answer(run.ended.stdout.split(), deaths_max=1)
        if run.hung or run.ended.orphans or not fine:
            wrong.append(f"{call} {n}: {tell(run)}")
    print(f"{len(occurrences)} places, {killed} kills")
    assert not wrong, "\n\n".join(wrong)
    assert killed >= len(occurrences) * 3 // 4


def test_a_parent_that_is_killed_at_any_system_call_leaves_nobody(tmp_path: Path) -> None:
    """Its workers are killed at their own occurrence of the call, or end by themselves."""
    occurrences = each_occurrence(tmp_path, "parent", 2)
    chosen = occurrences if IS_LONG else seeded().sample(occurrences, KILLS_SHORT)
    wrong = []
    for call, n in chosen:
        run = run_traced(tmp_path, "parent", 2, ["-e", f"inject={call}:signal=KILL:when={n}"])
        if run.hung or run.ended.orphans or run.ended.returncode not in (0, -9):
            wrong.append(f"{call} {n}: {tell(run)}")
    print(f"{len(chosen)} of {len(occurrences)} places")
    assert not wrong, "\n\n".join(wrong)


def test_a_pool_works_where_the_kernel_has_no_pidfd(tmp_path: Path) -> None:
    run = run_traced(tmp_path, "parent", 2, ["-e", "inject=pidfd_open:error=ENOSYS"])
    assert run.injected
    assert run.ended.stdout.split() == ANSWERS, tell(run)
    assert (run.ended.returncode, run.ended.stderr, run.ended.orphans) == (0, "", [])


@pytest.mark.parametrize("call", ["memfd_create", "epoll_create1", "eventfd2"])
def test_a_system_that_denies_what_a_pool_needs_is_told_in_one_clear_error(
    call: str, tmp_path: Path
) -> None:
    run = run_traced(tmp_path, "parent", 2, ["-e", f"inject={call}:error=EPERM"])
    assert run.ended.returncode == 1
    last = run.ended.stderr.splitlines()[-1]
    assert last.startswith("OSError: ") and call.rstrip("2") in last, tell(run)
    assert run.ended.orphans == []


@pytest.mark.skipif(platform.machine() not in FUTEX_NUMBERS, reason="its futex has another number")
def test_a_system_that_denies_futexes_is_told_in_one_clear_error(tmp_path: Path) -> None:
    """Only those of shared memory are denied: without private ones no Python starts a thread."""
    ended = run_script(
        """
            import threading
            from testkit.denial import deny_shared_futexes

            deny_shared_futexes()
            other = threading.Thread(target=print, args=("threads work",))
            other.start()
            other.join()
            from millpond import Pool

            Pool(2)
        """,
        tmp_path,
    )
    assert (ended.returncode, ended.stdout, ended.tracebacks) == (1, "threads work\n", 1)
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("OSError: a pool needs to wait on shared memory by futex: "), ended
    assert ended.orphans == []
