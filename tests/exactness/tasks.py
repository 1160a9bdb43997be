"""What workers of composed programs do: they see, change, keep and give."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from exactness.actions import ACTIONS, lists_in
from exactness.calls import attempt
from exactness.material import Holder, passed_on
from exactness.portrait import clip, portrait

RETENTIONS = [
    "nothing",
    "keep",
    "keep in a tuple",
    "keep a method",
    "change what was kept",
    "give what was kept",
]
RESULTS = ["nothing", "item", "bound", "list", "list twice", "everything", "error"]

kept: list[Any] = []
"""A worker's own."""


@dataclass(frozen=True)
class Doing:
    """What a task does."""

    action: str
    where: int
    retention: str
    result: str


def nothing() -> None:
    """What comes after all tasks before it."""


def forget() -> None:
    kept.clear()


def work(x: Any, d: Any) -> Any:
    """The task: `d` is `(doing, bound)`; it answers what it saw, did, and was told to give."""
    doing, bound = d
    everything = [bound, x]
    saw = clip(portrait(everything, atoms=True))
    lists = lists_in(everything)
    one = lists[doing.where % len(lists)] if lists else []
    saw += f" sizes {[sys.getsizeof(part) for part in lists[:6]]}"
    earlier = f"{[clip(portrait(part)) for part in kept]}, shared {[part is one for part in kept]}"
    attempt(lambda: ACTIONS[doing.action](one))
    given: Any = None
    match doing.retention:
        case "keep":
            kept.append(one)
        case "keep in a tuple":
            kept.append((one, bound))
        case "keep a method":
            kept.append(one.append)
        case "change what was kept":
            for part in kept:
                for inner in lists_in(getattr(part, "__self__", part)):
                    inner.append("changed later")
            kept.append(one)
        case "give what was kept":
            given = kept[-1] if kept else None
            kept.append(bound)
    del kept[:-2]
    match doing.result:
        case "item":
            given = x, given
        case "bound":
            given = bound, given
        case "list":
            given = one
        case "list twice":
            given = [one, one, one[:]]
        case "everything":
            given = everything
        case "error":
            raise ValueError(saw, earlier)
    return saw, earlier, given


def spread(first: Any, second: Any, x: Any, *, doing: Doing) -> Any:
    """The task with its bound parts by position."""
    return work(x, (doing, [first, second]))


def named(x: Any, *, doing: Doing, first: Any, second: Any) -> Any:
    """The task with its bound parts by name."""
    return work(x, (doing, [first, second]))


CALLABLES: dict[str, Callable[[Doing, Any, Any], Callable[[Any], Any]]] = {
    "partial by name": lambda doing, a, b: partial(named, doing=doing, first=a, second=b),
    "partial by position": lambda doing, a, b: partial(spread, a, b, doing=doing),
    "partial of partial": lambda doing, a, b: partial(partial(spread, a, doing=doing), b),
    "nested partial": lambda doing, a, b: partial(
        passed_on, partial(named, doing=doing, first=a, second=b)
    ),
    "method": lambda doing, a, b: Holder(work, (doing, [a, b])).run,
    "instance": lambda doing, a, b: Holder(work, (doing, [a, b])),
    "partial of a method": lambda doing, a, b: partial(
        passed_on, Holder(work, (doing, (a, b))).run
    ),
}
