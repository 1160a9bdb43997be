"""Programs in interpreters of their own: what they print, how they end, whom they leave."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from testkit import procfs

MARK = "MILLPOND_TEST_MARK"
TESTS = Path(__file__).resolve().parent.parent
ORPHAN_GRACE_S = 5.0


@dataclass(frozen=True)
class Ended:
    """How a program ended."""

    returncode: int
    stdout: str
    stderr: str
    orphans: list[str]
    """Processes of its family that outlived it by more than the grace."""

    @property
    def tracebacks(self) -> int:
        """How many tracebacks stand on standard error; an ignored exception prints one as well."""
        return self.stderr.count("Traceback (most recent call last)")


def environment(mark: str, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours, with the tests importable, and a mark by which the whole family can be found."""
    paths = [str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), MARK: mark, **(extra or {})}


def start_script(
    source: str, directory: Path, *args: str, extra: Mapping[str, str] | None = None
) -> tuple[subprocess.Popen[str], str]:
    """Start a program from a file (so that spawn finds its `__main__`); with its family's mark."""
    path = directory / f"script-{uuid.uuid4().hex[:8]}.py"
    path.write_text(textwrap.dedent(source))
    mark = uuid.uuid4().hex
    process = subprocess.Popen(
        [sys.executable, "-X", "faulthandler", str(path), *args],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=directory,
        env=environment(mark, extra),
        start_new_session=True,
    )
    return process, mark


def orphans_of(mark: str, grace_s: float = ORPHAN_GRACE_S) -> list[str]:
    """The marked processes that still live after the grace; they are killed, and told."""
    give_up = time.monotonic() + grace_s
    while (left := procfs.with_environment(mark)) and time.monotonic() < give_up:
        time.sleep(0.02)
    told = [f"{pid}: {procfs.cmdline(pid)}" for pid in left]
    for pid in left:
        try:
            os.kill(pid, 9)
        except ProcessLookupError:
            continue
    return told


def run_script(
    source: str, directory: Path, *args: str, extra: Mapping[str, str] | None = None
) -> Ended:
    """Run a program to its end. It has no limit of its own: the test's watchdog is its limit."""
    process, mark = start_script(source, directory, *args, extra=extra)
    try:
        stdout, stderr = process.communicate()
    except BaseException:
        process.kill()
        orphans_of(mark, grace_s=0)
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
        raise
    return Ended(process.returncode, stdout, stderr, orphans_of(mark))
