"""How often a pool pickles and unpickles the list: counted, never assumed.

`multiprocessing.Pool` keeps no such count, so a second, untimed pass runs it with the pickler's
`dumps` (in the parent) and `loads` (in the workers) wrapped. A pickle holds the list if the bytes
that the list's beginning is pickled to occur in it. `millpond.Pool` counts by itself, at no cost,
so its counts are those of the timed pass.
"""

from __future__ import annotations

import multiprocessing.pool
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import BaseContext
from multiprocessing.reduction import ForkingPickler
from typing import Any, Protocol, cast

SIGNATURE_ELEMENTS = 256
"""So many elements tell the list from anything else; their pickle has no frame boundary in it."""


@dataclass(frozen=True)
class Counts:
    """What one run's `imap` loop cost in pickling; its start and warm-up are left out."""

    bytes_pickled: int
    """All that the parent pickled, in bytes."""
    list_pickled: int
    list_unpickled: int
    """By all workers together."""
    list_verified: int | None = None
    """How often the parent proved it unchanged, so did not pickle it again; None: it cannot."""


class HasStats(Protocol):
    """A pool that counts by itself, as `millpond.stats.Stats` describes."""

    def stats(self) -> Mapping[str, int]: ...


def counts_of(pool: multiprocessing.pool.Pool) -> Counts:
    """What a `millpond.Pool` has counted since it started."""
    stats = cast(HasStats, pool).stats()
    return Counts(
        stats["bytes_pickled"],
        stats["heavy_parts_pickled"],
        stats["heavy_parts_loaded"],
        stats["heavy_parts_verified"],
    )


def difference(after: Counts, before: Counts) -> Counts:
    """What was counted in between."""
    verified = None
    if after.list_verified is not None and before.list_verified is not None:
        verified = after.list_verified - before.list_verified
    return Counts(
        after.bytes_pickled - before.bytes_pickled,
        after.list_pickled - before.list_pickled,
        after.list_unpickled - before.list_unpickled,
        verified,
    )


def signature(elements: int) -> bytes:
    """Return the bytes that tell the pickle of `list(range(elements))`, within any other."""
    data = pickle.dumps(list(range(min(elements, SIGNATURE_ELEMENTS))))
    return data[data.index(b"]\x94") : -2]  # from EMPTY_LIST, MEMOIZE; without the closing opcodes


class StdlibCounter:
    """Counts for one `multiprocessing.Pool`: made before it, given to it as its initializer."""

    def __init__(self, context: BaseContext, elements: int) -> None:
        self._signature = signature(elements)
        self._loaded = context.Value("q", 0)
        self._pickled_bytes = 0
        self._pickled_lists = 0

    @property
    def pool_options(self) -> dict[str, Any]:
        """What the pool must be started with."""
        return {"initializer": count_loads, "initargs": (self._loaded, self._signature)}

    def counts(self) -> Counts:
        """What was counted so far."""
        return Counts(self._pickled_bytes, self._pickled_lists, self._loaded.value)

    @contextmanager
    def pickling(self) -> Iterator[None]:
        """Within the block, what this process pickles for its workers is counted."""
        original = ForkingPickler.__dict__["dumps"]  # the class method itself, not bound
        dumps = ForkingPickler.dumps

        def counted(obj: Any, protocol: int | None = None) -> memoryview:
            data = dumps(obj, protocol)
            self._pickled_bytes += len(data)
            self._pickled_lists += self._signature in bytes(data)
            return data

        setattr(ForkingPickler, "dumps", staticmethod(counted))  # noqa: B010
        try:
            yield
        finally:
            setattr(ForkingPickler, "dumps", original)  # noqa: B010


def count_loads(loaded: Any, signature: bytes) -> None:
    """The initializer of a worker: wraps `loads` so that each that brings the list adds one."""
    loads = ForkingPickler.loads

    def counted(data: Any, /, **options: Any) -> Any:
        if signature in bytes(data):
            with loaded.get_lock():
                loaded.value += 1
        return loads(data, **options)

    setattr(ForkingPickler, "loads", staticmethod(counted))  # noqa: B010
