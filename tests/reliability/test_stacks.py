"""How deep a task may recurse: as deep as in the standard library's worker, in a replacement as well.

A forked worker lives on the stack of the thread that forked it: a first one on the caller's, one that
replaces another on that of the keeper's thread.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.pool
import pickle
import sys
from collections.abc import Callable
from typing import Any

import millpond
import pytest
from testkit.pools import running

LIBRARIES = {"millpond": millpond.Pool, "multiprocessing": multiprocessing.pool.Pool}
# A worker's own frames lie under a task's; the two libraries have not the same number of them.
OWN_FRAMES = 4
# Half of what 8 MiB of stack bear here; 2 MiB, as Rust's threads have, do not bear it.
DEEP = 25_000
DEEPEST = 5_000


def nest(depth: int) -> Any:
    nested: list[Any] = []
    for _ in range(depth):
        nested = [nested]
    return nested


def count_down(depth: int) -> int:
    return depth and count_down(depth - 1)


class Russian:
    """Each holds another, and its repr in its own."""

    def __init__(self, depth: int) -> None:
        self.depth = depth

    def __repr__(self) -> str:
        return repr(Russian(self.depth - 1)) if self.depth else ""


RECURSIONS: dict[str, Callable[[int], object]] = {
    "calls": count_down,
    "repr": lambda depth: repr(nest(depth)),
    "repr of objects": lambda depth: repr(Russian(depth)),
    "pickle": lambda depth: pickle.dumps(nest(depth)),
    "comparison": lambda depth: nest(depth) == nest(depth),
}


def bears(recurse: Callable[[int], object], depth: int) -> bool:
    try:
        recurse(depth)
    except RecursionError:
        return False
    return True


def deepest(how: str) -> int:
    """The depth beyond which it raises RecursionError; a crash is the end of the worker."""
    least, most = 0, DEEPEST
    while least < most:
        middle = (least + most + 1) // 2
        if bears(RECURSIONS[how], middle):
            least = middle
        else:
            most = middle - 1
    return least


def in_workers(library: str, start_method: str) -> list[tuple[int, ...]]:
    """How deep each recursion may be in a first worker, and in those that replace it."""
    context = multiprocessing.get_context(start_method)
    with LIBRARIES[library](1, maxtasksperchild=1, context=context) as pool:
        found = [tuple(pool.map(deepest, RECURSIONS, chunksize=100)) for _ in range(2)]
        pool.close()
        pool.join()
    return found


def test_tasks_may_recurse_as_deep_as_in_the_standard_librarys_workers(start_method: str) -> None:
    ours, theirs = in_workers("millpond", start_method), in_workers("multiprocessing", start_method)
    for our_depths, their_depths in zip(ours, theirs, strict=True):
        for our_depth, their_depth in zip(our_depths, their_depths, strict=True):
            assert abs(our_depth - their_depth) <= OWN_FRAMES, (ours, theirs)


def repr_len(nested: Any) -> int:
    sys.setrecursionlimit(10 * DEEP)
    return len(repr(nested))


def repr_len_there(depth: int) -> int:
    return repr_len(nest(depth))


def nest_there(depth: int) -> Any:
    sys.setrecursionlimit(10 * DEEP)
    return nest(depth)


def depth_of(nested: Any) -> int:
    """Found without recursion."""
    depth = 0
    while nested:
        [nested] = nested
        depth += 1
    return depth


def test_a_replacements_stack_is_as_large_as_a_first_workers() -> None:
    """Each task has a worker of its own; one without the stack for it would crash."""
    with running(1, maxtasksperchild=1) as pool:
        for _ in range(2):
            assert pool.apply(repr_len_there, (DEEP,)) == 2 * DEEP + 2
            assert depth_of(pool.apply(nest_there, (DEEP,))) == DEEP


def test_a_deep_argument_arrives_whoever_pickles_it() -> None:
    """The caller at once, or later the keeper."""
    old = sys.getrecursionlimit()
    sys.setrecursionlimit(10 * DEEP)
    try:
        with running(1) as pool:
            results = [pool.apply_async(repr_len, (nest(DEEP),)) for _ in range(4)]
            assert [result.get() for result in results] == [2 * DEEP + 2] * 4
    finally:
        sys.setrecursionlimit(old)


def test_a_result_that_is_too_deep_is_an_error_of_its_task() -> None:
    """The standard library's worker dies of the error's text, which is too deep as well, and hangs."""
    with running(1, maxtasksperchild=1) as pool:
        for _ in range(2):
            with pytest.raises(multiprocessing.pool.MaybeEncodingError) as raised:
                pool.apply(nest, (10 * sys.getrecursionlimit(),))
            assert "maximum recursion depth exceeded" in raised.value.exc
        assert pool.stats()["worker_deaths"] == 0
