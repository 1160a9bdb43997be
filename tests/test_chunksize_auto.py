"""`chunksize="auto"`: chunks whose sizes follow from how long tasks take."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import millpond
import pytest
from testkit.ledger import Ledger, wait_for_file, wait_until
from testkit.pools import running
from testkit.work import journalled_square, reciprocal, square

LONG_S = 0.02
"""Many times as long as a chunk should take."""


class Sized:
    """An iterable that has a length, and is none of those that the dispatcher draws itself."""

    def __init__(self, items: range, given: int | None = None) -> None:
        self._items = items
        self._given = len(items) if given is None else given

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[int]:
        return iter(self._items[: self._given])


FORMS = pytest.mark.parametrize("form", [list, tuple, iter, Sized, lambda items: items])
Form = Callable[[range], Iterable[int]]


def dispatched(pool: millpond.Pool) -> int:
    return pool.stats()["tasks_dispatched"]


def take_long(x: int) -> int:
    time.sleep(LONG_S)
    return x


def end_at(last: int, end: Callable[[], object], x: int) -> int:
    if x == last:
        end()
    return x


def end_worker() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def never_end() -> None:
    while True:
        signal.pause()


@FORMS
@pytest.mark.parametrize("length", [0, 1, 2, 9, 500, 20_000])
def test_every_call_answers_as_with_other_chunks(form: Form, length: int) -> None:
    items = range(length)
    expected = [x * x for x in items]
    with running(2) as pool:
        assert pool.map(square, form(items), "auto") == expected
        assert pool.map_async(square, form(items), chunksize="auto").get() == expected
        tuples = [(x,) for x in items]
        assert pool.starmap(square, tuples, chunksize="auto") == expected
        assert pool.starmap_async(square, iter(tuples), "auto").get() == expected
        assert list(pool.imap(square, form(items), "auto")) == expected
        assert sorted(pool.imap_unordered(square, form(items), "auto")) == expected


@pytest.mark.parametrize("start_method", ["spawn", "forkserver"])
def test_it_works_with_workers_started_otherwise(start_method: str) -> None:
    with running(2, start_method) as pool:
        assert pool.map(square, range(5000), "auto") == [x * x for x in range(5000)]


@FORMS
def test_short_tasks_go_out_together(form: Form) -> None:
    with running(2) as pool:
        assert len(pool.map(square, form(range(100_000)), "auto")) == 100_000
        mapped = dispatched(pool)
        assert len(list(pool.imap(square, form(range(100_000)), "auto"))) == 100_000
        # The first ones, that are out before anything was measured, go out singly.
        assert mapped < 50_000 > dispatched(pool) - mapped


@FORMS
def test_long_tasks_go_out_singly(form: Form) -> None:
    with running(2) as pool:
        assert pool.map(take_long, form(range(20)), "auto") == list(range(20))
        assert list(pool.imap(take_long, form(range(20)), "auto")) == list(range(20))
        assert dispatched(pool) == 40


def test_each_item_is_done_once(tmp_path: Path) -> None:
    ledger = Ledger.at(tmp_path)
    with running(3) as pool:
        items = range(3000)
        found = pool.map(partial(journalled_square, ledger), items, "auto")
    assert found == [x * x for x in items]
    assert ledger.judge(items, resolved=items).fair


@FORMS
def test_an_error_is_that_of_the_call(form: Form) -> None:
    with running(2) as pool:
        with pytest.raises(ZeroDivisionError, match="division by zero"):
            pool.map(reciprocal, form(range(3000)), "auto")
        results = pool.imap(reciprocal, form(range(-300, 300)), "auto")
        with pytest.raises(ZeroDivisionError):
            for at, result in enumerate(results):
                assert result == 1 / (at - 300)
        assert next(results, None) is None
        assert pool.map(square, range(5), "auto") == [0, 1, 4, 9, 16]


def broken(length: int) -> Iterator[int]:
    yield from range(length)
    raise LookupError("of the iterable")


@pytest.mark.parametrize("length", [0, 1, 40, 3000])
def test_an_error_of_the_iterable_is_that_of_the_call(length: int) -> None:
    with running(2) as pool:
        results = pool.imap(square, broken(length), "auto")
        found = []
        with pytest.raises(LookupError, match="of the iterable"):
            for result in results:
                found.append(result)
        assert found == [x * x for x in range(length)]


class Broken(Sized):
    def __iter__(self) -> Iterator[int]:
        return broken(self._given)


@pytest.mark.parametrize("given", [0, 1, 40, 2999])
def test_an_iterable_that_raises_before_its_length_ends_the_map(given: int) -> None:
    with running(2) as pool, pytest.raises(LookupError, match="of the iterable"):
        pool.map(square, Broken(range(3000), given), "auto")


@pytest.mark.parametrize("given", [0, 1, 40, 2999])
def test_an_iterable_shorter_than_its_length_is_told_as_with_other_chunks(given: int) -> None:
    with running(2) as pool:
        with pytest.raises(ValueError) as refused:
            pool.map(square, Sized(range(3000), given), 1)
        with pytest.raises(ValueError, match=f"^{re.escape(str(refused.value))}$"):
            pool.map(square, Sized(range(3000), given), "auto")


def test_no_item_waits_for_the_next_one_to_be_drawn(tmp_path: Path) -> None:
    """An iterable that waits for what became of its last item goes on, whatever was measured."""
    ledger = tmp_path / "done"

    def items() -> Iterator[str]:
        for _ in range(5000):
            yield ""
        for number in range(3):
            path = f"{ledger}-{number}"
            yield path
            wait_for_file(Path(path))

    with running(2) as pool:
        found = list(pool.imap(touch_if_named, items(), "auto"))
        assert len(found) == 5003


def touch_if_named(path: str) -> str:
    if path:
        Path(path).touch()
    return path


def test_a_buffer_holds_it_back() -> None:
    with running(2) as pool:
        results = pool.imap(square, iter(range(2000)), "auto", buffersize=2)
        assert next(results) == 0
        wait_until(lambda: pool.stats()["tasks_completed"] == 3, "the two that may be out")
        assert pool.stats()["tasks_dispatched"] == 3
        assert list(results) == [x * x for x in range(1, 2000)]


def test_a_deadline_is_that_of_all_items_of_the_chunk() -> None:
    with running(2) as pool:
        # More items than one deadline has time for, were it that of a chunk.
        assert len(pool.map(square, range(50_000), "auto", timeout=5)) == 50_000
        with pytest.raises(millpond.TaskTimeout):
            pool.map(partial(end_at, 0, never_end), range(10), "auto", timeout=0.2)


def test_the_items_of_a_worker_that_died_are_named() -> None:
    with running(2) as pool:
        with pytest.raises(millpond.WorkerDied, match=r"items (\d+) to (\d+) of job") as died:
            pool.map(partial(end_at, 20_000, end_worker), range(20_100), "auto")
        first, last = map(int, re.findall(r"items (\d+) to (\d+)", str(died.value))[0])
        assert first <= 20_000 <= last
        assert pool.map(square, range(9), "auto") == [x * x for x in range(9)]


def end_once(path: str, x: int) -> int:
    if x == 700 and not os.path.exists(path):
        Path(path).touch()
        end_worker()
    return x


def test_a_chunk_is_tried_again(tmp_path: Path) -> None:
    with running(2) as pool:
        function = partial(end_once, str(tmp_path / "ended"))
        assert pool.map(function, range(2000), "auto", retries=1) == list(range(2000))
        assert pool.stats()["retries"] == 1


def test_what_cannot_be_pickled_is_told() -> None:
    with running(2) as pool:
        with pytest.raises((AttributeError, TypeError), match="pickle"):
            pool.map(square, [1, 2, lambda: 3, 4], "auto")  # type: ignore[arg-type]
        assert pool.map(square, range(9), "auto") == [x * x for x in range(9)]


def test_jobs_side_by_side_keep_their_own_sizes() -> None:
    with running(2) as pool:
        short = pool.map_async(square, range(50_000), "auto")
        long = pool.map_async(take_long, range(12), "auto")
        assert long.get() == list(range(12))
        assert short.get() == [x * x for x in range(50_000)]


@pytest.mark.parametrize("chunksize", ["autos", "", b"auto", "1"])
def test_no_other_text_is_a_size(chunksize: Any) -> None:
    with running(1) as pool:
        for call in (pool.map, pool.imap):
            with pytest.raises(TypeError, match="not supported between instances"):
                call(square, [1], chunksize)
        assert pool.map(square, [3], "auto") == [9]


def test_a_range_longer_than_any_list_is_streamed() -> None:
    with running(1) as pool:
        results = pool.imap(square, range(1 << 63), "auto", buffersize=4)
        assert next(results) == 0


def test_a_deadline_is_told_as_that_of_the_chunk() -> None:
    with running(1) as pool:
        with pytest.raises(millpond.TaskTimeout) as late:
            pool.map(partial(end_at, 3000, never_end), range(3100), "auto", timeout=0.01)
        first, last = map(int, re.findall(r"items (\d+) to (\d+)", str(late.value))[0])
        assert late.value.timeout == pytest.approx(0.01 * (last - first + 1))
