"""A system call fails, or its process is killed at it: each call of a run of some tasks in turn.

The method is sqlite's: the first occurrence, the second, and so on to the last. strace counts the
occurrences of a call in each thread by itself, so parent and workers can meet the same fault at once.
The run ends with all answers or a clear error: a hang is a failure, and so is anything left behind, in
the program after its pool was joined, or of the program's family after its end.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from testkit.denial import FUTEX_NUMBERS
from testkit.forms import IS_LONG, by_form, seeded
from testkit.injection import LIMIT_S, Run, is_pipe, run_traced
from testkit.scripts import run_script

SMALL_ANSWERS = ["0", "1", "4"]
ANSWERS = [*SMALL_ANSWERS, str(3 << 20), str(3 << 20), "5", "6", "7", "88"]
DIED = "WorkerDied"

ERRORS: dict[str, tuple[str, ...]] = {
    "memfd_create": ("EMFILE", "ENOMEM", "ENOSYS"),
    "ftruncate": ("ENOSPC",),
    "mmap": ("ENOMEM",),
    "mremap": ("ENOMEM",),
    "mprotect": ("ENOMEM",),
    "madvise": ("ENOMEM",),
    "msync": ("ENOMEM",),
    "eventfd2": ("EMFILE",),
    "epoll_create1": ("EMFILE",),
    "epoll_ctl": ("ENOMEM", "ENOSPC"),
    "epoll_pwait": ("EINTR",),
    "poll": ("EINTR", "ENOMEM"),
    "ppoll": ("EINTR", "ENOMEM"),
    "futex": ("EINTR", "EAGAIN"),
    "clone": ("EAGAIN", "ENOMEM"),
    "clone3": ("EAGAIN",),
    "pidfd_open": ("EMFILE", "ENOMEM"),
    "pipe2": ("EMFILE",),
    "fcntl": ("EMFILE",),
    "fallocate": ("ENOSPC", "EOPNOTSUPP", "EINTR"),
    "pwrite64": ("ENOSPC", "EINTR"),
    "read": ("EINTR",),
    "write": ("EINTR",),
    "wait4": ("EINTR",),
    "open": ("EMFILE", "EACCES"),
    "openat": ("EMFILE",),
    "statx": ("EACCES",),
    "prlimit64": ("EPERM",),
    "sched_getaffinity": ("EPERM",),
    "userfaultfd": ("EPERM", "ENOMEM", "ENOSYS"),
    "ioctl": ("ENOMEM", "ENOTTY"),
}
"""What each system call of the pool's processes may fail with, of which the pool can be told."""

CANNOT_FAIL = "it has no error for right arguments"
OF_PROGRAM = "the program of these tests makes it, and no pool"
OF_PYTHON = "Python makes it, where it opens a file or imports a module"
LEFT_OUT: dict[str, str] = {
    **dict.fromkeys(("getpid", "gettid", "sched_yield", "exit", "exit_group"), CANNOT_FAIL),
    **dict.fromkeys(("rt_sigaction", "rt_sigprocmask", "sigaltstack"), CANNOT_FAIL),
    **dict.fromkeys(("set_robust_list", "rseq"), CANNOT_FAIL),
    **dict.fromkeys(("mkdir", "rt_sigtimedwait", "kill"), OF_PROGRAM),
    **dict.fromkeys(("newfstatat", "lseek", "getdents64", "readlink"), OF_PYTHON),
    "getrandom": "Python makes it, and reads a file instead, which it keeps open",
    "brk": "its failure is no error number, and strace cannot tell it",
    "close": "it closes whatever it says, and an injected error would not",
    "munmap": "nobody could do anything about it: the injected error itself is the leak",
    "prctl": "a thread's name",
    "clock_nanosleep": "a sleep of Python's, which takes it up again",
    "restart_syscall": "the kernel's own, after a stop",
}
"""What no test makes fail, and why."""

SOMETIMES = {
    # As libc, Python and the kernel have it.
    *(
        "open",
        "openat",
        "poll",
        "ppoll",
        "clone",
        "clone3",
        "statx",
        "sigaltstack",
        "rseq",
        "wait4",
    ),
    *("getdents64", "readlink", "getrandom", "prctl", "mprotect", "sched_getaffinity"),
    # Where the kernel can track writes.
    *("userfaultfd", "msync"),
    # As it happens.
    *("sched_yield", "clock_nanosleep", "restart_syscall", "brk", "mremap", "kill"),
}
"""What not each run makes, or not on each system."""

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
FAULTS_SHORT, KILLS_SHORT = 24, 15
"""What the short form tries; one fault of each call at least."""

pytestmark = [
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed"),
    pytest.mark.limit_s(by_form(120, 3600)),
]


def each_occurrence(
    directory: Path, whom: str, workers: int, size: str = "large"
) -> list[tuple[str, int]]:
    """(call, n) of an undisturbed run, which must answer and leave nothing."""
    run = run_traced(directory, whom, workers, [], size=size)
    answers = ANSWERS if size == "large" else SMALL_ANSWERS
    assert (run.ended.stdout.split(), run.changes) == (answers, []), run
    return [(call, n) for call, most in sorted(run.counts().items()) for n in range(1, most + 1)]


def is_answer(tokens: list[str], deaths_max: int) -> bool:
    """All answers in order, of which a few may be deaths."""
    expected = ANSWERS if len(tokens) == len(ANSWERS) else SMALL_ANSWERS
    deaths = tokens.count(DIED)
    right = all(token in (DIED, answer) for token, answer in zip(tokens, expected, strict=False))
    return len(tokens) == len(expected) and right and deaths <= deaths_max


def is_clear(run: Run) -> bool:
    """Answers, or an error that says what the matter is."""
    if run.hung or run.ended.orphans:
        return False
    if run.ended.returncode == 0:
        return is_answer(run.ended.stdout.split(), deaths_max=len(ANSWERS))
    last = run.ended.stderr.strip().splitlines()[-1:]
    return run.ended.returncode == 1 and any(line.startswith(CLEAR) for line in last)


def is_clean(call: str, run: Run) -> bool:
    """Whether the program holds just what it held before its pool was made. Where a fork or pipe is
    denied, the standard library's `Popen` leaves the pipes that it has made: four of their ends."""
    if run.changes is None:
        return False
    excused = 4 * len(run.injected) if call in ("clone", "pipe2") else 0
    ends = sum(int(line.split()[1]) for line in run.changes if is_pipe(line))
    return all(map(is_pipe, run.changes)) and ends <= excused


def is_impossible(run: Run) -> bool:
    """Whether a call was told to fail that cannot: a wake by futex. Who should wake then sleeps on,
    in locks of libc and of Python as well, so nothing can be said of such a run."""
    return any("FUTEX_WAKE" in line for line in run.injected)


def tell(run: Run) -> str:
    end = f"hung: {run.hung}, code {run.ended.returncode}, orphans {run.ended.orphans}"
    end += f", changes {run.changes}"
    return f"{end}\n{run.ended.stdout}{run.ended.stderr[-1500:]}\n" + "\n".join(run.injected[-5:])


def faults(occurrences: list[tuple[str, int]]) -> Iterator[str]:
    """The long form lets each call fail once, and from then on for ever; but no wait, and nothing else,
    is interrupted for ever."""
    for call, n in occurrences:
        for error in ERRORS.get(call, ()):
            is_lasting = IS_LONG and call not in WAITS and error != "EINTR"
            for ever in ("", "+") if is_lasting else ("",):
                yield f"inject={call}:error={error}:when={n}{ever}"


def call_of(fault: str) -> str:
    return fault.partition("=")[2].partition(":")[0]


def one_of_each_call(all_faults: list[str], random: Random, most: int) -> list[str]:
    """A fault of each call, but for futexes, and others up to so many; then four of futexes."""
    by_call: dict[str, list[str]] = {}
    for fault in all_faults:
        by_call.setdefault(call_of(fault), []).append(fault)
    of_futexes = by_call.pop("futex", [])
    chosen = [random.choice(of_call) for of_call in by_call.values()]
    rest = [fault for of_call in by_call.values() for fault in of_call if fault not in chosen]
    chosen += random.sample(rest, min(max(most - len(chosen), 0), len(rest)))
    return chosen + random.sample(of_futexes, 4)


def check_faults(directory: Path, whom: str, workers: int, most: int) -> None:
    all_faults = list(faults(each_occurrence(directory, whom, workers)))
    chosen = all_faults if IS_LONG else one_of_each_call(all_faults, seeded(), most)
    judged, wrong = 0, []
    for fault in chosen:
        call = call_of(fault)
        limit_s = FUTEX_LIMIT_S if call == "futex" else LIMIT_S
        run = run_traced(directory, whom, workers, ["-e", fault], limit_s)
        if is_impossible(run):
            continue
        judged += bool(run.injected)
        if not is_clear(run) or not is_clean(call, run):
            wrong.append(f"{fault}: {tell(run)}")
    print(f"{whom}: {len(chosen)} of {len(all_faults)} faults, {judged} that could be judged")
    assert not wrong, "\n\n".join(wrong)
    assert judged >= len(chosen) // 3


def test_every_system_call_is_made_to_fail_or_left_out_for_a_reason(tmp_path: Path) -> None:
    """So that none can be new and unnoticed, nor a reason outlive its call."""
    seen: set[str] = set()
    for whom, workers in (("parent", 2), ("keeper", 1)):
        seen |= {call for call, _ in each_occurrence(tmp_path, whom, workers)}
    known = ERRORS.keys() | LEFT_OUT.keys()
    assert not ERRORS.keys() & LEFT_OUT.keys()
    assert sorted(seen - known) == []
    assert sorted(known - seen - SOMETIMES) == []


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
    size = by_form("small", "large")
    occurrences = each_occurrence(tmp_path, "worker", 1, size)
    killed, wrong = 0, []
    for call, n in occurrences:
        kill = f"inject={call}:signal=KILL:when={n}"
        run = run_traced(tmp_path, "worker", 1, ["-e", kill], size=size)
        killed += any("+++ killed by SIGKILL" in line for line in run.log)
        fine = run.ended.returncode == 0 and is_answer(run.ended.stdout.split(), deaths_max=1)
        if run.hung or run.ended.orphans or not fine or run.changes != []:
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
    assert (run.ended.stdout.split(), run.changes) == (ANSWERS, []), tell(run)
    assert (run.ended.returncode, run.ended.stderr, run.ended.orphans) == (0, "", [])


@pytest.mark.parametrize("call", ["memfd_create", "epoll_create1", "eventfd2"])
def test_a_system_that_denies_what_a_pool_needs_is_told_in_one_clear_error(
    call: str, tmp_path: Path
) -> None:
    run = run_traced(tmp_path, "parent", 2, ["-e", f"inject={call}:error=EPERM"])
    assert run.ended.returncode == 1
    last = run.ended.stderr.splitlines()[-1]
    assert last.startswith("OSError: ") and call.rstrip("2") in last, tell(run)
    assert (run.ended.orphans, run.changes) == ([], [])


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
