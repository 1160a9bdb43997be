"""What the parent takes for a task that waits, beside the task's own arguments."""

from __future__ import annotations

from pathlib import Path

import pytest
from testkit.forms import by_form
from testkit.scripts import run_script

BYTES_A_TASK_MAX = 300
TASKS = by_form(200_000, 1_000_000)

# A process that has given memory back takes it again without growing, so each run has a fresh one, and
# what it queues and keeps the results in is there before.
QUEUED = """
    import ctypes, gc, os, sys
    from pathlib import Path
    from testkit.ledger import wait_for_file
    from testkit.work import square
    from millpond import Pool

    def resident_bytes():
        '''What this process has and would not give back: the allocator has trimmed what is free.'''
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    if __name__ == "__main__":
        how, count = sys.argv[1], int(sys.argv[2])
        released = Path("released")
        with Pool(1) as pool:
            # What the first calls need once, be it for one task or for many.
            assert pool.map(square, range(1000), chunksize=1) == [x * x for x in range(1000)]
            arguments = [(x,) for x in range(count)] if how == "calls" else range(count)
            results = [None] * count
            # Tasks begin in order, so none of the others does before the test makes the file.
            held = pool.apply_async(wait_for_file, (str(released), 600))
            before = resident_bytes()
            if how == "calls":
                for x, one in enumerate(arguments):
                    results[x] = pool.apply_async(square, one)
            else:
                mapped = pool.map_async(square, arguments, chunksize=1)
            print((resident_bytes() - before) / count)
            # It was a queue, and no task of it is lost.
            assert not held.ready()
            released.touch()
            held.get()
            if how == "calls":
                found = [one.get() for one in results]
            else:
                found = mapped.get()
            assert found == [x * x for x in range(count)]
"""


@pytest.mark.limit_s(by_form(60, 300))
@pytest.mark.parametrize("how", ["calls", "map"])
def test_a_task_that_waits_takes_300_bytes_of_the_parent_at_most(how: str, tmp_path: Path) -> None:
    """`apply_async` with its result kept by the caller, and a map in chunks of one."""
    ended = run_script(QUEUED, tmp_path, how, str(TASKS))
    assert ended.returncode == 0, ended.stderr
    bytes_a_task = float(ended.stdout)
    print(f"{TASKS} {how} that wait take {bytes_a_task:.1f} bytes each")
    assert bytes_a_task <= BYTES_A_TASK_MAX
