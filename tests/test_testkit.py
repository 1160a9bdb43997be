"""The tests of the tests: each instrument must find the fault that it is there for."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from testkit import oracle
from testkit.census import Census
from testkit.forms import commit, seeded
from testkit.killer import Killer, marks
from testkit.ledger import Ledger
from testkit.scripts import environment, run_script


def test_the_ledger_finds_what_was_lost_and_what_was_done_twice(tmp_path: Path) -> None:
    ledger = Ledger.at(tmp_path)
    for task in ("a", "b", "b", "stranger"):
        with ledger.task(task):
            pass
    judgement = ledger.judge(submitted="abcd", resolved=["a", "b", "d"])
    assert not judgement.fair
    assert judgement.lost == ["c"]
    assert judgement.duplicated == ["b"]
    assert judgement.unearned == ["d"]
    assert judgement.unknown == ["stranger"]


def test_the_ledger_finds_nothing_in_honest_work(tmp_path: Path) -> None:
    ledger = Ledger.at(tmp_path)
    with ledger.task(1):
        pass
    ledger.begin(2)
    assert ledger.judge([1, 2], resolved=[1], failed=[2]).fair
    assert ledger.judge([1, 2], resolved=[1], failed=[2]).lost == []
    assert ledger.pids() == {os.getpid()}


def test_the_census_finds_each_kind_of_leak() -> None:
    before = Census.take()
    reader, writer = os.pipe()
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    name = Path(f"/dev/shm/millpond-test-{os.getpid()}")
    name.touch()
    try:
        found = before.settle(grace_s=0)
    finally:
        name.unlink()
        child.communicate(b"\n")
        stop.set()
        thread.join()
        os.close(reader)
        os.close(writer)
    for kind in ("fds: +1 pipe", "threads: +1", "children: +1", "shm: +1 millpond-test"):
        assert any(line.startswith(kind) for line in found), (kind, found)


def test_the_census_finds_a_zombie() -> None:
    before = Census.take()
    child = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert child.stdout is not None
    with child.stdout as output:
        output.read()
    try:
        assert any("state Z" in line for line in before.settle(grace_s=0.5))
    finally:
        child.wait()


def test_the_census_finds_a_mapping_of_the_pools_memory() -> None:
    before = Census.take()
    fd = os.memfd_create("millpond-test")
    try:
        import mmap

        os.ftruncate(fd, 8192)
        with mmap.mmap(fd, 8192):
            found = before.settle(grace_s=0)
    finally:
        os.close(fd)
    assert any(line.startswith("mappings: +8192 memfd:millpond") for line in found), found


HANGING_TEST = """
import multiprocessing, os, threading, time
import pytest

@pytest.mark.limit_s(1)
def test_hangs():
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))
    child.start()
    try:
        threading.Event().wait()
    finally:
        child.join()

def test_comes_after():
    pass
"""


def test_the_watchdog_ends_a_hang_with_a_dump_of_everybody(tmp_path: Path) -> None:
    """The hanging test fails, its child is killed, the next test runs."""
    (tmp_path / "test_hanging.py").write_text(HANGING_TEST)
    (tmp_path / "conftest.py").write_text((Path(__file__).parent / "conftest.py").read_text())
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "."],
        cwd=tmp_path,
        env=environment("watchdog"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "1 failed, 1 passed" in ended.stdout
    assert "WATCHDOG: test_hanging.py::test_hangs exceeded 1 s" in ended.stderr
    assert ended.stderr.count("--- process") == 2
    assert ended.stderr.count("Python stacks of") == 2
    assert "in test_hangs" in ended.stderr
    assert "wchan" in ended.stderr


NOTED = "MILLPOND_SEED=7 commit="


def run_tests(directory: Path, body: str) -> subprocess.CompletedProcess[str]:
    """Run a test file of that one body under the watchdog, with a seed of 7."""
    (directory / "conftest.py").write_text((Path(__file__).parent / "conftest.py").read_text())
    (directory / "test_it.py").write_text(
        "import os, pytest, signal, time\nfrom testkit.forms import seeded\n"
        + textwrap.dedent(body)
    )
    extra = {"MILLPOND_WATCHDOG_GRACE_S": "1", "MILLPOND_SEED": "7"}
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "--rootdir",
            str(directory),
            ".",
        ],
        cwd=directory,
        env=environment("watchdog") | extra,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_watchdog_kills_what_cannot_even_fail_and_tells_its_seed(tmp_path: Path) -> None:
    """A main thread that swallows everything is ended from outside, and what it printed is lost."""
    ended = run_tests(
        tmp_path,
        """
        @pytest.mark.limit_s(0.5)
        def test_deaf():
            seeded()
            signal.pthread_sigmask(signal.SIG_BLOCK, range(1, signal.SIGRTMAX + 1))
            time.sleep(600)
        """,
    )
    assert ended.returncode == -9
    _, _, last_words = ended.stderr.partition("does not end; killing it")
    assert NOTED in last_words
    assert NOTED not in ended.stdout


def test_the_seed_of_a_test_that_takes_its_process_along_is_told(tmp_path: Path) -> None:
    ended = run_tests(
        tmp_path,
        """
        def test_that_ends():
            seeded()

        def test_that_crashes():
            seeded()
            os.kill(os.getpid(), signal.SIGKILL)
        """,
    )
    assert ended.returncode == -9
    assert "the tests' process has ended in test_it.py::test_that_crashes" in ended.stderr
    assert ended.stderr.count(NOTED) == 1
    assert NOTED not in ended.stdout


def test_a_seed_is_told_with_the_commit_and_not_where_all_is_well(tmp_path: Path) -> None:
    ended = run_tests(
        tmp_path,
        """
        def test_that_fails():
            seeded()
            raise AssertionError
        def test_that_does_not():
            seeded()
        """,
    )
    assert ended.returncode == 1
    assert ended.stdout.count(NOTED + commit()) == 1
    assert ended.stderr == ""


def test_the_same_seed_gives_the_same_fault_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a kill is due, and who of those that are there."""

    def plan(seed: int) -> tuple[list[int], list[int]]:
        monkeypatch.setenv("MILLPOND_SEED", str(seed))
        due = marks(seeded(), tasks=1000, kills=40)
        killer = Killer(None, Ledger(str(tmp_path / "ledger")), due)  # type: ignore[arg-type]
        return due, [killer.choose(list(range(8))) for _ in due]

    assert plan(7) == plan(7)
    for part, other in zip(plan(7), plan(8), strict=True):
        assert part != other


def test_a_script_that_leaves_a_process_behind_is_found_out(tmp_path: Path) -> None:
    ended = run_script(
        """
        import os, subprocess, sys
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"],
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os._exit(7)
        """,
        tmp_path,
    )
    assert ended.returncode == 7
    assert len(ended.orphans) == 1


def divide(x: int) -> float:
    return 1 / x


def unpicklable(_: int) -> object:
    return lambda: None


@pytest.mark.parametrize("function", [divide, unpicklable])
def test_the_oracle_compares_errors_by_type_arguments_and_cause(function: object) -> None:
    outcome = oracle.assert_same(lambda pool: pool.map(function, [0]))  # type: ignore[arg-type]
    assert outcome.failure is not None


def test_the_oracle_sees_a_difference() -> None:
    expected, found = oracle.run_both(lambda pool: type(pool).__module__)
    assert expected != found
