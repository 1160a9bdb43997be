"""Payloads of every size, in both directions, whole to the last byte."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Iterable
from typing import TypeVar

import millpond
import numpy as np
import pytest
from millpond._native import encode
from testkit.forms import by_form
from testkit.pools import running

T = TypeVar("T")

EDGES = (0, 1, 64, 128, 192, 256, 4096, 65536, 1 << 20, 1 << 22)
SIZES = sorted({size for edge in EDGES for size in (edge - 1, edge, edge + 1) if size >= 0})
BEYOND_TWO_GIB = (1 << 31) + 1


def make(size: int) -> bytes:
    """Bytes of which no two places look alike, so that a shifted or torn copy is seen."""
    unit = hashlib.shake_128(size.to_bytes(8, "little")).digest(min(size, 65521))
    return (unit * (size // max(len(unit), 1) + 1))[:size] if size else b""


def digest(payload: bytes) -> tuple[int, str]:
    return len(payload), hashlib.blake2b(payload).hexdigest()


def back_and_forth(payload: T) -> T:
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
        assert pool.map(back_and_forth, values, chunksize=3) == values


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


SMALL = range(601)
"""Past what lies in a slot, 200 bytes, by more than a task has around its argument."""
AROUND = 128
"""More than a task or result has around a payload, so that what is written crosses each limit too."""
LIMITS = {
    "16 KiB": 16 << 10,  # from here on bytes are pickled
    "64 KiB": 64 << 10,  # what unclaimed tasks may hold
    "256 KiB": 256 << 10,  # the longest block of the small area, and the shortest buffer
    "512 KiB": 512 << 10,  # a piece in which parts are made
    "1 MiB": 1 << 20,  # what is kept for a next task, and what is tracked
    "4 MiB": 4 << 20,  # a worker's small area
    "16 MiB": 16 << 20,  # the parent's
}
MATERIAL = hashlib.shake_128(b"payloads").digest(65521) * ((LIMITS["16 MiB"] + 65521) // 65521 + 2)
"""No place looks like another within its prime length, which divides no block and no page."""


def cut(size: int) -> bytes:
    """Bytes that differ by their size from the first on, in workers as here."""
    start = size % 65521
    return MATERIAL[start : start + size]


def cut_array(size: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    return np.frombuffer(cut(size), np.uint8).copy()


def is_cut(payload: bytes) -> bool:
    return payload == cut(len(payload))


def crosses(limit: int, lengths: Iterable[int]) -> bool:
    """Whether there is the last length on this side, the limit itself, and the first beyond it."""
    return {limit - 1, limit, limit + 1} <= set(lengths)


def encoded_len(func: Callable[..., object] | None, value: object) -> int:
    frame = encode(func, value, {} if func else None)
    assert frame is not None
    return len(frame)


def test_bytes_of_every_small_size_arrive_whole() -> None:
    """What lies in the slot and what lies beside it meet at 200 bytes as written, not as given."""
    assert crosses(200, (encoded_len(is_cut, (cut(size),)) for size in SMALL))
    assert crosses(200, (encoded_len(None, cut(size)) for size in SMALL))
    payloads = [cut(size) for size in SMALL]
    with running(2) as pool:
        for size in SMALL:
            assert pool.apply(is_cut, (payloads[size],)) is True
            assert pool.apply(cut, (size,)) == payloads[size]
        assert list(pool.imap(back_and_forth, payloads)) == payloads
        assert pool.map(back_and_forth, payloads, chunksize=1) == payloads
        # What the pickler writes, for the sake of the bytearray, has another length around it.
        pairs = [(payload, bytearray(payload)) for payload in payloads]
        assert pool.map(back_and_forth, pairs, chunksize=1) == pairs


def around(limit: int, extras: set[int]) -> list[int]:
    """Sizes about a limit: that by itself and as written with so much around it, and their neighbours.

    In the short form only these of the largest, which are gigabytes together.
    """
    assert all(0 <= extra < AROUND for extra in extras), extras
    sizes = {limit - extra + apart for extra in {0, *extras} for apart in (-1, 0, 1)}
    if limit <= by_form(1 << 20, limit):
        sizes.update(range(limit - AROUND, limit + AROUND + 1))
    return sorted(sizes)


def written_around(pool: millpond.Pool, size: int) -> set[int]:
    """Bytes that a task, and a part of one, has beside so many of its argument.

    What comes once is not written like what may come again, so it is asked more than once.
    """
    found = set()
    for _ in range(3):
        before = pool.stats()
        assert pool.apply(is_cut, (cut(size),)) is True
        after = pool.stats()
        found |= {after[name] - before[name] for name in ("bytes_pickled", "heavy_bytes_pickled")}
    return {length - size for length in found if length}


@pytest.mark.limit_s(by_form(60, 600))
@pytest.mark.parametrize("name", LIMITS)
def test_bytes_around_every_limit_arrive_whole(name: str) -> None:
    limit = LIMITS[name]
    # A direct result has five bytes in front.
    returned = 5 if limit <= LIMITS["16 KiB"] else len(pickle.dumps(cut(limit))) - limit
    with running(1) as pool:
        extras = {returned} | written_around(pool, limit) | written_around(pool, limit - AROUND)
        assert len(extras) > 1
        sizes = around(limit, extras)
        for size, back in zip(sizes, pool.imap(back_and_forth, map(cut, sizes)), strict=True):
            assert back == cut(size), size
        assert all(pool.imap(is_cut, map(cut, sizes)))
        for size, made in zip(sizes, pool.imap(cut, sizes), strict=True):
            assert made == cut(size), size


@pytest.mark.limit_s(by_form(60, 600))
@pytest.mark.parametrize("name", list(LIMITS)[2:])
def test_buffers_around_every_limit_arrive_whole(name: str) -> None:
    """Arrays are mapped where they arrive, from 256 KiB on; bytes of theirs have nothing around."""
    sizes = around(LIMITS[name], set())
    with running(1) as pool:
        for size, back in zip(sizes, pool.imap(back_and_forth, map(cut_array, sizes)), strict=True):
            assert back.tobytes() == cut(size), size
        for size, made in zip(sizes, pool.imap(cut_array, sizes), strict=True):
            assert made.tobytes() == cut(size), size


@pytest.mark.parametrize("width", [4, 8])
def test_parts_that_are_made_in_pieces_arrive_whole_around_each_pieces_end(width: int) -> None:
    """Numbers are packed by 512 KiB: lists of them end before, at and behind the first and second."""
    with running(1) as pool:
        for length in [pieces * LIMITS["512 KiB"] // width for pieces in (1, 2)]:
            for count in (length - 1, length, length + 1):
                first = 1 if width == 4 else 1 << 40
                numbers = list(range(first, first + count))
                assert pool.map(back_and_forth, [numbers] * 2, chunksize=1) == [numbers] * 2
                assert [part.bytes for part in pool.stats().parts] == [count * width]
