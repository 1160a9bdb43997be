"""Objects of every kind that a proof knows, and helpers of the tests of proofs."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from millpond import _native

Proof = _native.Proof


class Plain:
    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


class Child(Plain):
    def method(self) -> int:
        return 1


class Slots:
    __slots__ = ("_private", "x", "y")

    def __init__(self, x: Any, y: Any) -> None:
        self.x = x
        self.y = y


class Both(Slots):
    pass


@dataclasses.dataclass
class Point:
    x: Any
    y: Any


@dataclasses.dataclass(frozen=True)
class Frozen:
    x: Any
    y: Any


@dataclasses.dataclass(frozen=True, slots=True)
class FrozenSlots:
    x: Any
    y: Any


class MyList(list[Any]):
    pass


class MyTuple(tuple[Any, ...]):
    pass


class MyDict(dict[Any, Any]):
    __slots__ = ("x",)


class MySet(set[Any]):
    pass


class MyText(str):
    pass


class Pair(NamedTuple):
    a: Any
    b: Any


def function(*_: Any, **__: Any) -> None:
    pass


class Color(enum.Enum):
    RED = "red"
    BLUE = 2

    def __init__(self, value: Any) -> None:
        self.note = [value]


class Number(enum.IntEnum):
    ONE = 1
    TWO = 2


class Bits(enum.Flag):
    A = 1
    B = 2


class Unhashed(enum.Enum):
    LISTED = [1]


class Reduced(enum.Enum):
    A = 1

    def __reduce_ex__(self, protocol: Any) -> Any:
        return (getattr, (Reduced, self.name))


def offset(hours: int) -> datetime.timezone:
    return datetime.timezone(datetime.timedelta(hours=hours))


sides = pytest.mark.parametrize("is_worker", [False, True], ids=["parent", "worker"])


def assert_holds(proof: Proof, holder: list[Any]) -> None:
    if not proof.holds(holder):
        pytest.fail("it should hold")


def assert_changed(proof: Proof, holder: list[Any]) -> None:
    if proof.holds(holder):
        pytest.fail("the change should be noticed")


def assert_noticed(
    change: tuple[Callable[[], Any], Callable[[Any], object]], is_worker: bool
) -> None:
    """A graph is proved, holds, is changed, and no longer does."""
    make, apply = change
    root = loaded(make)
    proof = Proof.take(root, is_worker)
    assert_holds(proof, root)
    apply(root[0])
    assert_changed(proof, root)


def loaded(make: Callable[[], Any]) -> list[Any]:
    """A list whose item is as a worker has it: nothing else refers to it, and nothing of it is shared
    with the program."""
    return [pickle.loads(pickle.dumps(make()))]
