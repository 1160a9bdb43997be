"""The bench from its first line to its last."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from millpond.bench.machine import machine
from millpond.bench.report import Result, document, heading, table
from millpond.bench.workload import REPEATS, Workload
from millpond.bench.workloads import WORKLOADS
from millpond.demo.pools import MILLPOND, STDLIB

LIMIT_S = 900.0
"""No workload takes a tenth of this on a slow machine: longer is a hang."""


def in_own_interpreter(workload: type[Workload], repeats: int, peers: bool) -> Result:
    """Measure one workload; a crash or a hang there is a result as well."""
    options = [workload.name, str(repeats), "yes" if peers else "no"]
    process = subprocess.Popen(
        [sys.executable, "-m", "millpond.bench.one", *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # so that it can be ended together with its workers
    )
    try:
        output, _ = process.communicate(timeout=LIMIT_S)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            return Result(workload, failure=f"no end within {LIMIT_S:g} s")
        raise
    if process.returncode != 0:
        return Result(workload, failure=f"ended with {process.returncode}")
    times_s = json.loads(output.splitlines()[-1])
    stdlib_s, millpond_s = times_s.pop(STDLIB), times_s.pop(MILLPOND)
    return Result(workload, stdlib_s, millpond_s, times_s)


def measure(names: Sequence[str], quick: bool, json_file: Path | None, peers: bool) -> int:
    """Measure the workloads and print the table; the exit code is 1 if one of them failed."""
    facts = machine()
    print(heading(facts), flush=True)
    results = []
    for name in names:
        workload = WORKLOADS[name]
        if workload.requires and not importlib.util.find_spec(workload.requires):
            print(f"{name}: left out, {workload.requires} is not installed", file=sys.stderr)
            continue
        repeats = min(workload.repeats_full, workload.repeats_quick if quick else REPEATS)
        print(f"{name}: {repeats} repeats on each pool", file=sys.stderr, flush=True)
        results.append(in_own_interpreter(workload, repeats, peers))
    print(table(results), flush=True)
    if json_file is not None:
        try:
            json_file.write_text(json.dumps(document(facts, results, quick), indent=2) + "\n")
        except OSError as error:
            print(f"millpond bench: cannot write {json_file}: {error.strerror}", file=sys.stderr)
            return 1
    return 1 if any(result.failure for result in results) else 0
