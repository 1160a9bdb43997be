"""The bench from its first line to its last."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from millpond.bench.machine import machine
from millpond.bench.one import Options
from millpond.bench.peers import NOT_QUICK
from millpond.bench.report import Result, document, heading, report
from millpond.bench.workload import REPEATS, REPEATS_QUICK, Workload
from millpond.bench.workloads import WORKLOADS

LIMIT_S = 900.0
"""No workload takes a tenth of this on a slow machine: longer is a hang."""
OTHERS_LIMIT_S = 30.0
OTHERS_LIMIT_QUICK_S = 4.0
"""See `Options.others_limit_s`: together with the sizes, these keep a full run within a quarter of an
hour, and a quick one within two minutes, on two cores."""


@dataclass(frozen=True)
class Choice:
    """What the command line asks for."""

    names: Sequence[str]
    quick: bool
    peers: bool
    json_file: Path | None = None
    plots: Path | None = None

    def options(self, workload: type[Workload]) -> Options:
        """What is to be measured of a workload."""
        names = [name for name in workload.peers if not (self.quick and name == NOT_QUICK)]
        return Options(
            name=workload.name,
            sizes=workload.sizes_quick if self.quick else workload.sizes,
            repeats=REPEATS_QUICK if self.quick else REPEATS,
            peers=names if self.peers else [],
            peer_repeats=1 if self.quick else REPEATS,
            others_limit_s=OTHERS_LIMIT_QUICK_S if self.quick else OTHERS_LIMIT_S,
        )


def in_own_interpreter(options: Options, bytecode: str) -> Result:
    """Measure one workload; a crash or a hang there is a result as well.

    Args:
        options: What is measured.
        bytecode: A folder for compiled modules. Those of an installed package are compiled, and a
            pool that runs from its sources would else compile its own in each worker that is spawned.
    """
    workload = WORKLOADS[options.name]
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": bytecode}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    process = subprocess.Popen(
        [sys.executable, "-m", "millpond.bench.one", json.dumps(asdict(options))],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # so that it can be ended together with its workers
        env=environment,
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
    found = json.loads(output.splitlines()[-1])
    costs = {int(size): samples for size, samples in found["costs"].items()}
    return Result(workload, costs, found["left_out"])


def written(file: Path, text: str) -> bool:
    """Write a file; if that fails say so, and tell."""
    try:
        file.write_text(text)
    except OSError as error:
        print(f"millpond bench: cannot write {file}: {error.strerror}", file=sys.stderr)
        return False
    return True


def measure(choice: Choice) -> int:
    """Measure the workloads and print the tables; the exit code is 1 if one of them failed."""
    start_s = time.monotonic()
    facts = machine()
    print(heading(facts, choice.quick), flush=True)
    results = []
    with tempfile.TemporaryDirectory(prefix="millpond-bench-") as bytecode:
        for name in choice.names:
            workload = WORKLOADS[name]
            if workload.requires and not importlib.util.find_spec(workload.requires):
                print(f"{name}: left out, {workload.requires} is not installed", file=sys.stderr)
                continue
            options = choice.options(workload)
            print(f"{name}: {options.repeats} repeats on each pool", file=sys.stderr, flush=True)
            since_s = time.monotonic()
            result = in_own_interpreter(options, bytecode)
            results.append(replace(result, took_s=time.monotonic() - since_s))
    took_s = time.monotonic() - start_s
    print(report(results), f"\nThe run took {took_s:.0f} s.", sep="\n", flush=True)
    all_done = not any(result.failure for result in results)
    found = document(facts, results, choice.quick, took_s)
    if choice.json_file is not None:
        all_done &= written(choice.json_file, json.dumps(found, indent=2) + "\n")
    if choice.plots is not None:
        from millpond.bench.plots import draw

        choice.plots.mkdir(parents=True, exist_ok=True)
        for file in draw(found, choice.plots):
            print(f"wrote {file}", file=sys.stderr)
    return 0 if all_done else 1
