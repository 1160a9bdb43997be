"""`tools/instructions.py`: the judgement, and the reference in the repository; nothing is counted."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("instructions", ROOT / "tools/instructions.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def reference(**counts: float) -> dict[str, Any]:
    return {"tolerance": 0.02, "instructions_per_task": counts}


def test_what_is_within_the_tolerance_passes(tool: ModuleType) -> None:
    lines, all_within = tool.compare(reference(table=100.0), {"table": 101.9})
    assert all_within
    assert "+1.9%, within 2%" in lines[0]


@pytest.mark.parametrize("now", [97.9, 102.1])
def test_a_change_beyond_the_tolerance_fails_in_either_direction(
    tool: ModuleType, now: float
) -> None:
    lines, all_within = tool.compare(
        reference(table=100.0, engine=100.0), {"table": now, "engine": 100.0}
    )
    assert not all_within
    assert ["BEYOND" in line for line in lines] == [False, True]


def test_a_way_that_only_one_side_has_fails(tool: ModuleType) -> None:
    assert not tool.compare(reference(table=100.0), {})[1]
    assert not tool.compare(reference(), {"table": 100.0})[1]


def test_the_reference_has_every_way_and_says_what_it_depends_on(tool: ModuleType) -> None:
    kept = json.loads((ROOT / "docs/instructions.json").read_text())
    assert kept["instructions_per_task"].keys() == tool.WAYS.keys()
    assert kept["tolerance"] == tool.TOLERANCE
    assert all(count > 0 for count in kept["instructions_per_task"].values())
    assert kept["architecture"] and kept["compiler"]
