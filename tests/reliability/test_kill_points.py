"""Death at each named place between two writes: of a worker, which is healed; of the parent, which
leaves nobody.

The points stand in the sources of the table and the engine (`kill_point!`), and are in a build of their
own only. The ledger judges, outside the product: no task is lost, none begins twice, and only the task
that had begun ends with its worker.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest
from testkit.forms import IS_LONG, by_form
from testkit.kill_points import counts_in, named_points
from testkit.ledger import Ledger
from testkit.scripts import TESTS, orphans_of, start_script

ROOT = TESTS.parent
HITS = by_form((1,), (1, 2, 7))
METHODS = by_form(("fork",), ("fork", "spawn"))
POINTS = named_points(ROOT / "crates")
OF_WORKERS = [point for point in POINTS if point.startswith("worker.")]
OF_PARENT = [point for point in POINTS if point.startswith("parent.")]
GONE_S = 1.0

LETHAL = {
    "worker.begin.begun",
    "worker.lease.taken",
    "worker.lend.written",
    "worker.complete.inline_written",
    "worker.complete.block_written",
    "worker.complete.described",
    "worker.complete.counted",
}
"""Where a task has begun and is not complete: it dies with its worker. Nowhere else does any."""
UNREADY = ("worker.join.", "worker.ready.untold", "worker.fail.", "worker.retire.told")
"""Where the pool counts no death of a worker that took tasks: it had not begun to, or had ended."""
STOPPING = (
    "worker.begin.timed",
    "worker.complete.condemned",
    "worker.leave.",
    "parent.cancel.",
    "parent.condemn.",
    "parent.dismiss.",
    "parent.retry.",
    "parent.tell.",
)
"""What is reached only where tasks are cancelled, late or tried again, or workers too large."""
EACH = 20
GIVING_BACK = f"worker.claim.head_moved:*{EACH}"
STANDING = f"worker.claim.taken:*{EACH}"
"""Who else dies, at each twentieth claim: before or behind the step of the head."""
SLOW_SPINNER = ["worker.spin.begun:~2", "worker.spin.over:~2"]
"""Who keeps the parent from waking another for the second of two tasks, and must do so itself."""

PROGRAM = """
    import sys
    from testkit.kill_points import main

    if __name__ == "__main__":
        main(*sys.argv[1:4], int(sys.argv[4]))
"""

pytestmark = pytest.mark.limit_s(600)


@pytest.fixture(scope="session")
def variant() -> str:
    """The folder of a package whose native module has the points."""
    name, cfgs = "kill_points", ["kill_points"]
    canary = os.environ.get("MILLPOND_CANARY")
    if canary:
        name, cfgs = f"{name}-{canary}", [*cfgs, f'canary="{canary}"']
    built = subprocess.run(
        ["sh", "tools/native_variant.sh", sys.executable, name, *cfgs],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    return built.stdout


def native_module(folder: Path) -> bytes:
    """That of this interpreter: there may be others' beside it."""
    names = [folder / "millpond" / f"_native{suffix}" for suffix in EXTENSION_SUFFIXES]
    return next(name for name in names if name.exists()).read_bytes()


def test_every_point_has_a_name_of_its_own_and_no_normal_build_has_one(variant: str) -> None:
    assert len(set(POINTS)) == len(POINTS) == len(OF_WORKERS) + len(OF_PARENT)
    assert len(OF_WORKERS) >= 25 and len(OF_PARENT) >= 15
    armed, normal = native_module(Path(variant)), native_module(ROOT / "python")
    for text in [*POINTS, "MILLPOND_KILL_POINTS", "kill_points"]:
        assert text.encode() in armed
        assert text.encode() not in normal
    print(f"{len(OF_WORKERS)} points of workers, {len(OF_PARENT)} of the parent")


def plan(point: str) -> tuple[str, list[str]]:
    """What the rounds that reach a point are made of, and who else must die for it."""
    if point.startswith(STOPPING):
        return "stops", []
    if point.startswith("worker.fail."):
        return "fails,work", []
    if point == "worker.claim.stale_seen":
        return "work", [STANDING]
    if point in ("worker.wake.bit_taken", "worker.spin.wake_owed"):
        return "bursts", SLOW_SPINNER
    if point in ("worker.lease.unmapped", "worker.lease.ended"):
        return "work,idle", []
    if point.startswith("parent.recover."):
        return "work", [GIVING_BACK]
    if point.startswith("parent.stop."):
        return "work,pools", []
    if point.startswith(("parent.ended.", "parent.wake_all.")):
        return "work,deaths", []
    return "work", []


def run(
    variant: str, directory: Path, point: str, hit: int, method: str
) -> tuple[int, str, str, str, list[int]]:
    """Exit code, output, errors, the family's mark, and how often the points were reached."""
    kinds, others = plan(point)
    entries = [f"{point}:{hit}", *others]
    counts = directory / "counts"
    counts.write_bytes(bytes(8 * len(entries)))
    Ledger.at(directory)
    process, mark = start_script(
        PROGRAM,
        directory,
        str(directory),
        method,
        kinds,
        str(hit),
        extra={
            "PYTHONPATH": f"{variant}:{TESTS}",
            "MILLPOND_KILL_POINTS": ",".join(entries),
            "MILLPOND_KILL_COUNTS": str(counts),
        },
    )
    with process:
        stdout, stderr = process.communicate()
    return process.returncode, stdout, stderr, mark, counts_in(counts)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("hit", HITS)
@pytest.mark.parametrize("point", OF_WORKERS)
def test_a_worker_may_be_killed_at_any_point(
    point: str, hit: int, method: str, variant: str, tmp_path: Path
) -> None:
    code, stdout, stderr, mark, counts = run(variant, tmp_path, point, hit, method)
    assert code == 0, stderr
    assert counts[0] >= hit, f"{point} was reached {counts[0]} times"
    assert orphans_of(mark) == []
    told = json.loads(stdout)
    judgement = Ledger(str(tmp_path / "ledger")).judge(
        range(told["submitted"]), resolved=told["values"], failed=told["failed"], retries=2
    )
    assert judgement.fair, judgement
    stats, deaths, failed = told["stats"], told["deaths"], list(told["failed"].values())
    assert stats["damaged"] == 0
    if point.startswith(STOPPING):
        stopped = stats["timeouts"] + stats["memory_kills"]
        assert 1 <= deaths["SIGKILL"] <= 1 + stopped
        assert failed.count("WorkerDied") <= 1
        return
    is_other_lethal = plan(point)[1] in ([STANDING], [GIVING_BACK])
    kills = 1 + (counts[1] // EACH if is_other_lethal else 0)
    assert deaths == {"SIGKILL": kills}
    assert stats["worker_deaths"] == (0 if point.startswith(UNREADY) else kills)
    assert failed == (["WorkerDied"] if point in LETHAL else [])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("hit", HITS)
@pytest.mark.parametrize("point", OF_PARENT)
def test_a_parent_that_is_killed_at_any_point_leaves_nobody(
    point: str, hit: int, method: str, variant: str, tmp_path: Path
) -> None:
    """Nothing is left in /dev/shm either, says the census."""
    code, _, stderr, mark, counts = run(variant, tmp_path, point, hit, method)
    end = time.monotonic()
    assert code == -9, f"{point} was reached {counts[0]} times: {stderr}"
    assert orphans_of(mark, GONE_S) == []
    if IS_LONG:
        print(f"gone after {(time.monotonic() - end) * 1e3:.0f} ms")
