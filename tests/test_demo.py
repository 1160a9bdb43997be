"""`python -m millpond demo`: what it prints, and that its counts are counted. Nothing is timed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

TABLE_RULE = "----"


def demo(*options: str) -> subprocess.CompletedProcess[str]:
    """Run the demo to its end, in an interpreter of its own."""
    return subprocess.run(
        [sys.executable, "-m", "millpond", "demo", *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


def table_rows(stdout: str) -> Iterator[list[str]]:
    """The cells of each line between the table's rule and the next empty line."""
    lines = iter(stdout.splitlines())
    for line in lines:
        if line.startswith(TABLE_RULE):
            break
    for line in lines:
        if not line:
            return
        yield line.replace("default argument", "default-argument").split()


@pytest.mark.limit_s(180)
def test_eight_runs_a_table_and_the_answer() -> None:
    ended = demo("--elements", "20000", "--tasks", "4")
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    assert ended.stdout.isascii()
    lines = ended.stdout.splitlines()
    for x in range(4):
        assert sum(line.startswith(f"parent process, x={x}, elapsed=") for line in lines) == 8
    for number, title in enumerate(("default argument", "partial"), 1):
        for pool in ("multiprocessing.Pool", "millpond.Pool"):
            for start_method in ("fork", "spawn"):
                assert f"program {number} ({title}), {pool}, {start_method}" in lines
    rows = {tuple(row[:3]): row[3:] for row in table_rows(ended.stdout)}
    assert len(rows) == 8
    assert lines[-1].startswith("Why: a function is pickled by name, so its default argument")
    assert lines[-1].endswith(".")
    for start_method in ("fork", "spawn"):
        _, size, *counts = rows["default-argument", "multiprocessing.Pool", start_method]
        assert counts == ["0", "0", "-"]
        assert int(size.replace(",", "")) < 1000
        _, size, *counts = rows["default-argument", "millpond.Pool", start_method]
        assert counts == ["0", "0", "0"]
        assert int(size.replace(",", "")) < 1000
        _, size, *counts = rows["partial", "multiprocessing.Pool", start_method]
        assert counts == ["4", "4", "-"]
        assert int(size.replace(",", "")) > 4 * 2 * 20_000
        _, _, *counts = rows["partial", "millpond.Pool", start_method]
        assert all(0 <= int(count) <= 4 for count in counts)


@pytest.mark.limit_s(180)
def test_a_light_list_is_told_to_be_light() -> None:
    ended = demo("--elements", "1", "--tasks", "1", "--processes", "1")
    assert ended.returncode == 0, ended.stderr
    rows = {tuple(row[:3]): row[3:] for row in table_rows(ended.stdout)}
    assert rows["partial", "multiprocessing.Pool", "fork"][2:] == ["1", "1", "-"]
    assert rows["partial", "millpond.Pool", "fork"][2:] == ["0", "0", "0"]
    assert "the list is light at this size" in ended.stdout.splitlines()[-1]


@pytest.mark.parametrize("option", ["--elements", "--tasks", "--processes"])
@pytest.mark.parametrize("size", ["0", "-3", "many", "2.5"])
def test_a_bad_size_is_refused_in_one_sentence(option: str, size: str) -> None:
    ended = demo(f"{option}={size}")
    assert ended.returncode == 1
    assert ended.stdout == ""
    (sentence,) = ended.stderr.splitlines()
    assert option in sentence
    assert repr(size) in sentence


def test_too_many_processes_are_refused() -> None:
    ended = demo("--processes", "1025")
    assert ended.returncode == 1
    assert "from 1 to 1024" in ended.stderr
