"""CPython's own tests of its pool, passed by ours: see run_cpython_tests.py beside this file."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from testkit.scripts import environment

SCRIPT = Path(__file__).with_name("run_cpython_tests.py")
AT_LEAST = 35
"""All that CPython 3.11, 3.12 and 3.13 have. One that vanishes would pass unnoticed; one that a later
version adds is run, and a version that has fewer is to be looked at before it gets a number."""


def interpreters() -> list[str]:
    """This one, and every other that has Millpond installed, as the environment tells."""
    others = os.environ.get("MILLPOND_CONFORMANCE_PYTHONS", "").split(":")
    return [sys.executable, *filter(None, others)]


@pytest.mark.limit_s(240)
@pytest.mark.parametrize("python", interpreters())
def test_cpythons_own_pool_tests_pass(python: str, start_method: str, tmp_path: Path) -> None:
    variables = environment("conformance")
    if python != sys.executable:
        del variables["PYTHONPATH"]  # another version's path is not for it
    ended = subprocess.run(
        [python, str(SCRIPT), start_method],
        cwd=tmp_path,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    closing = re.search(r"^Ran (\d+) tests under .*$", ended.stdout, re.MULTILINE)
    assert closing is not None, ended.stdout
    print(closing[0])
    assert int(closing[1]) >= AT_LEAST
    for line in ended.stdout.splitlines():
        if line.startswith("SKIPPED"):
            print(line)
            assert line.rpartition(": ")[2], "a skip must tell its reason"


@pytest.mark.limit_s(120)
@pytest.mark.parametrize("python", interpreters())
def test_heavy_programs_answer_alike(python: str, start_method: str, tmp_path: Path) -> None:
    """On each version: what is verified reads the interpreter's own structures."""
    variables = environment("conformance")
    if python != sys.executable:
        del variables["PYTHONPATH"]
    ended = subprocess.run(
        [python, str(SCRIPT.with_name("run_heavy_programs.py")), start_method],
        cwd=tmp_path,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    assert " 0 differ" in ended.stdout
