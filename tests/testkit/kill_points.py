"""Lives of a pool that pass every kill point of the engine, with a ledger of all tasks.

Each life is a program of its own: `main` is what its script calls, with the native module that was
built with `--cfg kill_points` first on the path. A life goes on in rounds until the point that it is
for has been reached as often as it was asked for, and for one round more.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import re
import signal
import struct
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from testkit.ledger import Ledger, wait_for_file, wait_until

ROUNDS_MAX = 60
WORKERS = 2
TASKS_PER_WORKER = 80
"""More than the 64 after which a busy worker looks for copies whose part is gone."""
LONG = 5_000
"""Bytes of a payload that does not fit into a slot."""
HUGE = 60_000
"""Bytes of a payload of which the run-ahead holds one: its claim makes room for the next."""
MEMORY_LIMIT = 160 << 20
STEP = 1 << 20
NAME = re.compile(r'kill_point!\("([^"]+)"\)')


def named_points(crates: Path) -> list[str]:
    """All points that the sources name, in the order of the files."""
    found: list[str] = []
    for crate in ("millpond-table", "millpond-engine"):
        for path in sorted((crates / crate / "src").rglob("*.rs")):
            found += NAME.findall(path.read_text())
    return found


def told(ledger: Ledger, number: int, payload: object = None, grow: int = 0) -> tuple[int, object]:
    """A task: what it was given, and so many bytes more."""
    with ledger.task(number):
        return number, payload if not grow else bytes(grow)


def told_with_heavy(ledger: Ledger, number: int, heavy: object = None) -> tuple[int, None]:
    with ledger.task(number):
        return number, None


def held(ledger: Ledger, number: int, path: str) -> tuple[int, None]:
    with ledger.task(number):
        wait_for_file(path)
        return number, None


def gone(ledger: Ledger, number: int) -> None:
    with ledger.task(number):
        os._exit(3)


def stubborn(ledger: Ledger, number: int) -> tuple[int, None]:
    """Too late, and deaf to the signal that says so: the worker finds out when it has completed."""
    with ledger.task(number):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(0.2)
        return number, None


class Lingering:
    """An argument that takes a while to go, after its task's result is out."""

    def __init__(self, payload: bytes = b"", arrived: bool = False) -> None:
        self._payload = payload
        self._arrived = arrived

    def __reduce__(self) -> object:
        return type(self), (self._payload, True)

    def __del__(self) -> None:
        if self._arrived:
            time.sleep(0.001)


class Greedy(Lingering):
    """An argument that leaves its worker with more memory than it may have, once its task is done."""

    kept: list[bytes] = []

    def __del__(self) -> None:
        # In small steps, so that it sleeps soon after it is over the limit: who dismisses it wakes it.
        while self._arrived and resident() <= MEMORY_LIMIT + STEP:
            self.kept.append(b"x" * STEP)


def resident() -> int:
    """Bytes of memory that this process has."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def unlucky(ledger: Ledger, number: int, path: str, _: Lingering) -> tuple[int, None]:
    """Raises at the first attempt, and its worker is not free at once for the second."""
    first = not os.path.exists(path)
    ledger.begin(number)
    if first:
        Path(path).touch()
        raise KeyError(number)
    ledger.end(number)
    return number, None


def fail_each_third(directory: str) -> None:
    """An initializer: of three workers that start, the second cannot."""
    for number in range(10_000):
        try:
            os.close(os.open(f"{directory}/start-{number}", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            continue
        if number % 3 == 1:
            raise RuntimeError("this worker cannot start")
        return


class Life:
    """A pool, the tasks that it was given, and what it answered."""

    def __init__(self, pool: Any, directory: Path, ledger: Ledger) -> None:
        self.pool = pool
        self.directory = directory
        self.ledger = ledger
        self.submitted = 0
        self.values: list[int] = []
        self.failed: dict[int, str] = {}
        self.heavy = list(range(3000))
        self.round = 0

    def number(self) -> int:
        self.submitted += 1
        return self.submitted - 1

    def path(self, name: str) -> str:
        return str(self.directory / f"{name}-{self.submitted}")

    def take(self, number: int, get: Callable[[], Any]) -> None:
        try:
            found, _ = get()
        except Exception as error:
            self.failed[number] = type(error).__name__
        else:
            assert found == number
            self.values.append(number)

    def ask(self, function: Callable[..., Any], *more: object, **kwds: Any) -> tuple[int, Any]:
        number = self.number()
        args = (self.ledger, number, *more)
        return number, self.pool.apply_async(function, args, **kwds)

    def wait(self, asked: list[tuple[int, Any]]) -> None:
        for number, result in asked:
            self.take(number, result.get)

    def has_begun(self, asked: tuple[int, Any]) -> bool:
        """Or has ended, for its worker may have died before it noted that."""
        number, result = asked
        return result.ready() or self.ledger.count("begin", number) > 0

    def wait_until_all_are_out(self) -> None:
        """The pool may leave a dispatch to its keeper."""
        wait_until(
            lambda: self.pool.stats()["tasks_dispatched"] >= self.submitted, "all to be dispatched"
        )

    def work(self) -> None:
        """All ways of payloads, one by one and many at a time: none of these tasks fails by itself."""
        import numpy

        for _ in range(10):
            self.wait([self.ask(told)])
            self.wait([self.ask(told), self.ask(told)])
        self.wait([self.ask(told, bytes(LONG), LONG) for _ in range(15)])
        self.wait([self.ask(told_with_heavy, Lingering(bytes(HUGE))) for _ in range(12)])
        self.heavy[0] += 1
        function = partial(told_with_heavy, self.ledger, heavy=self.heavy)
        numbers = [self.number() for _ in range(6)]
        for number, found in zip(
            numbers, self.pool.imap(function, numbers, chunksize=1), strict=False
        ):
            self.take(number, lambda found=found: found)  # type: ignore[misc]
        for _ in range(2):
            self.wait([self.ask(told, numpy.zeros(1 << 16))])

    def deaths(self) -> None:
        self.wait([self.ask(gone)])

    def bursts(self) -> None:
        """Two tasks, the second when the first may be claimed and its worker on the way to it."""
        for _ in range(10):
            self.wait([self.ask(told)])
            first = self.ask(told)
            time.sleep(0.003)
            self.wait([first, self.ask(told)])

    def idle(self) -> None:
        """For so long that workers look for what they need no more."""
        time.sleep(1.1)

    def stops(self) -> None:
        """Tasks that are cancelled in the line and while they run, are late, are tried again; and a
        worker that keeps too much."""
        first, second = self.path("first"), self.path("second")
        holding = [self.ask(held, first), self.ask(held, second)]
        before = [self.ask(told) for _ in range(2)]
        taken_back = [self.ask(told) for _ in range(4)]
        self.wait_until_all_are_out()
        after = [self.ask(told) for _ in range(4)]
        for _, result in taken_back:
            result.cancel()
        # A worker that the last round ended may still have no heir, and two are needed below.
        wait_until(lambda: all(map(self.has_begun, holding)), "both tasks to begin")
        Path(first).touch()
        Path(second).touch()
        self.wait(holding + before + taken_back + after)
        path = self.path("unlucky")
        time.sleep(0.003)  # so that the worker that is to be woken for the second attempt sleeps
        self.wait([self.ask(unlucky, path, Lingering(), retries=2, retry_on=KeyError)])
        self.wait([self.ask(stubborn, timeout=0.05)])
        never = self.ask(held, self.path("never"))
        wait_until(lambda: self.has_begun(never), "the task to begin")
        never[1].cancel(running=True)
        self.wait([never])
        release = self.path("release")
        holder = self.ask(held, release)
        before_it = {worker.pid for worker in self.pool._pool}
        self.wait([self.ask(told_with_heavy, Greedy())])
        # Memory is looked at while the holder is out.
        wait_until(
            lambda: not before_it <= {worker.pid for worker in self.pool._pool},
            "the worker that keeps too much to be replaced",
        )
        Path(release).touch()
        self.wait([holder])


def counts_in(path: Path) -> list[int]:
    data = path.read_bytes()
    return list(struct.unpack(f"<{len(data) // 8}Q", data))


def live(life: Life, kinds: list[str], is_over: Callable[[], bool]) -> None:
    """Rounds until the point was reached, and one more."""
    for _ in range(ROUNDS_MAX):
        was_over = is_over()
        for kind in kinds:
            getattr(life, kind)()
        if was_over:
            return


def main(directory_name: str, start_method: str, kinds_text: str, wanted: int) -> None:
    """Run a life; `kinds_text` is what its rounds are made of, and `pools` for a pool in each."""
    # Before the pool: a worker that is forked while another thread imports waits for that for ever.
    importlib.import_module("numpy")
    import millpond

    directory = Path(directory_name)
    kinds = kinds_text.split(",")
    counts = Path(os.environ["MILLPOND_KILL_COUNTS"])
    ledger = Ledger(str(directory / "ledger"))
    options: dict[str, Any] = {"maxtasksperchild": TASKS_PER_WORKER}
    if "fails" in kinds:
        options |= {"initializer": fail_each_third, "initargs": (directory_name,)}
        sys.stderr = open(os.devnull, "w")
    if "stops" in kinds:
        options["memory_limit"] = MEMORY_LIMIT
    rounds = [kind for kind in kinds if kind not in ("fails", "pools")]

    def is_over() -> bool:
        return counts_in(counts)[0] >= wanted

    context = multiprocessing.get_context(start_method)
    pools = wanted + 1 if "pools" in kinds else 1
    submitted = 0
    values: list[int] = []
    failed: dict[int, str] = {}
    for _ in range(pools):
        pool = millpond.Pool(WORKERS, context=context, **options)
        life = Life(pool, directory, ledger)
        life.submitted = submitted
        live(life, rounds, is_over if pools == 1 else lambda: True)
        submitted, values, failed = life.submitted, values + life.values, failed | life.failed
        wait_until(
            lambda pool=pool: sum(pool.stats().deaths.values()) >= 1 or pools > 1,  # type: ignore[misc]
            "the death to be counted",
            limit_s=5,
        )
        wait_until(
            lambda pool=pool: sum(map(is_alive, list(pool._pool))) == WORKERS,  # type: ignore[misc]
            "the pool to be whole again",
        )
        stats = pool.stats()
        pool.close()
        pool.join()
    print(
        json.dumps(
            {
                "submitted": submitted,
                "values": values,
                "failed": failed,
                "stats": dict(stats),
                "deaths": stats.deaths,
            }
        )
    )


def is_alive(worker: Any) -> bool:
    return bool(worker.is_alive())
