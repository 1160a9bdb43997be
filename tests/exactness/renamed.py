"""A module whose names a task rebinds, in its worker only; nothing else uses it."""

from __future__ import annotations

from typing import Any


class Thing:
    origin = "first"

    def __init__(self, value: Any = None) -> None:
        self.value = value


def target(x: Any, d: Any = None) -> Any:
    return "first", x, None if d is None else len(d)


def replacement(x: Any, d: Any = None) -> Any:
    return "second", x, None if d is None else len(d)
