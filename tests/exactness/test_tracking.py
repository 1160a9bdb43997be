"""Long lists of numbers, whose arrays the kernel watches where it can: the same answers with write
tracking and with comparison, which `MILLPOND_WRITE_TRACKING=0` forces."""

from __future__ import annotations

import ctypes
import fcntl
import functools
import gc
import os
import platform
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from testkit.oracle import Pool, assert_same
from testkit.pools import running

LENGTH = 200_000

MODES = ["tracked", "compared"]


@pytest.fixture(params=MODES, autouse=True)
def mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MILLPOND_WRITE_TRACKING", "0" if request.param == "compared" else "1")
    return str(request.param)


def ints() -> list[Any]:
    return list(range(LENGTH))


def floats() -> list[Any]:
    return [x / 2 for x in range(LENGTH)]


def wide() -> list[Any]:
    return [x << 40 for x in range(LENGTH)]


MAKERS: dict[str, Callable[[], list[Any]]] = {"ints": ints, "floats": floats, "wide": wide}


def digest(data: Any) -> tuple[Any, ...]:
    """What a task can see of it."""
    return type(data).__name__, len(data), sum(data), data[0], data[-1], sys.getsizeof(data)


def looks(x: int, data: Any) -> tuple[Any, ...]:
    return x, *digest(data)


CHANGES: dict[str, Callable[[list[Any]], object]] = {
    "first": lambda data: data.__setitem__(0, -7),
    "second": lambda data: data.__setitem__(1, -7),
    "middle": lambda data: data.__setitem__(LENGTH // 2, -7),
    "last": lambda data: data.__setitem__(-1, -7),
    "an equal number that is another object": lambda data: data.__setitem__(
        LENGTH // 2, type(data[0])(10**6 + LENGTH)
    ),
    "append": lambda data: data.append(5),
    "append and pop": lambda data: [data.append(5), data.pop()],  # type: ignore[func-returns-value]
    "pop": lambda data: data.pop(),
    "clear": lambda data: data.__setitem__(slice(None), [3, 4]),
    "reverse": lambda data: data.reverse(),
    "swap": lambda data: data.__setitem__(slice(7, 9), [data[8], data[7]]),
    "sort": lambda data: data.sort(key=lambda x: -x),
    "grow": lambda data: data.extend(range(LENGTH)),
    "shrink": lambda data: data.__delitem__(slice(10, None)),
    "nothing": lambda data: None,
    "sorted already": lambda data: data.sort(),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("maker", MAKERS)
def test_what_the_parent_changes_between_dispatches_is_seen(maker: str, change: str) -> None:
    def program(pool: Pool) -> object:
        data = MAKERS[maker]()
        bound = functools.partial(looks, data=data)
        before = [pool.apply(bound, (x,)) for x in range(2)]
        CHANGES[change](data)
        after = [pool.apply(bound, (x,)) for x in range(2)]
        CHANGES[change](data)
        return before, after, list(pool.imap(bound, range(3)))

    assert_same(program)


def changes(x: int, data: Any, change: str) -> tuple[Any, ...]:
    before = digest(data)
    CHANGES[change](data)
    return x, before, digest(data)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("maker", MAKERS)
def test_what_a_task_changes_is_not_seen_by_the_next(maker: str, change: str) -> None:
    def program(pool: Pool) -> object:
        bound = functools.partial(changes, data=MAKERS[maker](), change=change)
        return list(pool.imap(bound, range(4))), pool.map(bound, range(4), chunksize=2)

    assert_same(program, processes=1)


def test_a_tuple_is_proved_like_a_list() -> None:
    def program(pool: Pool) -> object:
        bound = functools.partial(looks, data=tuple(range(LENGTH)))
        return list(pool.imap(bound, range(4)))

    assert_same(program)


class Changing:
    """An iterable that changes the bound list before each item."""

    def __init__(self, data: list[Any]) -> None:
        self.data = data

    def __iter__(self) -> Iterator[int]:
        for x in range(4):
            self.data[100_000 + x] = -x
            yield x


def test_what_the_iterable_changes_is_seen_from_its_item_on() -> None:
    def program(pool: Pool) -> object:
        data = ints()
        bound = functools.partial(looks, data=data)
        return [pool.apply(bound, (x,)) for x in Changing(data)]

    assert_same(program)


def test_another_list_at_the_same_place_is_not_taken_for_the_old_one() -> None:
    def program(pool: Pool) -> object:
        seen = []
        for start in (0, 1, 0, 2):
            data = list(range(start, start + LENGTH))
            seen.append(pool.apply(functools.partial(looks, data=data), (start,)))
            del data
            gc.collect()
        return seen

    assert_same(program)


def test_a_fork_between_dispatches_changes_nothing() -> None:
    def program(pool: Pool) -> object:
        data = ints()
        bound = functools.partial(looks, data=data)
        seen = [pool.apply(bound, (0,))]
        pid = os.fork()
        if pid == 0:
            data[150_000] = -1
            os._exit(0)
        os.waitpid(pid, 0)
        seen.append(pool.apply(bound, (1,)))
        data[50_000] = -5
        seen.append(pool.apply(bound, (2,)))
        return seen

    assert_same(program)


def forks_and_changes(x: int, data: Any) -> tuple[Any, ...]:
    before = digest(data)
    pid = os.fork()
    if pid == 0:
        data[150_000] = -1
        os._exit(0)
    os.waitpid(pid, 0)
    if x == 1:
        data[60_000] = -1
    return before, digest(data)


def test_a_task_that_forks_leaves_the_copy_to_be_proved() -> None:
    def program(pool: Pool) -> object:
        return list(pool.imap(functools.partial(forks_and_changes, data=ints()), range(4)))

    assert_same(program, processes=1)


def test_another_threads_change_is_seen_once_it_is_done() -> None:
    def program(pool: Pool) -> object:
        data = ints()
        bound = functools.partial(looks, data=data)
        seen = [pool.apply(bound, (0,))]
        thread = threading.Thread(target=lambda: data.__setitem__(77_777, 0))
        thread.start()
        thread.join()
        seen.append(pool.apply(bound, (1,)))
        return seen

    assert_same(program)


kept: list[Any] = []


def keeps(x: int, data: Any) -> tuple[Any, ...]:
    """Keeps the list, and changes what the task before kept."""
    if kept:
        kept[-1][3] = 99
    kept.append(data)
    return x, *digest(data), len(kept)


def test_a_list_that_a_task_keeps_is_its_own() -> None:
    def program(pool: Pool) -> object:
        return list(pool.imap(functools.partial(keeps, data=ints()), range(4)))

    assert_same(program, processes=1)


def test_two_pools_track_one_list_without_hiding_its_changes() -> None:
    def program(pool: Pool) -> object:
        data = ints()
        bound = functools.partial(looks, data=data)
        with running(1) as other:
            seen = []
            for round_ in range(4):
                seen.append(pool.apply(bound, (0,)))
                data[10_000 * (round_ + 1)] = -1
                seen.append(other.apply(bound, (1,)))
                data[10_001 * (round_ + 1)] = -1
                seen.append(pool.apply(bound, (2,)))
                seen.append(other.apply(bound, (3,)))
            return seen

    assert_same(program)


def test_the_kernel_watches_where_it_can_and_only_when_asked_to(mode: str) -> None:
    with running(1) as pool:
        bound = functools.partial(looks, data=ints())
        for x in range(3):
            pool.apply(bound, (x,))
        stats = pool.stats()
    assert stats["heavy_parts_pickled"] == 1
    assert stats["heavy_parts_verified"] == 2
    if mode == "compared":
        assert stats["heavy_parts_tracked"] == 0
    elif _kernel_can():
        assert stats["heavy_parts_tracked"] == 1
    else:
        pytest.skip("this kernel does not give asynchronous write protection to this process")


def _kernel_can() -> bool:
    """Whether userfaultfd opens here and has asynchronous write protection (linux/userfaultfd.h)."""
    number = {"x86_64": 323, "aarch64": 282}[platform.machine()]
    user_mode_only, api, asynchronous = 1, 0xAA, 1 << 15
    descriptor = ctypes.CDLL(None, use_errno=True).syscall(number, os.O_CLOEXEC | user_mode_only)
    if descriptor < 0:
        return False
    try:
        request = bytearray(struct.pack("QQQ", api, asynchronous, 0))
        fcntl.ioctl(descriptor, 0xC018AA3F, request)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
