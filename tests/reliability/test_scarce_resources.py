"""Limits that are too small: a whole pool or one clear error, no hang, and nothing left.

Each kind of limit has a program of its own, which goes through the limits from hopeless to ample.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest
from testkit.scripts import run_script

PROGRAM = """
    import ctypes, faulthandler, gc, json, os, resource, signal, sys, time
    from testkit.census import Census
    from testkit.pools import pids_of
    from testkit.work import square
    from millpond import Pool, WorkerDied

    KIND = getattr(resource, sys.argv[1])
    HANG_S = 20
    CLEAR = (OSError, MemoryError, WorkerDied)
    NO_THREAD = "can't start new thread"  # a RuntimeError, in the standard library's pool as well

    def used():
        '''What of the resource is used now, as the kernel compares it with the limit.'''
        if KIND == resource.RLIMIT_NOFILE:
            return 1 + max(map(int, os.listdir("/proc/self/fd")[:-1]))
        if KIND == resource.RLIMIT_AS:
            return int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        return 1 if KIND == resource.RLIMIT_NPROC else 0

    def limit(value):
        resource.setrlimit(KIND, (value, resource.getrlimit(KIND)[1]))

    def be_limited():
        '''The kernel limits the processes of nobody's, without rights over the system, only.'''
        os.setresuid(65534, 0, 0)
        libc = ctypes.CDLL(None, use_errno=True)
        header = (ctypes.c_uint32 * 2)(0x20080522, 0)
        sets = (ctypes.c_uint32 * 6)()
        assert libc.capget(header, sets) == 0
        for cap in (21, 24):  # CAP_SYS_ADMIN, CAP_SYS_RESOURCE
            for at in (0, 1, 2):
                sets[at] &= ~(1 << cap)
        assert libc.capset(header, sets) == 0, os.strerror(ctypes.get_errno())

    def work(pool):
        assert pool.map(square, range(20)) == [x * x for x in range(20)]
        assert pool.apply(len, (bytes(1 << 20),)) == 1 << 20
        assert len(pool.apply(bytes, (1 << 20,))) == 1 << 20

    def make(value):
        '''A pool that is made and used under the limit.'''
        pool = None
        try:
            limit(value)
            pool = Pool(2)
            work(pool)
            return "whole"
        except CLEAR as error:
            return repr(error)
        except RuntimeError as error:
            assert str(error) == NO_THREAD
            return repr(error)
        finally:
            limit(free)
            if pool is not None:
                pool.terminate()
                pool.join()

    def go_on(value):
        '''A pool that loses a worker under the limit; without it, it must work again, or tell why.'''
        pool = Pool(2)
        try:
            work(pool)
            limit(value)
            try:
                os.kill(min(pids_of(pool)), signal.SIGKILL)
                work(pool)
                outcome = "whole"
            except CLEAR as error:
                outcome = repr(error)
            limit(free)
            try:
                work(pool)
            except CLEAR as error:
                return f"broken: {error!r}"
            return outcome
        finally:
            limit(free)
            pool.terminate()
            pool.join()

    if __name__ == "__main__":
        if KIND == resource.RLIMIT_NPROC:
            be_limited()
        free = resource.getrlimit(KIND)[0]
        run = globals()[sys.argv[2]]
        run(free)
        before = Census.take()
        for more in json.loads(sys.argv[3]):
            faulthandler.dump_traceback_later(HANG_S, exit=True)
            print(more, run(used() + more), flush=True)
            faulthandler.cancel_dump_traceback_later()
            left = before.settle(grace_s=0.5)
            # The standard library's Popen leaves its pipes open when the fork after them fails.
            assert all("fds: +2 pipe:" in line for line in left), (more, left)
            before = Census.take()
"""

MIB = 1 << 20
LIMITS: dict[str, list[int]] = {
    "RLIMIT_NOFILE": [*range(30), 64],
    "RLIMIT_FSIZE": [0, 1, 4096, MIB, 64 * MIB, 1024 * MIB, 1 << 40],
    "RLIMIT_NPROC": [*range(8), 64],
    "RLIMIT_AS": [at * MIB for at in (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 65536)],
}


@pytest.mark.limit_s(120)
@pytest.mark.parametrize("when", ["make", "go_on"])
@pytest.mark.parametrize("kind", LIMITS)
def test_under_a_small_limit_there_is_a_whole_pool_or_one_clear_error(
    kind: str, when: str, tmp_path: Path
) -> None:
    if kind == "RLIMIT_NPROC" and os.geteuid() != 0:
        pytest.skip("only root can count the processes of nobody else")
    ended = run_script(PROGRAM, tmp_path, kind, when, json.dumps(LIMITS[kind]))
    print(ended.stdout)
    assert ended.returncode == 0, ended.stderr[-4000:]
    assert ended.orphans == []
    outcomes = [line.partition(" ")[2] for line in ended.stdout.splitlines()]
    assert len(outcomes) == len(LIMITS[kind])
    assert outcomes[-1] == "whole", "the last limit is ample"
    print(Counter(outcome.partition("(")[0] for outcome in outcomes))
