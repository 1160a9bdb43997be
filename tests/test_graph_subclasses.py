"""Proofs of named tuples, counters, subclasses of built-in values and sets, and bound methods."""

from __future__ import annotations

import collections
import pickle
import struct
import sys
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from exactness.graph_material import (
    MySet,
    MyText,
    Proof,
    assert_changed,
    assert_holds,
    assert_noticed,
    loaded,
    sides,
)

Pair = collections.namedtuple("Pair", "a b")
Empty = collections.namedtuple("Empty", "")
Wide = collections.namedtuple("Wide", [f"f{x}" for x in range(32)])  # type: ignore[misc]
TooWide = collections.namedtuple("TooWide", [f"f{x}" for x in range(33)])  # type: ignore[misc]


class Row(NamedTuple):
    a: Any
    b: Any = None

    def total(self) -> Any:
        return self.a


class Derived(Pair):
    def method(self) -> Any:
        return self.a


class Own(Pair):
    __slots__ = ()

    def __new__(cls, a: Any, b: Any) -> Own:
        return super().__new__(cls, a, b)


class Iterated(Pair):
    def __iter__(self) -> Any:
        return iter((1, 2))


class Measured(Pair):
    def __len__(self) -> int:
        return 2


class MyFrozenSet(frozenset[Any]):
    pass


class SetWithInit(set[Any]):
    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)


class SetThatIterates(set[Any]):
    def __iter__(self) -> Any:
        return super().__iter__()


class MyInt(int):
    pass


class MyFloat(float):
    pass


class MyBytes(bytes):
    pass


class MyComplex(complex):
    pass


class MyByteArray(bytearray):
    pass


class ByteArrayWithInit(bytearray):
    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)


class Mixin:
    def more(self) -> int:
        return 1


class Mixed(Mixin, int):
    pass


class Worker:
    def __init__(self, *parts: Any) -> None:
        self.parts = list(parts)

    def method(self) -> Any:
        return self.parts

    def other(self) -> Any:
        return None

    @classmethod
    def of_class(cls) -> None:
        pass

    alias = method


class Child(Worker):
    def method(self) -> Any:
        return 1


class TellsAll(Worker):
    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


class Counts(collections.Counter[Any]):
    pass


def with_attribute(made: Any, **attributes: Any) -> Any:
    vars(made).update(attributes or {"note": ["attribute"]})
    return made


def with_method() -> Any:
    worker = Worker([1])
    return [worker, worker.method, worker.other]


MAKERS: dict[str, Callable[[], Any]] = {
    "named tuples": lambda: [Pair(1, [2]), Row("x"), Derived({}, ()), Empty(), Wide(*range(32))],
    "a named tuple with attributes": lambda: with_attribute(Derived(1, 2)),
    "counters": lambda: [collections.Counter("abca"), collections.Counter(), {"k": [1]}],
    "sets": lambda: [MySet([1, "a"]), MyFrozenSet([(1, 2)]), MySet()],
    "a set with attributes": lambda: with_attribute(MySet([1])),
    "values": lambda: [MyInt(7), MyInt(-(10**40)), MyFloat(1.5), MyText("é\ud800"), MyBytes(b"x")],
    "byte arrays and complexes": lambda: [
        *(MyByteArray(b"abc"), MyByteArray(), with_attribute(MyByteArray(bytes(99)))),
        *(MyComplex(1, -0.0), MyComplex("nan+infj"), with_attribute(MyComplex(1))),
    ],
    "other floats": lambda: [MyFloat("nan"), MyFloat("-0.0"), MyFloat("inf"), MyFloat(0)],
    "values with attributes": lambda: [with_attribute(MyInt(1)), with_attribute(MyText("x"))],
    "empty values": lambda: [MyInt(), MyFloat(), MyText(), MyBytes(), Mixed(3)],
    "methods": with_method,
    "a method alone": lambda: [Worker([1]).method],
    "a method of a subclass": lambda: [Child(1).method, Child(2).other],
}


@sides
@pytest.mark.parametrize("maker", MAKERS)
def test_what_nobody_touches_holds(maker: str, is_worker: bool) -> None:
    root = loaded(MAKERS[maker])
    proof = Proof.take(root, is_worker)
    assert_holds(proof, root)
    pickle.dumps(root[0])
    assert_holds(proof, root)


CHANGES: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
    "inside of a named tuple": (lambda: Pair([1], 2), lambda r: r[0].append(2)),
    "a named tuple that is replaced": (
        lambda: [Pair(1, 2)],
        lambda r: r.__setitem__(0, r[0]._replace(a=3)),
    ),
    "a named tuple's attribute": (lambda: Derived(1, 2), lambda r: setattr(r, "x", 1)),
    "a count": (lambda: collections.Counter("abca"), lambda r: r.update("a")),
    "a new count": (lambda: collections.Counter("abca"), lambda r: r.update("z")),
    "a counter's attribute": (lambda: collections.Counter("a"), lambda r: setattr(r, "x", 1)),
    "a member": (lambda: MySet([1]), lambda r: r.add(2)),
    "a set's attribute": (lambda: MySet([1]), lambda r: setattr(r, "x", 1)),
    "a value": (lambda: [MyInt(1)], lambda r: r.__setitem__(0, MyInt(2))),
    "a byte": (lambda: MyByteArray(b"abc"), lambda r: r.__setitem__(0, 0)),
    "a byte array's length": (lambda: MyByteArray(b"abc"), lambda r: r.append(0)),
    "a byte array's attribute": (lambda: MyByteArray(b"abc"), lambda r: setattr(r, "x", 1)),
    "a complex": (
        lambda: [MyComplex(1, 0.0)],
        lambda r: r.__setitem__(0, MyComplex(1, -0.0)),
    ),
    "a value's attribute": (lambda: MyFloat(1), lambda r: setattr(r, "x", 1)),
    "a value's class": (lambda: [MyText("x")], lambda r: r.__setitem__(0, "x")),
    "a method's instance": (with_method, lambda r: r[0].parts.append(1)),
    "a method that another hides": (with_method, lambda r: vars(r[0]).update(method=1)),
    "a method's instance's class": (with_method, lambda r: setattr(r[0], "__class__", Child)),
}


@sides
@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_noticed(change: str, is_worker: bool) -> None:
    assert_noticed(CHANGES[change], is_worker)


KEPT: list[Any] = []
TRACES: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
    "a named tuple that is kept": (lambda: [Pair([1], 2)], lambda r: KEPT.append(r[0])),
    "an item of a named tuple": (lambda: [Pair([1], 2)], lambda r: KEPT.append(r[0].a)),
    "a member that came and went": (
        lambda: MySet(range(5)),
        lambda r: (r.add(1000), r.discard(1000)),
    ),
    "a count that came and went": (
        lambda: collections.Counter("ab"),
        lambda r: (r.update("z"), r.pop("z")),
    ),
    "a byte array's memory": (
        lambda: [MyByteArray(b"abc")],
        lambda r: KEPT.append(memoryview(r[0])),
    ),
    "a weak reference": (lambda: [MySet([1])], lambda r: KEPT.append(weakref.ref(r[0]))),
    "a value that is kept": (lambda: [MyInt(10**9)], lambda r: KEPT.append(r[0])),
    "a value's attributes that are kept": (
        lambda: [with_attribute(MyInt(10**9))],
        lambda r: KEPT.append(vars(r[0])),
    ),
    "a method that is kept": (with_method, lambda r: KEPT.append(r[1])),
}


@pytest.mark.parametrize("trace", TRACES)
def test_a_worker_notices_what_leaves_a_trace(trace: str) -> None:
    make, apply = TRACES[trace]
    root = loaded(make)
    proof = Proof.take(root, True)
    try:
        apply(root[0])
        assert_changed(proof, root)
    finally:
        KEPT.clear()


@sides
@pytest.mark.parametrize(
    ("first", "second"),
    [
        (MyInt(2**70), MyInt(2**70 + 1)),
        (MyFloat(0.0), MyFloat(-0.0)),
        (MyFloat("nan"), MyFloat(struct.unpack("d", struct.pack("q", -1))[0])),
        (MyText("ab"), MyText("ac")),
        (MyBytes(b"ab"), MyBytes(b"ac")),
        (MyComplex(0.0), MyComplex(-0.0)),
    ],
)
def test_another_value_at_the_same_address_is_another(
    first: Any, second: Any, is_worker: bool
) -> None:
    """The proof pins no node, so another may come to lie where it lay."""
    kind, exact = type(first), type(first).__mro__[1]
    before, after = exact(first), exact(second)
    if exact is float:
        before, after = float.__pos__(first), float.__pos__(second)
    holder = [kind(before)]
    proof = Proof.take([holder], is_worker)
    address = id(holder[0])
    holder.clear()
    for other in [kind(after) for _ in range(2000)]:
        if id(other) == address:
            holder.append(other)
            break
    del other
    if holder:
        assert_changed(proof, [holder])
        return
    pytest.skip("the allocator did not use the address again")


OPAQUE: dict[str, Callable[[], Any]] = {
    "a named tuple of many fields": lambda: TooWide(*range(33)),
    "a named tuple with its own new": lambda: Own(1, 2),
    "a named tuple that iterates in its own way": lambda: Iterated(1, 2),
    "a named tuple that is measured in its own way": lambda: Measured(1, 2),
    "a counter's subclass": lambda: Counts("a"),
    "a counter with an attribute": lambda: with_attribute(collections.Counter("a")),
    "a set with its own init": lambda: SetWithInit([1]),
    "a set that iterates in its own way": lambda: SetThatIterates([1]),
    "a byte array with its own init": lambda: ByteArrayWithInit(b"ab"),
    "a class's method": lambda: Worker.of_class,
    "a method by another name": lambda: renamed_method(),
    "a method that an attribute hides": lambda: hidden_method(),
    "a method of one with getattr": lambda: TellsAll(1).method,
    "a parent's method": lambda: super(Child, Child(1)).method,
    "a list's method": lambda: [].append,
}


def renamed_method() -> Any:
    def called_otherwise(self: Any) -> None:
        pass

    return called_otherwise.__get__(Worker())


def hidden_method() -> Any:
    worker = Worker()
    method = worker.method
    vars(worker)["method"] = 1
    return method


@sides
@pytest.mark.parametrize("name", OPAQUE)
def test_what_is_not_known_is_opaque(name: str, is_worker: bool) -> None:
    for root in (OPAQUE[name](), [1, [OPAQUE[name]()]]):
        with pytest.raises(TypeError):
            Proof.take([root], is_worker)


def other_new(_cls: Any, a: Any, b: Any) -> Any:
    return tuple.__new__(_cls, (b, a))


def swapped() -> Any:
    """As a named tuple's own, but for the order."""
    globals_like = {"_tuple_new": tuple.__new__, "__builtins__": {}}
    return eval("lambda _cls, a, b: _tuple_new(_cls, (b, a))", globals_like)


def other_tuple() -> Any:
    """As a named tuple's own, over another function."""
    globals_like = {"_tuple_new": lambda cls, parts: None, "__builtins__": {}}
    return eval("lambda _cls, a, b: _tuple_new(_cls, (a, b))", globals_like)


@sides
@pytest.mark.parametrize(
    ("owner", "name", "value"),
    [
        (Pair, "__new__", staticmethod(other_new)),
        (Pair, "__new__", staticmethod(swapped())),
        (Pair, "__new__", staticmethod(other_tuple())),
        (Pair, "__getnewargs__", lambda self: (1, 2)),
        (Pair, "__iter__", lambda self: iter((1, 2))),
        (Pair, "__reduce__", lambda self: (Pair, (1, 2))),
        (collections.Counter, "__reduce__", lambda self: (dict, ())),
        (collections.Counter, "update", lambda self, *parts: None),
        (MySet, "__init__", lambda self, *parts: None),
        (MyInt, "__getnewargs__", lambda self: (3,)),
        (Worker, "method", lambda self: None),
        (Worker, "__getattr__", lambda self, name: None),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_a_class_that_is_changed_later_is_noticed(
    owner: Any, name: str, value: Any, is_worker: bool
) -> None:
    root = loaded(
        lambda: [Pair([1], 2), collections.Counter("ab"), MySet([1]), MyInt(5), *with_method()]
    )
    proof = Proof.take(root, is_worker)
    assert_holds(proof, root)
    before = vars(owner).get(name)
    setattr(owner, name, value)
    try:
        assert_changed(proof, root)
    finally:
        if before is None:
            delattr(owner, name)
        else:
            setattr(owner, name, before)
    assert_holds(proof, root)


@sides
def test_code_that_is_put_into_a_known_function_is_noticed(is_worker: bool) -> None:
    root = loaded(lambda: [Pair([1], 2)])
    proof = Proof.take(root, is_worker)
    new: Any = Pair.__new__
    before = new.__code__
    new.__code__ = swapped().__code__
    try:
        assert_changed(proof, root)
    finally:
        new.__code__ = before
    assert_holds(proof, root)


def test_a_value_gives_its_copy_back() -> None:
    before = sys.getallocatedblocks()
    for _ in range(1000):
        Proof.take([[MyText("some text"), MyInt(10**30), MyBytes(b"bytes"), MyFloat(1)]], False)
    assert sys.getallocatedblocks() - before < 500
