"""Counts the instructions of the hot path, and holds them against the reference in the repository.

    instructions.py compare      counts, prints both, and ends with 1 if one differs by more than stated
    instructions.py reference    counts, and writes docs/instructions.json

A count is what one more task costs: the difference of two runs of crates/millpond-engine's example
`hot_path`, so that start and end of the program cancel out. It does not depend on the machine's load,
and little on the machine; it does on the compiler, so the reference names that. Needs cargo, valgrind.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "instructions.json"
WAYS = {
    "table": "post, claim, begin, complete and free in the table alone",
    "engine": "the same through engine and worker, payloads of 24 bytes in the slot",
    "arena": "the same, payloads of 1 KiB in the arenas",
}
FEW, MANY = 6400, 22400
"""Tasks of the two runs. Both are beyond the first lap of the slots, whose memory is new."""
TOLERANCE = 0.02
"""A part of the reference. Two runs of one build differ by less than a thousandth."""


def build() -> Path:
    """Build the program; return its file."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    options = ["--release", "--locked", "--quiet", "-p", "millpond-engine"]
    subprocess.run(["cargo", "build", *options, "--example", "hot_path"], cwd=ROOT, check=True)
    return target / "release" / "examples" / "hot_path"


def instructions(program: Path, way: str, tasks: int) -> int:
    """The instructions of one run."""
    command = ["sh", str(ROOT / "tools" / "callgrind.sh"), str(program), way, str(tasks)]
    ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return int(ended.stdout)


def count() -> dict[str, float]:
    """Instructions a task, by way."""
    program = build()
    found = {}
    for way in WAYS:
        few, many = (instructions(program, way, tasks) for tasks in (FEW, MANY))
        found[way] = round((many - few) / (MANY - FEW), 1)
    return found


def build_facts() -> dict[str, str]:
    """What the counts depend on."""
    rustc = subprocess.run(["rustc", "--version"], cwd=ROOT, check=True, stdout=subprocess.PIPE)
    return {"architecture": platform.machine(), "compiler": rustc.stdout.decode().strip()}


def compare(reference: Mapping[str, Any], found: Mapping[str, float]) -> tuple[list[str], bool]:
    """A line for each way, and whether all are within the reference's tolerance."""
    lines, all_within = [], True
    for way in sorted({*reference["instructions_per_task"], *found}):
        kept, now = reference["instructions_per_task"].get(way), found.get(way)
        if kept is None or now is None:
            lines.append(f"{way}: reference {kept}, now {now}: one of them is missing")
            all_within = False
            continue
        change = now / kept - 1
        within = abs(change) <= reference["tolerance"]
        all_within &= within
        verdict = "within" if within else "BEYOND"
        lines.append(
            f"{way}: reference {kept}, now {now} instructions a task: {change:+.1%}, "
            f"{verdict} {reference['tolerance']:.0%}"
        )
    return lines, all_within


def main(verb: str) -> int:
    """Carry out one of the two verbs; the exit code."""
    facts = build_facts()
    if verb == "reference":
        document = {
            **facts,
            "tolerance": TOLERANCE,
            "ways": WAYS,
            "instructions_per_task": count(),
        }
        REFERENCE.write_text(json.dumps(document, indent=2) + "\n")
        print(REFERENCE.read_text(), end="")
        return 0
    reference = json.loads(REFERENCE.read_text())
    if reference["architecture"] != facts["architecture"]:
        print(f"the reference is of {reference['architecture']}, not {facts['architecture']}")
        return 1
    if reference["compiler"] != facts["compiler"]:
        print(f"note: {reference['compiler']} in the reference, {facts['compiler']} here")
    lines, all_within = compare(reference, count())
    print("\n".join(lines))
    if not all_within:
        print("If the change is meant, write the reference anew: make instructions-reference")
    return 0 if all_within else 1


if __name__ == "__main__":
    if sys.argv[1:] not in (["compare"], ["reference"]):
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
