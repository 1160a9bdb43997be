"""Handlers that run while the program waits for the pool: one that raises ends any wait, none is lost.

A timer of the kernel's sends the signals. The handler looks at the stack that it interrupts, and acts
once it has found the wait there often enough, so it matters to no test how fast the wait is entered.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from types import FrameType
from typing import Any

import millpond
import pytest
from testkit.forms import by_form
from testkit.ledger import wait_until
from testkit.pools import pids_of, running
from testkit.scripts import run_script
from testkit.work import square, wait_for

INTERVAL_S = 0.005
FINDS = 4
PACKAGE = str(Path(millpond.__file__).parent)


class Woken(Exception):
    """What the handler raises."""


def waits(frame: FrameType | None) -> bool:
    """Whether the interrupted stack is inside of the pool's code."""
    while frame is not None:
        if frame.f_code.co_filename.startswith(PACKAGE):
            return True
        frame = frame.f_back
    return False


@contextmanager
def alarms(act: Callable[[], None]) -> Iterator[None]:
    """Send signals for as long as the block lasts; one that finds the wait, not the first, acts."""
    finds = 0

    def handle(_signum: int, frame: FrameType | None) -> None:
        nonlocal finds
        finds += waits(frame)
        if finds == FINDS:
            act()

    old = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, INTERVAL_S, INTERVAL_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
        assert finds >= FINDS


def raise_woken() -> None:
    signal.setitimer(signal.ITIMER_REAL, 0)
    raise Woken


def in_chunks(pool: Any, path: str) -> Any:
    return pool.imap(wait_for, [path, path], chunksize=2)


WAITS: dict[str, Callable[[Any, str], object]] = {
    "apply": lambda pool, path: pool.apply(wait_for, (path,)),
    "map": lambda pool, path: pool.map(wait_for, [path]),
    "map of an iterator": lambda pool, path: pool.map(wait_for, iter([path])),
    "starmap": lambda pool, path: pool.starmap(wait_for, [(path,)]),
    "get": lambda pool, path: pool.apply_async(wait_for, (path,)).get(),
    "get with a timeout": lambda pool, path: pool.apply_async(wait_for, (path,)).get(600),
    "get of a map": lambda pool, path: pool.map_async(wait_for, [path]).get(),
    "get after a callback": lambda pool, path: pool.apply_async(
        wait_for, (path,), callback=lambda _: None
    ).get(),
    "wait": lambda pool, path: pool.apply_async(wait_for, (path,)).wait(),
    "wait with a timeout": lambda pool, path: pool.apply_async(wait_for, (path,)).wait(600),
    "next of imap": lambda pool, path: pool.imap(wait_for, [path]).next(),
    "next of imap with a timeout": lambda pool, path: pool.imap(wait_for, [path]).next(600),
    "next of imap in chunks": lambda pool, path: next(in_chunks(pool, path)),
    "a loop over imap": lambda pool, path: list(pool.imap(wait_for, [path])),
    "a loop over a throttled imap": lambda pool, path: list(
        pool.imap(wait_for, iter([path]), buffersize=1)
    ),
    "next of imap_unordered": lambda pool, path: pool.imap_unordered(wait_for, [path]).next(),
    "a loop over imap_unordered": lambda pool, path: list(pool.imap_unordered(wait_for, [path])),
}


@contextmanager
def beside_a_leader(pool: Any, path: str, there_is_one: bool) -> Iterator[None]:
    """Whether another thread waits for results, so that this one waits for that thread's word."""
    if not there_is_one:
        yield
        return
    thread = Thread(target=pool.apply, args=(wait_for, (path,)))
    thread.start()
    try:
        wait_until(pool._core.is_led_by_caller, "the other thread to lead")
        yield
    finally:
        Path(path).touch()
        thread.join()


@pytest.mark.parametrize("is_led", [False, True], ids=["leads", "follows"])
@pytest.mark.parametrize("how", WAITS)
def test_a_handler_that_raises_ends_the_wait_and_not_the_pool(
    how: str, is_led: bool, tmp_path: Path
) -> None:
    path, led = str(tmp_path / "released"), str(tmp_path / "led")
    with running(2) as pool, beside_a_leader(pool, led, is_led):
        workers = pids_of(pool)
        with pytest.raises(Woken), alarms(raise_woken):
            WAITS[how](pool, path)
        Path(path).touch()
        assert pool.map(square, range(20), 1) == [x * x for x in range(20)]
        assert pids_of(pool) == workers


@pytest.mark.parametrize("is_led", [False, True], ids=["leads", "follows"])
@pytest.mark.parametrize("how", WAITS)
def test_a_handler_that_returns_lets_the_wait_go_on_to_its_answer(
    how: str, is_led: bool, tmp_path: Path
) -> None:
    """Nothing else than the handler releases the task."""
    path, led = str(tmp_path / "released"), str(tmp_path / "led")
    with running(2) as pool, beside_a_leader(pool, led, is_led):
        with alarms(Path(path).touch):
            answer = WAITS[how](pool, path)
        assert answer in (None, path, [path])


@pytest.mark.parametrize("method", ["get", "next"])
def test_a_wait_that_a_handler_ended_can_be_taken_up_again(method: str, tmp_path: Path) -> None:
    path = str(tmp_path / "released")
    with running(1) as pool:
        result: Any = (
            pool.imap(wait_for, [path]) if method == "next" else pool.apply_async(wait_for, (path,))
        )
        for _ in range(3):
            with pytest.raises(Woken), alarms(raise_woken):
                getattr(result, method)()
        with pytest.raises(multiprocessing.TimeoutError):
            getattr(result, method)(0)
        Path(path).touch()
        assert getattr(result, method)() == path


def test_a_handler_that_raises_ends_a_join_and_not_the_jobs(tmp_path: Path) -> None:
    path = str(tmp_path / "released")
    with running(2) as pool:
        results = [pool.apply_async(wait_for, (path,)), pool.apply_async(square, (3,))]
        workers = pids_of(pool)
        pool.close()
        with pytest.raises(Woken), alarms(raise_woken):
            pool.join()
        assert not results[0].ready() and pids_of(pool) == workers
        Path(path).touch()
        assert [result.get() for result in results] == [path, 9]
        wait_until(lambda: not pids_of(pool), "the closed pool to end by itself")


def test_a_handler_that_returns_lets_a_join_go_on_to_its_end(tmp_path: Path) -> None:
    path = str(tmp_path / "released")
    with running(2) as pool:
        result = pool.apply_async(wait_for, (path,))
        pool.close()
        with alarms(Path(path).touch):
            pool.join()
        assert result.get(0) == path
        assert pids_of(pool) == set()


JOINED_AGAIN = """
    import signal, sys
    from millpond import Pool
    from testkit.work import wait_for

    class Woken(Exception):
        pass

    def handle(signum, frame):
        global finds
        finds += any(line.f_code.co_name == "join" for line in stack(frame))
        if finds == 3:
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise Woken

    def stack(frame):
        while frame is not None:
            yield frame
            frame = frame.f_back

    if __name__ == "__main__":
        signal.signal(signal.SIGALRM, handle)
        for number in range(int(sys.argv[1])):
            pool = Pool(4)
            result = pool.apply_async(wait_for, (f"released-{number}",))
            keeper = pool._keeper._thread.ident
            pool.close()
            finds = 0
            signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
            try:
                pool.join()
            except Woken:
                pass
            assert finds == 3
            open(f"released-{number}", "w").close()
            pool.join()
            assert keeper not in sys._current_frames(), "the keeper goes on after its join()"
            result.get(0)
"""


def test_a_join_that_a_handler_ended_can_be_taken_up_again(tmp_path: Path) -> None:
    """Until CPython 3.13 the thread that was waited for counts as ended then, though it goes on."""
    ended = run_script(JOINED_AGAIN, tmp_path, str(by_form(20, 300)))
    assert (ended.returncode, ended.stderr, ended.orphans) == (0, "", [])
