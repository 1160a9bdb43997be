"""`python -m millpond bench`: its tables and its files. No timing is asserted anywhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from millpond.bench import NAMES
from millpond.bench.figures import duration, figure, rate
from millpond.bench.goal import Goal
from millpond.bench.report import Result, report, row, wins
from millpond.bench.workload import Workload, WrongAnswer, expect
from millpond.bench.workloads import ALL, WORKLOADS
from millpond.demo.pools import MILLPOND, STDLIB


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a module to its end, in an interpreter of its own."""
    return subprocess.run(
        [sys.executable, "-m", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )


def bench(*options: str) -> subprocess.CompletedProcess[str]:
    """Run the bench to its end."""
    return python("millpond", "bench", *options)


def result(name: str, *costs: tuple[float, float], sizes: tuple[int, ...] = ()) -> Result:
    """A result of one repeat: the standard library's cost and ours for each size."""
    kind = WORKLOADS[name]
    found = {
        size: {STDLIB: [stdlib], MILLPOND: [ours]}
        for size, (stdlib, ours) in zip(sizes or kind.sizes, costs, strict=True)
    }
    return Result(kind, found)


@pytest.mark.limit_s(180)
def test_one_workload_makes_one_line_and_one_entry(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    ended = bench("--quick", "--only", "tiny-imap", "--json", str(file))
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.splitlines() == ["tiny-imap: 3 repeats on each pool"]
    for fact in ("processor", "cores", "system", "python", "millpond", "peers"):
        assert f"- {fact}: " in ended.stdout
    header, rule, line = (text for text in ended.stdout.splitlines() if text.startswith("|"))
    assert header.count("|") == rule.count("|") == line.count("|") == 8
    assert "(`tiny-imap`)" in line
    document = json.loads(file.read_text())
    (workload,) = document["workloads"]
    (size,) = workload["sizes"]
    assert workload["name"] == "tiny-imap"
    assert [len(costs) for costs in size["costs"].values()] == [3, 3]
    assert workload["met"] == (size["amount"] / sorted(size["costs"][MILLPOND])[1] >= 2e6)
    assert line.split("|")[-2].strip() == ("met" if workload["met"] else "missed")


@pytest.mark.parametrize("name", NAMES)
def test_each_workload_runs_and_checks_its_answers(name: str) -> None:
    kind = WORKLOADS[name]
    options = {"name": name, "sizes": [kind.size_tiny], "repeats": 1}
    ended = python("millpond.bench.one", json.dumps(options))
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout.splitlines()[-1])
    assert found["left_out"] == []
    (costs,) = found["costs"].values()
    assert costs.keys() == {STDLIB, MILLPOND}
    # Memory is counted in pages, so a few tasks may take none.
    least = float("-inf") if kind.measure == "memory" else 0.0
    assert all(len(values) == 1 and values[0] > least for values in costs.values())


@pytest.mark.parametrize(
    "name", ["tiny-imap", "tiny-map", "apply", "start-spawn", "in-flight", "queued-calls"]
)
def test_the_executor_of_the_standard_library_is_a_peer(name: str) -> None:
    peer = "concurrent.futures"
    size = WORKLOADS[name].size_tiny
    options = {"name": name, "sizes": [size], "repeats": 1, "peers": [peer]}
    ended = python("millpond.bench.one", json.dumps(options))
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout.splitlines()[-1])
    assert found["left_out"] == []
    assert len(found["costs"][str(size)][peer]) == 1


def test_a_series_makes_a_table_of_its_own_and_leaves_out_who_is_too_slow() -> None:
    options = {"name": "bound-list", "sizes": [1000, 1_000_000], "repeats": 2, "others_limit_s": 0}
    ended = python("millpond.bench.one", json.dumps(options))
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout.splitlines()[-1])
    small, large = found["costs"].values()
    assert len(small[STDLIB]) == 1, "it is tried once, and has then used its time up"
    assert len(small[MILLPOND]) == len(large[MILLPOND]) == 2
    assert STDLIB not in large
    assert f"{STDLIB} at 1,000: all but 1 of its repeats" in found["left_out"][0]
    assert f"{STDLIB} at 1,000,000: 2 x " in found["left_out"][1]
    costs = {int(size): costs for size, costs in found["costs"].items()}
    text = report([Result(WORKLOADS["bound-list"], costs, found["left_out"])])
    assert "| 1,000,000   | -" in text
    assert "Not measured:" in text


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


def test_a_folder_for_plots_that_is_none_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ended = bench("--plots", str(tmp_path / "file"))
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert "is not a folder" in ended.stderr


def test_a_goal_is_met_or_missed_by_the_medians() -> None:
    apply = WORKLOADS["apply"]
    (size,) = apply.sizes
    costs = {STDLIB: [1.0, 2.0, 9.0], MILLPOND: [1e-6, 5e-6, 1.0]}
    assert Result(apply, {size: costs}).met is True
    assert Result(apply, {size: {**costs, MILLPOND: [1e-6, 6e-6, 6e-6]}}).met is False
    assert Result(apply, failure="ended with 1").met is False
    assert result("tiny-tuples", (1.0, 2.0)).met is None
    assert "FAILED: ended with 1" in row(Result(apply, failure="ended with 1"))[2]


def test_a_goal_in_seconds_is_not_judged_at_a_cut_size() -> None:
    assert result("dict1m", (9.0, 0.1), sizes=(1000,)).met is None
    assert result("dict1m", (9.0, 0.1)).met is True


def test_a_goal_by_rate_or_by_another_pool_is_judged_at_each_size() -> None:
    assert result("tiny-imap", (1.0, 0.001), sizes=(10_000,)).met is True
    assert result("tiny-imap", (1.0, 0.1), sizes=(10_000,)).met is False
    start = result("start-spawn", (1.0, 0.5)).costs[3]
    kind = WORKLOADS["start-spawn"]
    assert Result(kind, {3: {**start, "concurrent.futures": [0.4]}}).met is False
    assert Result(kind, {3: {**start, "concurrent.futures": [0.6]}}).met is True
    assert Result(kind, {3: start}).met is None, "the executor was not measured"


def test_a_cost_that_grows_misses_a_goal_to_be_flat() -> None:
    falls = ((9.0, 8.0), (9.0, 1.0), (9.0, 1.4), (9.0, 1.3))
    assert result("in-flight", *falls).met is True
    rises = result("in-flight", *falls[:3], (9.0, 1.6))
    assert rises.met is False
    assert rises.growth == pytest.approx(1.6)
    assert Goal("", growth_max=1.0).grows([{MILLPOND: [2.0]}, {MILLPOND: [3.0]}]) == 1.5
    assert "found 1.60 x: missed" in report([rises])


def test_each_pool_that_wins_is_named() -> None:
    lost = {STDLIB: [3.0], MILLPOND: [2.0], "mpire": [1.0], "ray": [4.0]}
    (line,) = wins(Result(WORKLOADS["dict1m"], {1_000_000: lost}))
    assert line == "- `dict1m`: mpire wins, 1.00 s against 2.00 s"
    text = report([Result(WORKLOADS["dict1m"], {1_000_000: lost})])
    assert "- mpire does not send a function again" in text
    assert "nowhere in this run" in report([result("dict1m", (3.0, 2.0))])


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


def test_a_cost_is_shown_as_its_workload_means_it() -> None:
    def shown(kind: type[Workload], cost: float) -> str:
        return figure(cost, kind(kind.sizes[0]))

    assert shown(WORKLOADS["tiny-imap"], 0.5) == "100,000/s"
    assert shown(WORKLOADS["results8m"], 0.1) == "4.80 GB/s"
    assert shown(WORKLOADS["queued-calls"], 634.2) == "634 B"


def test_the_plots_are_drawn_from_the_document(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    # In a process of its own: matplotlib keeps descriptors and maps for its fonts.
    document = {
        "machine": {
            "processor": "P",
            "cores": "2",
            "python": "CPython 3.11.7, GCC",
            "date": "2026-01-01",
        },
        "workloads": [
            {
                "name": name,
                "measure": measure,
                "sizes": [
                    {
                        "size": size,
                        "amount": 10,
                        "costs": {STDLIB: [1.0, 2.0, 4.0], MILLPOND: [0.1, 0.2, 0.4], "ray": []},
                    }
                    for size in sizes
                ],
            }
            for name, measure, sizes in (
                ("bound-list", "time", (1000, 10_000)),
                ("tiny-imap", "rate", (10,)),
                ("results8m", "throughput", (10,)),
                ("dict1m", "time", ()),
            )
        ],
    }
    program = (
        "import json, pathlib, sys; from millpond.bench.plots import draw; "
        "print(*draw(json.loads(sys.argv[1]), pathlib.Path(sys.argv[2])), sep='\\n')"
    )
    made = []
    for folder in (tmp_path / "first", tmp_path / "second"):
        folder.mkdir()
        ended = subprocess.run(
            [sys.executable, "-c", program, json.dumps(document), str(folder)],
            capture_output=True,
            text=True,
        )
        assert ended.returncode == 0, ended.stderr
        made.append([Path(line) for line in ended.stdout.splitlines()])
    names = ["bound-size.svg", "tasks-per-second.svg", "gigabytes-per-second.svg"]
    for first, second, name in zip(*made, names, strict=True):
        assert first.name == name
        text = first.read_text()
        assert text == second.read_text(), "equal figures make equal files"
        assert "<svg" in text
        assert MILLPOND in text, "texts stay texts"
        assert ">ray<" not in text
