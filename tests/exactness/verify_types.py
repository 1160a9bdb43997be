"""Classes and tasks of the verify programs; a task may rebind the names here, in its worker."""

from __future__ import annotations

import gc
import sys
import weakref
from collections import OrderedDict, defaultdict, deque
from typing import Any, Self

kept: list[Any] = []
counts = {"del": 0, "new": 0, "hash": 0, "eq": 0, "setstate": 0, "getattribute": 0, "setattr": 0}


class Plain:
    def __init__(self, value: Any = 0) -> None:
        self.value = value


class Other(Plain):
    pass


class WithDel(Plain):
    def __del__(self) -> None:
        counts["del"] += 1


class WithNew:
    def __new__(cls) -> Self:
        counts["new"] += 1
        return super().__new__(cls)


class WithHash:
    def __hash__(self) -> int:
        counts["hash"] += 1
        return 7

    def __eq__(self, other: object) -> bool:
        counts["eq"] += 1
        return self is other


class WithSetState(Plain):
    def __setstate__(self, state: dict[str, Any]) -> None:
        counts["setstate"] += 1
        self.__dict__.update(state)


class WithSetAttr:
    __slots__ = ("value",)

    def __setattr__(self, name: str, value: Any) -> None:
        counts["setattr"] += 1
        super().__setattr__(name, value)


class Slotted:
    __slots__ = ("__weakref__", "part")

    def __init__(self, part: Any = None) -> None:
        self.part = part


class SubList(list[Any]):
    tag = None


class SubDict(dict[str, Any]):
    tag = None


def reset(x: object) -> None:
    kept.clear()
    counts.update(dict.fromkeys(counts, 0))


def told_counts(x: object, d: list[Any]) -> dict[str, int]:
    return dict(counts)


def weak_reference(x: object, d: list[Any]) -> list[str]:
    told = ["dead" if reference() is None else "alive" for reference in kept]
    kept.append(weakref.ref(d[0]))
    return told


def weak_callback(x: object, d: list[Any]) -> list[int]:
    told = [part for part in kept if isinstance(part, int)]
    kept.append(weakref.ref(d[0], lambda _: kept.append(x)))
    return told


def set_order(x: Any, d: list[Any]) -> list[Any]:
    told = list(d[0])
    for i in range(1000, 1400):
        d[0].add(i)
    for i in range(1000, 1400):
        d[0].discard(i)
    return told


def dict_order(x: Any, d: list[Any]) -> Any:
    told = list(d[0]), sys.getsizeof(d[0])
    d[0][next(iter(d[0]))] = d[0].pop(next(iter(d[0])))
    for i in range(100):
        d[0][f"extra {i}"] = i
    for i in range(100):
        del d[0][f"extra {i}"]
    return told


def append_then_pop(x: Any, d: list[Any]) -> int:
    told = sys.getsizeof(d)
    d.append(0)
    d.pop()
    return told


def rebind_class(x: int, d: list[Any]) -> tuple[bool, str]:
    told = type(d[0]) is Plain, type(d[0]).__name__
    globals()["Plain"] = type(
        "Plain", (), {"__module__": __name__, "__qualname__": "Plain", "round": x}
    )
    return told


def keep_text(x: Any, d: list[Any]) -> bool:
    told = any(part is d[0] for part in kept)
    kept.append(d[0])
    return told


def keep_tuple(x: Any, d: list[Any]) -> int:
    told = len(d[0][0])
    for part in kept:
        part[0].append(x)
    kept.append(d[0])
    return told


def keep_frozenset(x: Any, d: list[Any]) -> int:
    (inner,) = d[0]
    told = len(inner.part)
    for part in kept:
        next(iter(part)).part.append(x)
    kept.append(d[0])
    return told


def change_class(x: Any, d: list[Any]) -> str:
    told = type(d[0]).__name__
    d[0].__class__ = Other
    return told


def move_to_end(x: Any, d: list[Any]) -> Any:
    told = next(iter(d[0]))
    d[0].move_to_end(told)
    return told, list(d[0].items())[:3]


def default_factory(x: Any, d: list[Any]) -> Any:
    told = d[0].default_factory, d[0]["missing"]
    d[0].default_factory = int
    return told


def rotate(x: Any, d: list[Any]) -> Any:
    told = list(d[0]), d[0].maxlen
    d[0].rotate(1)
    d[0].append(x)
    return told


def keep_vars(x: Any, d: list[Any]) -> Any:
    for part in kept:
        part["value"] = 99
    kept.append(vars(d[0]))
    return d[0].value


def keep_method(x: Any, d: list[Any]) -> Any:
    for part in kept:
        part("added")
    kept.append(d[0].value.append)
    return list(d[0].value)


def attribute_of_subclass(x: int, d: list[Any]) -> Any:
    told = d[0].tag, list(d[0]), vars(d[0])
    d[0].tag = x
    d[0].extra = [x]
    return told[0], told[1], sorted(told[2])


def slot_changed(x: int, d: list[Any]) -> Any:
    told = d[0].part
    d[0].part = x
    return told


def slot_deleted(x: int, d: list[Any]) -> Any:
    told = hasattr(d[0], "part")
    if told:
        del d[0].part
    return told


def attribute_deleted(x: int, d: list[Any]) -> Any:
    told = sorted(vars(d[0]))
    vars(d[0]).pop("value", None)
    d[0].other = x
    return told


def dict_replaced(x: int, d: list[Any]) -> Any:
    told = vars(d[0])
    d[0].__dict__ = {"value": x, "round": x}
    return sorted(told.items())


def cycle(x: int, d: list[Any]) -> Any:
    gc.collect()
    told = sum(reference() is not None for reference in kept)
    d[0].value = d[0]
    kept.append(weakref.ref(d[0]))
    return told, type(d[0]).__name__


def class_attribute(x: int, d: list[Any]) -> Any:
    """A class travels by name: what a task does to it stays, whoever its instances are."""
    told = getattr(type(d[0]), "mark", None)
    type(d[0]).mark = x
    return told


def two_references(x: Any, d: list[Any]) -> Any:
    told = d[0][0] is d[0][1]
    d[0][1] = list(d[0][1])
    return told


def make_ordered() -> OrderedDict[str, int]:
    return OrderedDict([("a", 0), ("b", 1), ("c", 2)])


def make_default() -> defaultdict[str, list[int]]:
    return defaultdict(list, {"a": [1]})


def make_deque() -> deque[int]:
    return deque(range(5), maxlen=5)


def make_frozenset() -> frozenset[Slotted]:
    return frozenset([Slotted([0])])


def make_shared() -> list[list[int]]:
    shared = [1]
    return [shared, shared]
