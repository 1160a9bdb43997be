"""A gate before which tasks wait until the parent lets them through, one by one: it makes timing a
fact."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

_ends: tuple[int, int] | None = None


@contextmanager
def gate() -> Iterator[None]:
    """Workers forked within the block know the gate; a task passes it by `pass_gate`."""
    global _ends
    _ends = os.pipe()
    try:
        yield
    finally:
        for end in _ends:
            os.close(end)
        _ends = None


def let_through(tasks: int = 1) -> None:
    assert _ends is not None
    os.write(_ends[1], b"." * tasks)


def pass_gate() -> None:
    assert _ends is not None
    assert os.read(_ends[0], 1) == b"."
