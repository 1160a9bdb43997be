"""Memory as the system sees it: what is resident, locked, mapped, dumped, inherited, executable."""

from __future__ import annotations

import mmap
import os
import re
import resource
import stat
from pathlib import Path
from typing import Any

import pytest
from testkit.census import MEMFD
from testkit.pools import running
from testkit.scripts import run_script
from testkit.work import square

MIB, GIB = 1 << 20, 1 << 30
#: What a whole run may have resident beside the interpreter, which has less than this by itself.
LOCKED_LEN_MAX = 1 * GIB
HEAVY = list(range(1_000_000, 1_200_000))


kept: list[Any] = []


def map_and_keep(length: int) -> int:
    """Reserve memory for as long as the worker lives, and use some MiB of it."""
    reserved = mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    reserved[: 8 * MIB] = bytes(8 * MIB)
    kept.append(reserved)
    return len(reserved)


def test_a_memory_limit_does_not_count_what_is_only_reserved() -> None:
    """It is resident size: libraries reserve much that they never touch, which RLIMIT_AS counts."""
    with running(1, memory_limit=400 * MIB) as pool:
        assert pool.apply(map_and_keep, (8 * GIB,)) == 8 * GIB
        # Longer than one look, of which there are 50 a second while a task is out.
        assert pool.map(square, range(20_000), 1) == [x * x for x in range(20_000)]
        assert pool.apply(resource.getrlimit, (resource.RLIMIT_AS,)) == resource.getrlimit(
            resource.RLIMIT_AS
        )
        assert pool.stats()["worker_deaths"] == 0


LOCKED = """
    import ctypes, os, resource, sys
    from millpond import Pool
    from testkit.procfs import descendants
    from testkit.work import identity, square

    MCL_CURRENT, MCL_FUTURE = 1, 2

    def resident(pid):
        with open(f"/proc/{pid}/statm") as statm:
            return int(statm.read().split()[1]) * resource.getpagesize()

    def lock(_=None):
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.mlockall(MCL_CURRENT | MCL_FUTURE) == 0, ctypes.get_errno()
        return True

    def work(pool):
        assert pool.map(square, range(100), 1) == [x * x for x in range(100)]
        heavy = list(range(1_000_000, 1_200_000))
        for _ in range(3):
            assert pool.apply(identity, (heavy,)) == heavy
            assert len(pool.apply(bytes, (10_000_000,))) == 10_000_000
        return max([resident(os.getpid()), *(resident(one.pid) for one in descendants(os.getpid()))])

    if __name__ == "__main__":
        limit = int(sys.argv[2]) if len(sys.argv) > 2 else resource.RLIM_INFINITY
        if limit >= 0:
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (limit, limit))
        if sys.argv[1] == "program":
            lock()
        try:
            with Pool(2, initializer=lock if sys.argv[1] == "workers" else None) as pool:
                print(work(pool))
                pool.close()
                pool.join()
        except OSError as error:
            print("refused", type(error).__name__, error)
"""


@pytest.mark.parametrize("who", ["program", "workers"])
def test_memory_that_is_locked_is_what_is_used_and_not_what_is_reserved(
    who: str, tmp_path: Path
) -> None:
    """Files are sparse, and larger than any memory: a lock on all that is mapped must not fill them."""
    ended = run_script(LOCKED, tmp_path, who)
    assert (ended.returncode, ended.stderr, ended.orphans) == (0, "", []), ended
    assert ended.stdout.startswith("refused") or int(ended.stdout) < LOCKED_LEN_MAX, ended.stdout


def mapping_flags() -> dict[str, set[str]]:
    """The kernel's flags of each of the pool's mappings in this process."""
    found, mapping = {}, ""
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match("[0-9a-f]+-[0-9a-f]+ ", line):
            mapping = line
        elif line.startswith("VmFlags:") and MEMFD in mapping:
            found[mapping] = set(line.split()[1:])
    return found


def mapping_flags_beside(*_: object) -> dict[str, set[str]]:
    return mapping_flags()


def test_no_mapping_of_the_pools_goes_into_a_core_dump(start_method: str) -> None:
    """A dump would fill every hole of a sparse file."""
    np = pytest.importorskip("numpy")
    array = np.arange(1_000_000)
    with running(1, start_method) as pool:
        there = [pool.apply(mapping_flags_beside, (HEAVY, array)) for _ in range(3)]
        result = pool.apply(np.copy, (array,))
        here = mapping_flags()
        assert result.nbytes == array.nbytes
    assert here and all(there)
    assert len(here) > 1, "the array is read from the pool's memory"
    for mappings in (here, *there):
        assert [text for text, flags in mappings.items() if "dd" not in flags] == []
        assert [text for text in mappings if "x" in text.split()[1]] == []


def descriptors(*_: object) -> list[tuple[str, bool, int]]:
    """Each of the pool's files here: whether it is closed by an exec, and the bits of its mode."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
            if MEMFD in target:
                info = Path(f"/proc/self/fdinfo/{fd}").read_text()
                flags = int(re.search(r"^flags:\s*([0-7]+)", info, re.M)[1], 8)  # type: ignore[index]
                mode = os.fstat(int(fd)).st_mode
                found.append((f"{fd} {target}", bool(flags & os.O_CLOEXEC), mode))
        except FileNotFoundError:
            continue  # the descriptor that listed the directory
    return found


def test_a_program_that_a_task_starts_gets_none_of_the_pools_memory(start_method: str) -> None:
    """`os.system` and `os.exec` close nothing, and who has the memory could read and keep it."""
    with running(1, start_method) as pool:
        there, here = pool.apply(descriptors, (HEAVY,)), descriptors()
    assert there and here
    assert [name for name, is_closed, _ in here + there if not is_closed] == []


def test_the_pools_memory_cannot_be_executed(start_method: str) -> None:
    """Where the kernel is asked for it: Linux 6.3."""
    if tuple(map(int, os.uname().release.split(".")[:2])) < (6, 3):
        pytest.skip("the kernel has no MFD_NOEXEC_SEAL")
    with running(1, start_method) as pool:
        there, here = pool.apply(descriptors, (HEAVY,)), descriptors()
    assert there and here
    anyone = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH
    assert [name for name, _, mode in here + there if mode & anyone] == []
