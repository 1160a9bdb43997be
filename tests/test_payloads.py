"""Payloads of every size, in both directions, whole to the last byte."""

from __future__ import annotations

import hashlib

import pytest
from testkit.pools import running

EDGES = (0, 1, 64, 128, 192, 256, 4096, 65536, 1 << 20, 1 << 22)
SIZES = sorted({size for edge in EDGES for size in (edge - 1, edge, edge + 1) if size >= 0})
BEYOND_TWO_GIB = (1 << 31) + 1


def make(size: int) -> bytes:
    """Bytes of which no two places look alike, so that a shifted or torn copy is seen."""
    unit = hashlib.shake_128(size.to_bytes(8, "little")).digest(min(size, 65521))
    return (unit * (size // max(len(unit), 1) + 1))[:size] if size else b""


def digest(payload: bytes) -> tuple[int, str]:
    return len(payload), hashlib.blake2b(payload).hexdigest()


def back_and_forth(payload: bytes) -> bytes:
    return payload


@pytest.mark.parametrize("size", SIZES)
def test_bytes_of_every_size_arrive_whole(size: int) -> None:
    payload = make(size)
    with running(1) as pool:
        assert pool.apply(digest, (payload,)) == digest(payload)
        assert pool.apply(make, (size,)) == payload
        assert pool.map(back_and_forth, [payload] * 3, chunksize=1) == [payload] * 3


def test_sizes_may_follow_each_other_in_any_order(start_method: str) -> None:
    """Large after small and small after large: what is reused must not show."""
    sizes = [*SIZES, *reversed(SIZES), *SIZES[::3]]
    with running(2, start_method) as pool:
        assert list(pool.imap(back_and_forth, map(make, sizes))) == [make(size) for size in sizes]
        found = sorted(pool.imap_unordered(digest, map(make, sizes)))
        assert found == sorted(digest(make(size)) for size in sizes)


def test_text_and_numbers_of_every_size_arrive_whole() -> None:
    values: list[object] = []
    for size in SIZES[:-3]:
        values += ["ä" * size, 1 << size, bytearray(size), ["x"] * min(size, 70000)]
    with running(2) as pool:
        assert pool.map(back_and_forth, values, chunksize=3) == values  # type: ignore[arg-type]


def test_more_large_results_than_anybody_takes_do_not_block_the_others() -> None:
    """200 MB of results wait in an unread `imap` while other work passes."""
    with running(2) as pool:
        unread = pool.imap(make, [1 << 20] * 200)
        assert pool.map(digest, [b"small"] * 10) == [digest(b"small")] * 10
        assert sum(map(len, unread)) == 200 << 20


@pytest.mark.slow
@pytest.mark.limit_s(300)
def test_more_than_two_gib_go_out() -> None:
    payload = make(BEYOND_TWO_GIB)
    with running(1) as pool:
        assert pool.apply(digest, (payload,)) == digest(payload)


@pytest.mark.slow
@pytest.mark.limit_s(300)
def test_more_than_two_gib_come_back() -> None:
    with running(1) as pool:
        found = pool.apply(make, (BEYOND_TWO_GIB,))
        assert digest(found) == digest(make(BEYOND_TWO_GIB))
