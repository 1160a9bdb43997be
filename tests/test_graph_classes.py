"""Proofs of object graphs: what is opaque, and classes that change."""

from __future__ import annotations

import collections
import copyreg
import datetime
import decimal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from exactness import graph_material
from exactness.graph_material import (
    Child,
    Color,
    Plain,
    Proof,
    Reduced,
    Unhashed,
    assert_changed,
    assert_holds,
    function,
    loaded,
    sides,
)


class WithDel:
    def __del__(self) -> None:
        pass


class WithNew:
    def __new__(cls) -> WithNew:
        return object.__new__(cls)


class WithReduce:
    def __reduce__(self) -> Any:
        return (WithReduce, ())


class WithState:
    def __getstate__(self) -> Any:
        return {}


class WithSetState:
    def __setstate__(self, state: Any) -> None:
        pass


class WithGetattr:
    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


class WithNewArgs:
    def __getnewargs__(self) -> tuple[Any, ...]:
        return ()


class WithClass:
    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # type: ignore[override]
        return int


class Meta(type):
    pass


class WithMeta(metaclass=Meta):
    pass


class SetattrSlots:
    __slots__ = ("x",)

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)


class Inherits(WithReduce):
    pass


class Appends(list[Any]):
    def append(self, item: Any) -> None:
        super().append([item])


class Iterates(list[Any]):
    def __iter__(self) -> Any:
        return iter(())


class Sets(dict[Any, Any]):
    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, [value])


class Counts(collections.Counter[Any]):
    pass


class Ordered(collections.OrderedDict[Any, Any]):
    pass


def hiding_items() -> Any:
    made = Attributed(a=1)
    made.items = {"b": 2}.items  # type: ignore[method-assign]
    return made


class Attributed(dict[Any, Any]):
    """It has a dict of its own."""


class MyDecimal(decimal.Decimal):
    pass


class MyDeque(collections.deque[Any]):
    pass


class Zone(datetime.tzinfo):
    def utcoffset(self, _: Any) -> Any:
        return None

    def dst(self, _: Any) -> Any:
        return None

    def tzname(self, _: Any) -> Any:
        return None


class Hashed:
    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        return self is other


OPAQUE: dict[str, Callable[[], Any]] = {
    "del": WithDel,
    "new": WithNew,
    "reduce": WithReduce,
    "getstate": WithState,
    "setstate": WithSetState,
    "getattr": WithGetattr,
    "getnewargs": WithNewArgs,
    "class": WithClass,
    "metaclass": WithMeta,
    "setattr with slots": SetattrSlots,
    "inherited": Inherits,
    "a list that appends in its own way": lambda: Appends([1]),
    "a list that iterates in its own way": lambda: Iterates([1]),
    "a dict that sets in its own way": lambda: Sets(a=1),
    "a dict with an attribute in its method's place": hiding_items,
    "a counter's subclass": lambda: Counts("a"),
    "an ordered dict's subclass": lambda: Ordered(a=1),
    "a key with its own hash": lambda: {Hashed(): 1},
    "a member with its own hash": lambda: {Hashed()},
    "an instance with its own reduce": lambda: Plain(__reduce_ex__=1),
    "a subclass of an atom": lambda: MyDecimal("1.5"),
    "a lock": threading.Lock,
    "a generator": lambda: (x for x in "ab"),
    "an exception": lambda: ValueError(1),
    "a module": lambda: sys,
    "a local function": lambda: lambda: 1,
    "a subclass of a deque": lambda: MyDeque([1]),
    "a key that is a member": lambda: {Color.RED: 1},
    "a member of a value with a hash of its own": lambda: Unhashed.LISTED,
    "a member with a pickler": lambda: Reduced.A,
    "a zone of the user's": lambda: datetime.time(7, tzinfo=Zone()),
}


@sides
@pytest.mark.parametrize("name", OPAQUE)
def test_what_is_not_known_is_opaque_wherever_it_stands(name: str, is_worker: bool) -> None:
    for root in (OPAQUE[name](), [1, [OPAQUE[name]()]], Plain(a=OPAQUE[name]())):
        with pytest.raises(TypeError):
            Proof.take([root], is_worker)


@contextmanager
def patched(target: Any, name: str, value: Any) -> Iterator[None]:
    before = vars(target).get(name)
    setattr(target, name, value)
    try:
        yield
    finally:
        if before is None:
            delattr(target, name)
        else:
            setattr(target, name, before)


@sides
@pytest.mark.parametrize("method", ["__reduce__", "__getstate__", "__del__", "__getattr__"])
def test_a_class_that_gets_such_a_method_later_is_noticed(method: str, is_worker: bool) -> None:
    root = loaded(lambda: [Child(a=1)])
    proof = Proof.take(root, is_worker)
    with patched(Plain, method, lambda *args: None):
        assert_changed(proof, root)


@sides
def test_a_reducer_that_is_registered_later_is_noticed(is_worker: bool) -> None:
    root = loaded(lambda: [Child(a=1)])
    proof = Proof.take(root, is_worker)
    copyreg.pickle(Child, lambda child: (Child, ()))  # type: ignore[arg-type, return-value]
    try:
        assert_changed(proof, root)
    finally:
        del copyreg.dispatch_table[Child]
    assert_holds(proof, root)


@sides
def test_a_reducer_for_an_atom_of_the_library_is_noticed(is_worker: bool) -> None:
    root = loaded(lambda: [decimal.Decimal(1)])
    proof = Proof.take(root, is_worker)
    copyreg.pickle(decimal.Decimal, lambda number: (decimal.Decimal, (str(number),)))
    try:
        assert_changed(proof, root)
        with pytest.raises(TypeError):
            Proof.take(root, is_worker)
    finally:
        del copyreg.dispatch_table[decimal.Decimal]
    assert_holds(proof, root)


@sides
def test_a_name_that_leads_elsewhere_is_noticed(is_worker: bool) -> None:
    root = loaded(lambda: [Child(a=1), function])
    proof = Proof.take(root, is_worker)
    for name in ("Child", "function"):
        with patched(graph_material, name, Plain):
            assert_changed(proof, root)
        assert_holds(proof, root)
