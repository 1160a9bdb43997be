"""A program that reaps: it looks at its children and starts some of its own while workers die.

`active_children()` and `Process.start()` poll every child there is, the pool's workers too, so that
the exit code may be taken by a thread that is not the pool's.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from threading import Event, Thread
from typing import Any

import millpond
import pytest
from testkit.forms import by_form
from testkit.pools import running
from testkit.work import die, square

DEATHS = {"exit": 3, "kill": -signal.SIGKILL}
# A replacement costs 0.2 s where an interpreter is started for it.
ROUNDS = {
    "fork": by_form(40, 1000),
    "spawn": by_form(4, 60),
    "forkserver": by_form(20, 60),
}
WINDOW_S = 0.002


def widened(take: Callable[..., Any]) -> Callable[..., Any]:
    """The step that takes an exit code, with more room for other threads until it is written down."""

    def take_and_rest(*args: Any) -> Any:
        taken = take(*args)
        time.sleep(WINDOW_S)
        return taken

    return take_and_rest


@pytest.fixture
def slow_to_write_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways in which `Popen.poll` takes an exit code let another `poll` come between."""
    monkeypatch.setattr(os, "waitpid", widened(os.waitpid))
    monkeypatch.setattr(forkserver, "read_signed", widened(forkserver.read_signed))


@contextmanager
def reaping(start_method: str) -> Iterator[None]:
    """Reap in two threads for as long as the block lasts, which begins when both do."""
    context = multiprocessing.get_context(start_method)
    ended, looks, starts = Event(), Event(), Event()

    def look() -> None:
        while not ended.is_set():
            multiprocessing.active_children()
            looks.set()

    def start() -> None:
        while not ended.is_set():
            process = context.Process(target=square, args=(2,))
            process.start()
            process.join()
            starts.set()

    threads = [Thread(target=look), Thread(target=start)]
    for thread in threads:
        thread.start()
    try:
        assert looks.wait(30) and starts.wait(30)
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def codes_of(pool: millpond.Pool, how: str, count: int) -> list[int | None]:
    """The exit codes that so many tasks that die in this way end with."""
    told = []
    for _ in range(count):
        with pytest.raises(millpond.WorkerDied) as died:
            pool.apply(die, (how,))
        told.append(died.value.exitcode)
    return told


@pytest.mark.limit_s(by_form(60, 600))
@pytest.mark.usefixtures("slow_to_write_down")
def test_an_exit_code_is_told_exactly_though_the_program_reaps(start_method: str) -> None:
    """Whichever thread has taken it."""
    with running(2, start_method) as pool, reaping(start_method):
        for how, code in DEATHS.items():
            told = codes_of(pool, how, ROUNDS[start_method])
            assert told == [code] * len(told), how
        assert pool.map(square, range(20), 1) == [x * x for x in range(20)]
