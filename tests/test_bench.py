"""`python -m millpond bench`: its table and its file. No timing is asserted anywhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from millpond.bench import NAMES
from millpond.bench.report import Result, duration, rate, row
from millpond.bench.workload import WrongAnswer, expect
from millpond.bench.workloads import ALL, WORKLOADS


def bench(*options: str) -> subprocess.CompletedProcess[str]:
    """Run the bench to its end, in an interpreter of its own."""
    return subprocess.run(
        [sys.executable, "-m", "millpond", "bench", *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


@pytest.mark.limit_s(180)
def test_one_workload_makes_one_line_and_one_entry(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    ended = bench("--quick", "--only", "apply", "--json", str(file))
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.splitlines() == ["apply: 3 repeats on each pool"]
    for fact in ("processor", "cores", "system", "python", "millpond"):
        assert f"- {fact}: " in ended.stdout
    header, rule, line = ended.stdout.splitlines()[-3:]
    assert header.count("|") == rule.count("|") == line.count("|") == 8
    assert "(`apply`)" in line
    assert line.split("|")[-2].strip() in ("met", "missed")
    document = json.loads(file.read_text())
    (workload,) = document["workloads"]
    assert workload["name"] == "apply"
    assert len(workload["stdlib_s"]) == len(workload["millpond_s"]) == 3
    assert workload["met"] == (workload["ratio"] <= workload["ratio_max"])


def test_the_names_offered_are_those_that_exist() -> None:
    assert tuple(workload.name for workload in ALL) == NAMES


def test_a_name_that_does_not_exist_is_refused() -> None:
    ended = bench("--only", "nonsense")
    assert ended.returncode == 1
    assert all(name in ended.stderr for name in ("nonsense", *NAMES))


def test_a_file_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    ended = bench("--json", str(tmp_path / "no-such-folder" / "bench.json"))
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert "no-such-folder" in ended.stderr


def test_a_goal_is_met_or_missed_by_the_medians() -> None:
    apply = WORKLOADS["apply"]
    assert Result(apply, [1.0, 2.0, 9.0], [0.1, 0.2, 5.0]).met is True
    assert Result(apply, [1.0, 2.0, 9.0], [0.1, 0.21, 0.3]).met is False
    assert Result(apply, failure="ended with 1").met is False
    assert Result(WORKLOADS["list1m-apply"], [1.0], [2.0]).met is None
    assert "FAILED: ended with 1" in row(Result(apply, failure="ended with 1"))


def test_a_wrong_answer_ends_the_workload() -> None:
    expect([1, 2], [1, 2])
    with pytest.raises(WrongAnswer):
        expect([1, 2], [2, 1])


def test_figures_have_about_three_digits() -> None:
    assert duration(3.456) == "3.46 s"
    assert duration(0.0421) == "42.1 ms"
    assert duration(0.000257) == "257 us"
    assert duration(0.0000004) == "0.40 us"
    assert rate(42_617.0) == "42,600/s"
    assert rate(12.0) == "12/s"
