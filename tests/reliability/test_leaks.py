"""What thousands of pools leave: nothing, to the last descriptor, mapping and byte.

Each row is counted in an interpreter of its own, after a warm-up. In the row with deaths three of
four pools lose a worker that is killed in its task, and the fourth one that exits in it.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from testkit.forms import by_form
from testkit.scripts import run_script

WARM_UP = by_form(10, 100)
POOLS = {"fork": by_form(200, 10_000), "spawn": by_form(5, 100), "forkserver": by_form(5, 100)}
ANONYMOUS_MAX = 16
"""Mappings of no file are libc's: it keeps the stacks of a few threads, and an arena for each that
had to wait for another's. How many is a matter of chance, but not of the number of pools."""
POOLS_WITH_A_DEATH = by_form(50, 1_000)
RESIDENT_MAX = 1 << 20
"""Bytes of memory that the process may have more, however many pools it made since the warm-up: the
heap finds its shape in a tenth of that, and a leak of a page or two in each pool exceeds it."""

PROGRAM = """
    import ctypes, gc, json, multiprocessing, os, signal, sys, time
    from testkit import census
    from testkit import kill_points
    from testkit.ledger import wait_until
    from testkit.work import square
    from millpond import Pool, WorkerDied

    def memfd_bytes():
        '''Of all files of shared memory that a descriptor or a mapping keeps.'''
        found = {}
        for name in os.listdir("/proc/self/fd"):
            try:
                if "/memfd:" in os.readlink(f"/proc/self/fd/{name}"):
                    status = os.stat(f"/proc/self/fd/{name}")
                    found[status.st_ino] = status.st_blocks * 512
            except FileNotFoundError:
                pass
        return sum(found.values()) + sum(census.mappings().values())

    def counted():
        gc.collect()
        with open("/proc/self/maps") as maps:
            named = [len(line.split()) > 5 for line in maps]
        return {
            "descriptors": census.open_files().total(),
            "mappings": sum(named),
            "threads": len(os.listdir("/proc/self/task")),
            "children": census.children().total(),
            "memfd bytes": memfd_bytes(),
            "names": census.shared_names().total(),
        }

    def settled():
        '''A thread that has been joined is listed until the kernel has ended it.'''
        give_up = time.monotonic() + 5
        while (now := counted()) != before and time.monotonic() < give_up:
            time.sleep(0.01)
        return now

    def tell_and_wait(path):
        with open(path + ".new", "w") as file:
            file.write(str(os.getpid()))
        os.rename(path + ".new", path)
        while True:
            signal.pause()

    def lose_a_worker(pool, at):
        if at % 4 == 3:
            result, signum = pool.apply_async(os._exit, (3,)), -3
        else:
            path, signum = f"began-{at}", signal.SIGKILL
            result = pool.apply_async(tell_and_wait, (path,))
            wait_until(lambda: os.path.exists(path), "the task to begin")
            with open(path) as file:
                os.kill(int(file.read()), signum)
            os.unlink(path)
        try:
            result.get()
        except WorkerDied as died:
            assert died.exitcode == -signum
        else:
            raise AssertionError("the worker did not die")

    def use(context, at, with_a_death):
        pool = Pool(2, context=context)
        assert pool.map(square, range(20)) == [x * x for x in range(20)]
        big = bytes(1 << 17)
        assert pool.apply(len, (big,)) == len(pool.apply(bytes, (1 << 17,)))
        assert sorted(pool.imap_unordered(square, iter(range(3)))) == [0, 1, 4]
        if with_a_death:
            lose_a_worker(pool, at)
        if at % 2:
            pool.close()
        else:
            pool.terminate()
        pool.join()

    def resident():
        '''What libc has free and keeps, it gives back first: that is a megabyte or two, as it
        happens, and none of the pools'.'''
        gc.collect()
        getattr(ctypes.CDLL(None), "malloc_trim", bool)(0)
        return kill_points.resident()

    def anonymous():
        with open("/proc/self/maps") as maps:
            return sum(len(line.split()) == 5 for line in maps)

    if __name__ == "__main__":
        context = multiprocessing.get_context(sys.argv[1])
        with_a_death = sys.argv[4] == "death"
        for at in range(int(sys.argv[2])):
            use(context, at, with_a_death)
        before = counted()
        anonymous_before, resident_before = anonymous(), resident()
        for at in range(int(sys.argv[3])):
            use(context, at, with_a_death)
        more = [anonymous() - anonymous_before, resident() - resident_before]
        print(json.dumps([before, settled(), *more]))
"""


def check(directory: Path, start_method: str, pools: int, death: str) -> None:
    ended = run_script(PROGRAM, directory, start_method, str(WARM_UP), str(pools), death)
    assert ended.returncode == 0, ended.stderr
    before, after, more_anonymous, more_resident = json.loads(ended.stdout)
    print(
        f"{pools} pools under {start_method}: {after}, {more_anonymous} more without a name, "
        f"{more_resident / 1024:+.0f} KiB resident"
    )
    assert after == before
    assert more_anonymous <= ANONYMOUS_MAX
    assert more_resident <= RESIDENT_MAX
    assert after["memfd bytes"] == after["names"] == 0
    assert ended.orphans == []


@pytest.mark.limit_s(by_form(120, 3600))
def test_pools_that_were_used_and_closed_leave_nothing(start_method: str, tmp_path: Path) -> None:
    check(tmp_path, start_method, POOLS[start_method], "no death")


@pytest.mark.limit_s(by_form(120, 1800))
def test_pools_that_lost_a_worker_leave_nothing(tmp_path: Path) -> None:
    check(tmp_path, "fork", POOLS_WITH_A_DEATH, "death")
