"""Whom the pool shows its data: nobody but its own processes. It opens no socket and leaves no file."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from testkit.scripts import run_script

PROGRAM = """
    import collections, multiprocessing, os, re, sys
    import multiprocessing.pool
    from testkit.ledger import wait_until
    from testkit.procfs import descendants
    from testkit.work import identity, square, touch, touch_and_wait
    import numpy as np
    import millpond

    HEAVY = list(range(1_000_000, 1_030_000))
    ARRAY = np.arange(200_000)
    here = os.path.abspath(".")

    def kinds(pid):
        '''What a process has open, without the inode numbers; each kind counted.'''
        found = collections.Counter()
        for fd in os.listdir(f"/proc/{pid}/fd"):
            try:
                target = os.readlink(f"/proc/{pid}/fd/{fd}")
            except FileNotFoundError:
                continue
            found[re.sub("[0-9]+", "N", target)] += 1
        return found

    def look():
        '''Everything that there is of files and sockets: of the program, and of all of its family.'''
        family = [os.getpid(), *(one.pid for one in descendants(os.getpid()))]
        sockets = [kinds(pid)["socket:[N]"] for pid in family]
        files = sorted(set(target for pid in family for target in kinds(pid) if is_a_file(target)))
        names = [sorted(os.listdir(place)) for place in (here, os.environ["TMPDIR"], "/dev/shm")]
        return sum(sockets), files, names

    def is_a_file(target):
        return target.startswith("/") and not target.startswith(("/dev/", "/memfd:", "/proc/"))

    def work(pool):
        '''Payloads on every way; what is seen while the last of them are out.'''
        assert pool.map(square, range(100), 1) == [x * x for x in range(100)]
        assert pool.apply(identity, (HEAVY,)) == HEAVY
        for one in pool.imap(np.copy, [ARRAY] * 4):
            assert (one == ARRAY).all()
        assert len(pool.apply(bytes, (20_000_000,))) == 20_000_000
        names = [os.path.join(sys.argv[3], name) for name in ("began", "released")]
        results = [pool.apply_async(identity, (HEAVY,)) for _ in range(5)]
        held = pool.apply_async(touch_and_wait, names)
        results += [pool.apply_async(identity, (ARRAY,)) for _ in range(5)]
        wait_until(lambda: os.path.exists(names[0]), "a task to be held")
        seen = look()
        touch(names[1])
        for result in [held, *results]:
            result.get()
        return seen

    if __name__ == "__main__":
        Pool = millpond.Pool if sys.argv[1] == "millpond" else multiprocessing.pool.Pool
        context = multiprocessing.get_context(sys.argv[2])
        before = look()
        with Pool(2, context=context) as pool:
            print((before, work(pool), look()))
            pool.close()
            pool.join()
"""


def look_beside(library: str, start_method: str, directory: Path) -> Any:
    """Sockets, files and names before a pool runs, with tasks out, and with none."""
    here, signs = places = [directory / library / name for name in ("here", "signs")]
    for place in places:
        place.mkdir(parents=True)
    # The forkserver's socket has a name in there, of a hundred characters at most.
    with tempfile.TemporaryDirectory(dir="/tmp") as temporary:
        extra = {"TMPDIR": temporary}
        ended = run_script(PROGRAM, here, library, start_method, str(signs), extra=extra)
    assert (ended.returncode, ended.stderr, ended.orphans) == (0, "", []), ended
    return eval(ended.stdout)


def new_names(names: list[list[str]], before: list[list[str]]) -> list[list[str]]:
    """Those that are new, but for the folder of the forkserver's socket."""
    return [
        [name for name in place if name not in old and not name.startswith("pymp-")]
        for place, old in zip(names, before, strict=True)
    ]


def test_a_pool_opens_no_socket_and_leaves_no_file(start_method: str, tmp_path: Path) -> None:
    """But those that the start method itself has, for whatever pool."""
    pytest.importorskip("numpy")
    before, *during = look_beside("millpond", start_method, tmp_path)
    _, *theirs = look_beside("multiprocessing", start_method, tmp_path)
    for ours, standard in zip(during, theirs, strict=True):
        assert ours[0] == standard[0], "sockets"
        assert ours[1] == before[1], "open files"
        assert new_names(ours[2], before[2]) == [[], [], []], "names"
        if start_method == "fork":
            assert ours[0] == 0
            assert ours[2][:2] == before[2][:2]
