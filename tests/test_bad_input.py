"""Bad input is refused at the call, with the standard library's type and a message that helps."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import millpond
import pytest
from testkit.ledger import Ledger
from testkit.pools import running, workers_of
from testkit.work import identity, square

CONSTRUCTIONS: list[tuple[dict[str, Any], type[Exception]]] = [
    ({"processes": 0}, ValueError),
    ({"processes": -1}, ValueError),
    ({"processes": 1025}, ValueError),
    ({"processes": 1.5}, TypeError),
    ({"processes": "x"}, TypeError),
    ({"processes": 1, "initializer": 1}, TypeError),
    ({"processes": 1, "initializer": "f"}, TypeError),
    ({"processes": 1, "maxtasksperchild": 0}, ValueError),
    ({"processes": 1, "maxtasksperchild": -1}, ValueError),
    ({"processes": 1, "maxtasksperchild": 0.5}, ValueError),
    ({"processes": 1, "maxtasksperchild": "x"}, ValueError),
]


@pytest.mark.parametrize(("arguments", "error"), CONSTRUCTIONS)
def test_a_pool_that_cannot_be_is_refused_and_leaves_nothing(
    arguments: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error) as caught:
        millpond.Pool(**arguments)
    assert str(caught.value)


def test_a_pool_without_a_size_has_one_worker_a_cpu() -> None:
    count: Callable[[], int | None] = getattr(os, "process_cpu_count", os.cpu_count)
    with running(None) as pool:
        assert len(workers_of(pool)) == count()


@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
@pytest.mark.parametrize("chunksize", [0, -1])
def test_a_chunksize_below_one_is_refused(method: str, chunksize: int) -> None:
    with running(1) as pool, pytest.raises(ValueError, match="Chunksize must be 1"):
        getattr(pool, method)(square, [1], chunksize)


@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
@pytest.mark.parametrize(
    ("buffersize", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), ("x", TypeError)]
)
def test_a_buffersize_that_is_no_positive_integer_is_refused(
    method: str, buffersize: object, error: type[Exception]
) -> None:
    with running(1) as pool, pytest.raises(error, match="buffersize"):
        getattr(pool, method)(square, [1], buffersize=buffersize)


CALLS: dict[str, Callable[[Any], object]] = {
    "apply": lambda pool: pool.apply(square, (1,)),
    "apply_async": lambda pool: pool.apply_async(square, (1,)),
    "map": lambda pool: pool.map(square, [1]),
    "map of nothing": lambda pool: pool.map(square, []),
    "map_async": lambda pool: pool.map_async(square, [1]),
    "imap": lambda pool: pool.imap(square, [1]),
    "imap in chunks": lambda pool: pool.imap(square, [1], 2),
    "imap_unordered": lambda pool: pool.imap_unordered(square, [1]),
    "starmap": lambda pool: pool.starmap(square, [(1,)]),
    "starmap_async": lambda pool: pool.starmap_async(square, [(1,)]),
    "with": lambda pool: pool.__enter__(),
}


@pytest.mark.parametrize("end", ["close", "terminate"])
@pytest.mark.parametrize("call", CALLS)
def test_a_pool_that_was_ended_refuses_work(end: str, call: str) -> None:
    with running(1) as pool:
        getattr(pool, end)()
        with pytest.raises(ValueError, match="Pool not running"):
            CALLS[call](pool)


def test_a_running_pool_cannot_be_joined() -> None:
    with running(1) as pool, pytest.raises(ValueError, match="Pool is still running"):
        pool.join()


def test_an_iterable_that_is_none_is_refused_as_by_the_standard_library() -> None:
    not_iterable: Any = 5
    with running(1) as pool:
        with pytest.raises(TypeError):
            pool.map(square, not_iterable)
        with pytest.raises(TypeError):
            list(pool.imap(square, not_iterable))
        assert pool.apply(square, (2,)) == 4


def test_a_callable_that_is_none_is_an_error_of_its_task() -> None:
    not_callable: Any = 5
    with running(1) as pool:
        for call in (
            lambda: pool.apply(not_callable),
            lambda: pool.map(not_callable, [1]),
            lambda: list(pool.imap(not_callable, [1])),
        ):
            with pytest.raises(TypeError, match="not callable"):
                call()
        assert pool.apply(identity, ("alive",)) == "alive"


def test_use_in_a_forked_child_is_refused_with_advice(tmp_path: Path) -> None:
    """The standard library hangs there. The child must also be able to drop the pool and exit."""
    ledger = Ledger.at(tmp_path)
    with running(1) as pool:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            child = os.fork()
        if child == 0:
            try:
                for call in ("apply", "map", "imap", "starmap_async"):
                    try:
                        CALLS[call](pool)
                        ledger.note(call, "answered")
                    except ValueError as error:
                        ledger.note(call, "refused" if len(str(error)) > 20 else "mumbled")
            finally:
                os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert pool.apply(square, (3,)) == 9, "the parent's pool is untouched"
    assert ledger.tasks("refused") == ["apply", "map", "imap", "starmap_async"]


def test_a_pool_left_running_is_told_by_a_resource_warning() -> None:
    """And its workers end all the same, as the census proves."""
    pool = millpond.Pool(1)
    with pytest.warns(ResourceWarning, match="unclosed running multiprocessing pool"):
        del pool


def test_a_pool_that_was_ended_warns_of_nothing() -> None:
    pool = millpond.Pool(1)
    pool.close()
    pool.join()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del pool


def test_repr_tells_state_and_size() -> None:
    pool = millpond.Pool(2)
    name = f"{type(pool).__module__}.{type(pool).__qualname__}"
    assert repr(pool) == f"<{name} state=RUN pool_size=2>"
    pool.close()
    assert "state=CLOSE" in repr(pool)
    pool.join()
    pool.terminate()
    assert "state=TERMINATE" in repr(pool)
