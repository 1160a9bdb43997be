"""Every way to have a callable run over items, so that no promise is tested in one alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from testkit.oracle import Pool, blank

Callee = Callable[..., Any]
Runner = Callable[[Pool, Callee, Sequence[Any]], list[Any]]


def _singles(items: Iterable[Any]) -> list[tuple[Any]]:
    return [(item,) for item in items]


RUNNERS: dict[str, Runner] = {
    "apply": lambda pool, f, xs: [pool.apply(f, (x,)) for x in xs],
    "apply_async": lambda pool, f, xs: [
        result.get() for result in [pool.apply_async(f, (x,)) for x in xs]
    ],
    "map 1": lambda pool, f, xs: pool.map(f, xs, 1),
    "map 2": lambda pool, f, xs: pool.map(f, xs, 2),
    "map 4": lambda pool, f, xs: pool.map(f, xs, 4),
    "map default": lambda pool, f, xs: pool.map(f, xs),
    "map_async 3": lambda pool, f, xs: pool.map_async(f, xs, 3).get(),
    "imap 1": lambda pool, f, xs: list(pool.imap(f, xs)),
    "imap 2": lambda pool, f, xs: list(pool.imap(f, xs, 2)),
    "imap_unordered 1": lambda pool, f, xs: list(pool.imap_unordered(f, xs)),
    "imap_unordered 3": lambda pool, f, xs: list(pool.imap_unordered(f, xs, 3)),
    "starmap 1": lambda pool, f, xs: pool.starmap(f, _singles(xs), 1),
    "starmap 2": lambda pool, f, xs: pool.starmap(f, _singles(xs), 2),
    "starmap_async 4": lambda pool, f, xs: pool.starmap_async(f, _singles(xs), 4).get(),
}
"""`imap_unordered` is in order on one worker only."""

FRESH_EACH_ITEM = ["apply", "apply_async", "map 1", "imap 1", "imap_unordered 1", "starmap 1"]
"""One item is one task."""


def by_every_call(
    pool: Pool, callee: Callee, items: Sequence[Any], names: Iterable[str] = RUNNERS
) -> dict[str, list[Any]]:
    """The answers of each runner, one after the other on this pool."""
    return {name: RUNNERS[name](pool, callee, items) for name in names}


def told(error: BaseException) -> tuple[object, ...]:
    """An error as a value that can be compared."""
    return ("raised", type(error).__name__, blank(error.args), type(error.__cause__).__name__)


def attempt(call: Callable[[], object]) -> object:
    """The answer, or the error as a value."""
    try:
        return call()
    except Exception as error:
        return told(error)


def drain(iterator: Iterator[object]) -> list[object]:
    """All that `next` gives until the end: an item that raised does not end an `imap`."""
    found: list[object] = []
    while True:
        try:
            found.append(next(iterator))
        except StopIteration:
            return found
        except Exception as error:
            found.append(told(error))
