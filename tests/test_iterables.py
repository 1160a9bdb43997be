"""Iterables that do not keep what their `len()` says, or raise: where the standard library hangs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from testkit.pools import running
from testkit.work import identity, square


class Sized:
    """Gives `count` items, says that they are `said`, and raises at its end if it is to."""

    def __init__(self, count: int, said: int, error: Exception | None = None) -> None:
        self.count = count
        self.said = said
        self.error = error

    def __len__(self) -> int:
        return self.said

    def __iter__(self) -> Iterator[int]:
        yield from range(self.count)
        if self.error is not None:
            raise self.error


def by_map(pool: Any, iterable: Sized, chunksize: int | None) -> Any:
    return pool.map(identity, iterable, chunksize)


def by_map_async(pool: Any, iterable: Sized, chunksize: int | None) -> Any:
    return pool.map_async(identity, iterable, chunksize).get()


ways = pytest.mark.parametrize("way", [by_map, by_map_async])


@ways
@pytest.mark.parametrize("chunksize", [1, 2, 3, None])
@pytest.mark.parametrize("count", [0, 1, 6])
def test_a_map_whose_iterable_leaves_whole_chunks_out_is_refused(
    way: Callable[..., Any], chunksize: int | None, count: int
) -> None:
    with running(2) as pool:
        with pytest.raises(ValueError, match=r"fewer items than its len\(\) of 10"):
            way(pool, Sized(count, 10), chunksize)
        assert pool.apply(square, (3,)) == 9
        pool.close()
        pool.join()


@ways
@pytest.mark.parametrize("chunksize", [1, 2, 3, None])
@pytest.mark.parametrize("count", [0, 1, 2, 5, 9])
def test_a_map_whose_iterable_raises_ends_with_its_error(
    way: Callable[..., Any], chunksize: int | None, count: int
) -> None:
    error = KeyError("drawn")
    with running(2) as pool:
        with pytest.raises(KeyError, match="drawn"):
            way(pool, Sized(count, 10, error), chunksize)
        assert pool.apply(square, (3,)) == 9
        pool.close()
        pool.join()


def test_error_callbacks_are_told_of_both() -> None:
    failed: list[BaseException] = []
    with running(2) as pool:
        for iterable in (Sized(1, 10), Sized(1, 10, OSError("drawn"))):
            result = pool.map_async(identity, iterable, 1, error_callback=failed.append)
            result.wait()
            assert not result.successful()
    assert [type(error) for error in failed] == [ValueError, OSError]
