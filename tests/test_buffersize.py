"""`buffersize`: how far an iterable is drawn ahead of the results that were taken."""

from __future__ import annotations

import itertools
import multiprocessing
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from testkit.ledger import wait_until
from testkit.pools import running
from testkit.work import identity, square, wait_for

METHODS = ("imap", "imap_unordered")


class Counter:
    """An endless iterable that counts how often it was asked."""

    def __init__(self) -> None:
        self.drawn = 0

    def reached(self, count: int) -> bool:
        return self.drawn >= count

    def __iter__(self) -> Iterator[int]:
        for number in itertools.count():
            self.drawn += 1
            yield number


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("buffersize", [1, 2, 7])
def test_no_more_is_drawn_than_taken_and_buffersize(method: str, buffersize: int) -> None:
    counter = Counter()
    with running(2) as pool:
        results = getattr(pool, method)(square, counter, buffersize=buffersize)
        for taken in range(20):
            wait_until(partial(counter.reached, taken + buffersize), "the buffer to fill")
            # Other work passes meanwhile, so that a drawer that runs ahead has its chance.
            assert pool.apply(square, (3,)) == 9
            assert counter.drawn == taken + buffersize
            next(results)


@pytest.mark.parametrize("method", METHODS)
def test_with_chunks_the_buffer_counts_whole_chunks_at_most(method: str) -> None:
    counter = Counter()
    with running(2) as pool:
        results = getattr(pool, method)(square, counter, 5, buffersize=2)
        wait_until(lambda: counter.drawn >= 2, "the first draw")
        assert pool.apply(square, (3,)) == 9
        assert counter.drawn <= 10
        got = list(itertools.islice(results, 50))
        assert len(got) == 50
        assert counter.drawn <= 60


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("buffersize", [1, 3, 1000])
@pytest.mark.parametrize("chunksize", [1, 4])
def test_a_buffersize_changes_no_answer(method: str, buffersize: int, chunksize: int) -> None:
    with running(2) as pool:
        results = getattr(pool, method)(square, range(100), chunksize, buffersize=buffersize)
        assert sorted(results) == [x * x for x in range(100)]


def test_the_buffer_holds_nothing_back_from_later_jobs(tmp_path: Path) -> None:
    """A job that waits for its consumer lets other jobs pass."""
    with running(1) as pool:
        lazy = pool.imap(square, itertools.count(), buffersize=1)
        assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]
        assert next(lazy) == 0
        assert pool.apply(square, (9,)) == 81
        assert next(lazy) == 1


@pytest.mark.parametrize("method", METHODS)
def test_close_and_join_end_though_a_buffered_job_was_not_taken(method: str) -> None:
    """gh-155477: upstream's first version waited for ever here."""
    with running(1) as pool:
        results = getattr(pool, method)(square, itertools.count(), buffersize=2)
        assert next(results) == 0
        pool.close()
        pool.join()


def test_a_buffer_refills_after_a_timeout_and_after_an_error(tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    with running(1) as pool:
        waiting: Any = pool.imap(wait_for, [gate] * 3, buffersize=1)
        with pytest.raises(multiprocessing.TimeoutError):
            waiting.next(timeout=0.01)
        Path(gate).touch()
        assert list(waiting) == [gate] * 3
        failing = pool.imap(int, ["1", "x", "3", "y", "5"], buffersize=1)
        outcomes: list[object] = []
        for _ in range(5):
            try:
                outcomes.append(next(failing))
            except ValueError:
                outcomes.append(None)
        assert outcomes == [1, None, 3, None, 5]
        assert list(pool.imap(identity, [], buffersize=1)) == []
