"""Programs put together by Hypothesis: structures, callables, and what parent and worker do to
them.

A case is a plain description. It is built anew for each pool, with the same aliasing, and every
answer is a portrait: types, values, and which places hold one object.
"""

from __future__ import annotations

import array
import datetime
import enum
import sys
import threading
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any

import numpy as np
from hypothesis import strategies as st
from testkit.oracle import Pool

from exactness.calls import attempt, told
from exactness.material import Holder, Opaque, passed_on
from exactness.portrait import ATOMS, clip, portrait

SMALL, LARGE = 3, 3000
"""Elements in bulk: below and above any threshold at which a part is heavy."""

# --- structures ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Atom:
    value: Any


@dataclass(frozen=True)
class LongText:
    """A text that is heavy by itself."""

    length: int


@dataclass(frozen=True)
class Bulk:
    """Many atoms in a list or tuple."""

    kind: str
    length: int
    within: str


@dataclass(frozen=True)
class Group:
    """A container of others."""

    within: str
    parts: tuple[Any, ...]


@dataclass(frozen=True)
class Again:
    """The very object that was built at that place before, counted from the last."""

    back: int


BULKS: dict[str, Callable[[int], list[Any]]] = {
    "ints": lambda n: list(range(500, 500 + n)),
    "small ints": lambda n: [i % 50 for i in range(n)],
    "big ints": lambda n: [10**18 + i for i in range(n)],
    "floats": lambda n: [i / 7 for i in range(n)],
    "words": lambda n: [f"word {i}" for i in range(n)],
    "bytes": lambda n: [b"%05d" % i for i in range(n)],
    "bools": lambda n: [i % 3 == 0 for i in range(n)],
    "nones": lambda n: [None] * n,
    "one word": lambda n: ["often"] * n,
    "few words": lambda n: [f"word {i}" for i in range(3)] * (n // 3),
    "mixed": lambda n: [(i, i / 2, f"{i}", b"%d" % i, None, i % 2 == 0)[i % 6] for i in range(n)],
    "one list inside": lambda n: [*range(n - 1), [1]],
    "lists": lambda n: [[i] for i in range(n)],
    "tuples": lambda n: [(i, f"{i}") for i in range(n)],
    "dicts": lambda n: [{"key": i, i: f"{i}"} for i in range(n)],
    "sets": lambda n: [{i, -1 - i} for i in range(n)],
    "byte arrays": lambda n: [bytearray(b"%d" % i) for i in range(n)],
    "instances": lambda n: [Holder(work, [i]) for i in range(n)],
    "points": lambda n: [Point(i, [f"{i}"]) for i in range(n)],
    "frozen points": lambda n: [FrozenPoint(i, (i,)) for i in range(n)],
    "one opaque inside": lambda n: [*([i] for i in range(n - 1)), Opaque([1])],
    "dates": lambda n: [[datetime.date.fromordinal(i + 1), Decimal(i)] for i in range(n)],
    "members": lambda n: [[i, (Color.RED, Color.BLUE)[i % 2]] for i in range(n)],
    "deques": lambda n: [deque([i, [i]], 5) for i in range(n)],
    "ordered dicts": lambda n: [OrderedDict([("a", i), (i, [i])]) for i in range(n)],
    "default dicts": lambda n: [defaultdict(list, {i: [i]}) for i in range(n)],
    "typed arrays": lambda n: [array.array("d", [i] * 9) for i in range(n)],
    "partials": lambda n: [partial(work, [i], d=i) for i in range(n)],
    "times": lambda n: [[datetime.datetime.fromtimestamp(i, OFFSET), i] for i in range(n)],
    "numpy arrays": lambda n: [np.arange(float(n * 20)) + i for i in range(4)],
    "views of an array": lambda n: _views(n * 20),
    "one array twice": lambda n: [np.arange(n * 20)] * 2,
    "deep": lambda n: _deep(n),
    "shared lists": lambda n: _shared(n),
}


OFFSET = datetime.timezone(datetime.timedelta(hours=2))


class Color(enum.Enum):
    RED = "red"
    BLUE = 2


@dataclass
class Point:
    """A plain dataclass."""

    x: int
    y: Any


@dataclass(frozen=True, slots=True)
class FrozenPoint:
    """One that restores itself."""

    x: int
    y: Any


def _deep(count: int) -> list[Any]:
    """Lists in lists, not deeper than pickling goes."""
    flat: list[Any] = []
    for at in range(0, count, 50):
        inner: list[Any] = [at]
        for _ in range(49):
            inner = [inner]
        flat.append(inner)
    return flat


def _views(count: int) -> list[Any]:
    array = np.arange(float(count))
    return [array, array[:], array[1:], array.reshape(-1, 2).T]


def _shared(count: int) -> list[Any]:
    inner: list[Any] = ["shared"]
    return [inner if at % 3 else [at, inner] for at in range(count)]


atoms = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.sampled_from(["a longer text " * 3, b"longer bytes " * 3, 10**30]),
)
bulks = st.builds(
    Bulk,
    st.sampled_from(sorted(BULKS)),
    st.sampled_from([SMALL, LARGE]),
    st.sampled_from(["list", "tuple"]),
)
leaves = st.one_of(
    st.builds(Atom, atoms),
    bulks,
    st.builds(LongText, st.sampled_from([70_000, 140_000])),
    st.builds(Again, st.integers(0, 6)),
)
structures = st.recursive(
    leaves,
    lambda parts: st.builds(
        Group,
        st.sampled_from(["list", "tuple", "dict", "opaque", "holder"]),
        st.lists(parts, min_size=1, max_size=3).map(tuple),
    ),
    max_leaves=5,
)
containers = st.one_of(
    bulks,
    st.builds(Group, st.just("list"), st.lists(structures, min_size=1, max_size=3).map(tuple)),
)


class Builder:
    """Builds structures; what it built stays known, elements of bulks included, to be built in
    again."""

    def __init__(self) -> None:
        self.built: list[Any] = []

    def __call__(self, spec: Any) -> Any:
        if isinstance(spec, Again):
            return self.built[-1 - spec.back % len(self.built)] if self.built else None
        if isinstance(spec, Atom):
            made = spec.value
        elif isinstance(spec, LongText):
            made = "x" * spec.length
        elif isinstance(spec, Bulk):
            parts = BULKS[spec.kind](spec.length)
            self.built.append(parts[-1])
            made = parts if spec.within == "list" else tuple(parts)
        else:
            made = self._group(spec.within, [self(part) for part in spec.parts])
        self.built.append(made)
        return made

    @staticmethod
    def _group(within: str, parts: list[Any]) -> Any:
        match within:
            case "list":
                return parts
            case "tuple":
                return tuple(parts)
            case "dict":
                return {f"key {i}": part for i, part in enumerate(parts)}
            case "opaque":
                return Opaque(parts)
        return Holder(work, parts)


def lists_in(root: Any) -> list[list[Any]]:
    """Every list within, in the order of a walk, so that a number names the same one everywhere."""
    found: list[list[Any]] = []
    seen: set[int] = set()
    todo = [root]
    while todo:
        node = todo.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, list):
            found.append(node)
        if isinstance(node, list | tuple):
            # Of bulks the ends are enough.
            todo += [part for part in (*node[:4], *node[-2:]) if not isinstance(part, str | bytes)]
        elif isinstance(node, dict):
            todo += node.values()
        elif isinstance(node, Opaque | Holder):
            todo += vars(node).values()
    return found


# --- what is done to them -----------------------------------------------------------------------


def _self_in(d: list[Any]) -> None:
    d.append(d)


def _rank(part: Any) -> tuple[str, str]:
    """Containers by type only: their texts may be exponentially long."""
    return type(part).__name__, repr(part) if isinstance(part, tuple(ATOMS)) else ""


def _append_then_pop(d: list[Any]) -> None:
    d.append(0)
    d.pop()


def _extend_then_truncate(d: list[Any]) -> None:
    length = len(d)
    d.extend([0] * length)
    del d[length:]


def _equal_of_another_type(d: list[Any]) -> None:
    d[0] = float(d[0]) if type(d[0]) is int and abs(d[0]) < 2**50 else [d[0]]


ACTIONS: dict[str, Callable[[list[Any]], object]] = {
    "nothing": lambda d: None,
    "append": lambda d: d.append("added"),
    "set the first": lambda d: d.__setitem__(0, "changed") if d else None,
    "set the last": lambda d: d.__setitem__(-1, None) if d else None,
    "delete": lambda d: d.__delitem__(slice(0, 1)),
    "clear": lambda d: d.clear(),
    "reverse": lambda d: d.reverse(),
    "sort": lambda d: d.sort(key=_rank, reverse=True),
    "append then pop": _append_then_pop,
    "extend then truncate": _extend_then_truncate,
    "itself in it": _self_in,
    "equal of another type": lambda d: _equal_of_another_type(d) if d else None,
    "copy of an atom": lambda d: (
        d.__setitem__(0, "".join(list(d[0]))) if d and type(d[0]) is str else None
    ),
    "write into arrays": lambda d: [
        part.__setitem__(0, 9) for part in d if isinstance(part, np.ndarray)
    ],
    "write through a base": lambda d: [
        part.data.cast("B").__setitem__(8, 1)
        for part in d
        if isinstance(part, np.ndarray) and part.flags.c_contiguous and part.ndim == 1
    ],
    "same length, other content": lambda d: d.__setitem__(slice(None), [7] * len(d)),
}
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
CALLS = [
    "apply",
    "apply_async",
    "apply by name",
    "plain apply",
    "map",
    "map_async",
    "imap",
    "imap_unordered",
    "starmap",
]


@dataclass(frozen=True)
class Case:
    """One program."""

    callable: str
    call: str
    chunksize: int
    first: Any
    second: Any
    items: tuple[Any, ...]
    doing: Doing
    parent_action: str
    parent_where: int
    rounds: int


cases = st.builds(
    Case,
    callable=st.sampled_from(sorted(CALLABLES)),
    call=st.sampled_from(CALLS),
    chunksize=st.integers(1, 3),
    first=containers,
    second=structures,
    items=st.lists(structures, min_size=1, max_size=4).map(tuple),
    doing=st.builds(
        Doing,
        action=st.sampled_from(sorted(ACTIONS)),
        where=st.integers(0, 5),
        retention=st.sampled_from(RETENTIONS),
        result=st.sampled_from(RESULTS),
    ),
    parent_action=st.sampled_from(sorted(ACTIONS)),
    parent_where=st.integers(0, 5),
    rounds=st.integers(1, 2),
)


def run_case(pool: Pool, case: Case) -> list[str]:
    """All that the program sees, as portraits."""
    pool.apply(forget)
    build = Builder()
    first, second = build(case.first), build(case.second)
    items = tuple(build(item) for item in case.items)
    callee = CALLABLES[case.callable](case.doing, first, second)

    def change() -> None:
        lists = lists_in([first, second, items])
        attempt(lambda: ACTIONS[case.parent_action](lists[case.parent_where % len(lists)]))

    def changing(drawn: threading.Event) -> Iterator[Any]:
        for item in items:
            change()
            yield item
        drawn.set()

    seen = []
    for _ in range(case.rounds):
        drawn = threading.Event()
        try:
            answers = _call(pool, case, callee, first, second, items, change, changing(drawn))
        except Exception as error:
            answers = [told(error)]
        if case.call.startswith("imap"):
            # After an error the rest is drawn all the same, by another thread.
            assert drawn.wait(30), "the iterable was not drawn to its end"
            pool.apply(nothing)
        seen.append(clip(portrait(answers)))
        seen += [clip(portrait(answer, atoms=True)) for answer in answers if case.chunksize == 1]
        change()
    return [*seen, clip(portrait([first, second, items], atoms=True))]


def _call(
    pool: Pool,
    case: Case,
    callee: Callable[[Any], Any],
    first: Any,
    second: Any,
    items: tuple[Any, ...],
    change: Callable[[], None],
    changing: Iterator[Any],
) -> list[Any]:
    answers = []
    match case.call:
        case "apply" | "apply by name" | "plain apply":
            for item in items:
                if case.call == "apply":
                    answers.append(attempt(partial(pool.apply, callee, (item,))))
                elif case.call == "apply by name":
                    answers.append(attempt(partial(pool.apply, callee, (), {"x": item})))
                else:
                    kwds = {"doing": case.doing, "first": first, "second": second}
                    answers.append(attempt(partial(pool.apply, named, (item,), kwds)))
                change()
        case "apply_async":
            answers = [attempt(pool.apply_async(callee, (item,)).get) for item in changing]
        case "map":
            answers = pool.map(callee, items, case.chunksize)
        case "map_async":
            answers = pool.map_async(callee, changing, case.chunksize).get()
        case "starmap":
            answers = pool.starmap(callee, [(item,) for item in items], case.chunksize)
        case "imap":
            answers = list(pool.imap(callee, changing, case.chunksize))
        case "imap_unordered":
            answers = list(pool.imap_unordered(callee, changing, case.chunksize))
    return answers
