"""Proofs of object graphs: what holds, and what is noticed."""

from __future__ import annotations

import array
import collections
import datetime
import decimal
import enum
import functools
import gc
import pickle
import sys
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from exactness.graph_material import (
    Bits,
    Both,
    Child,
    Color,
    Frozen,
    FrozenSlots,
    MyDict,
    MyList,
    MyTuple,
    Number,
    Plain,
    Point,
    Proof,
    Slots,
    assert_changed,
    assert_holds,
    assert_noticed,
    function,
    loaded,
    offset,
    sides,
)
from millpond import _native


def with_attribute(made: Any) -> Any:
    made.note = ["attribute"]
    return made


MAKERS: dict[str, Callable[[], Any]] = {
    "list": lambda: [1, 2.5, "text", b"bytes", None, True, 3j, ..., 10**40, ()],
    "nested": lambda: [[1, [2, [3]]], ("a", ("b", ["c"]))],
    "tuple": lambda: (1, "x", [2]),
    "dict": lambda: {"a": 1, 2: [3], (4, "b"): {"c": {}}},
    "set": lambda: [{1, 2, 3}, {"a", (1, 2)}, frozenset({b"x"}), set()],
    "bytearray": lambda: [bytearray(b"abc"), bytearray()],
    "plain": lambda: [Plain(a=1, b=[2]), Child(c={"d": Plain()})],
    "slots": lambda: [Slots(1, [2]), Slots("x", Slots(3, None))],
    "slots and dict": lambda: Both([1], {"a": 2}),
    "dataclass": lambda: [Point(1, [2]), Frozen(3, (4,)), FrozenSlots(5, {"x": 6})],
    "dates and decimals": lambda: [
        datetime.date(2026, 11, 23),
        datetime.datetime(2026, 11, 23, 7, 6),
        datetime.time(7, 6),
        [
            datetime.timedelta(3),
            range(5),
            range(10**30, 0, -7),
            decimal.Decimal("1.5"),
            decimal.Decimal("nan"),
        ],
    ],
    "zoned": lambda: [
        datetime.datetime(2026, 11, 23, 7, 6, tzinfo=datetime.UTC),
        datetime.time(7, 6, tzinfo=offset(3)),
        offset(5),
    ],
    "members": lambda: [Color.RED, [Color.BLUE, Number.TWO], {"k": Bits.A | Bits.B, 1: Color.RED}],
    "defaultdict": lambda: [
        collections.defaultdict(list, {"a": [1], (2, 3): {}}),
        collections.defaultdict(None, {"x": 1}),
        collections.defaultdict(function),
    ],
    "ordered dict": lambda: [collections.OrderedDict(a=1, b=[2]), collections.OrderedDict()],
    "subclasses": lambda: [MyList([1, [2]]), MyTuple((1, [2])), MyDict(a=1, b=[2]), MyList()],
    "subclasses with attributes": lambda: [with_attribute(MyList([1])), with_attribute(MyTuple())],
    "deque": lambda: [collections.deque([1, [2]] * 100), collections.deque([3], 7)],
    "array": lambda: [array.array("d", [1.5, 2]), array.array("b"), array.array("i", range(100))],
    "partial": lambda: [functools.partial(function, [1], key={"a": 2}), functools.partial(int)],
    "named": lambda: [function, Plain, int, {"k": Point}],
    "empty": lambda: [[], {}, (), set(), frozenset(), "", b""],
}


@sides
@pytest.mark.parametrize("maker", MAKERS)
def test_what_nobody_touches_holds(maker: str, is_worker: bool) -> None:
    root = loaded(MAKERS[maker])
    proof = Proof.take(root, is_worker)
    assert_holds(proof, root)
    assert_holds(proof, root)
    # To pickle it changes nothing either.
    pickle.dumps(root[0])
    assert_holds(proof, root)


def cyclic() -> list[Any]:
    root: list[Any] = [1, {"self": None}, Plain()]
    root[1]["self"] = root
    root[2].me = root[2]
    root.append(root)
    return root


@sides
def test_cycles_and_shared_nodes_are_walked_once(is_worker: bool) -> None:
    root = loaded(cyclic)
    proof = Proof.take(root, is_worker)
    assert_holds(proof, root)
    # List, dict, instance, the instance's dict, its class.
    assert proof.node_count == 5
    root[0][1]["self"] = root[0][2]
    assert_changed(proof, root)
    root[0].clear()


CHANGES: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
    "an item": (lambda: [[1, 2]], lambda r: r[0].__setitem__(0, 9)),
    "an equal item": (lambda: [["x" * 3, 2]], lambda r: r[0].__setitem__(0, "".join("xxx"))),
    "two items swapped": (lambda: [[1, 2]], lambda r: r[0].reverse()),
    "a date": (
        lambda: [[datetime.date(2026, 1, 1)]],
        lambda r: r[0].__setitem__(0, datetime.date(2026, 1, 2)),
    ),
    "an append": (lambda: [[1]], lambda r: r[0].append(2)),
    "a pop": (lambda: [[1]], lambda r: r[0].pop()),
    "a replaced tuple": (lambda: [(1, 2)], lambda r: r.__setitem__(0, (*r[0],))),
    "a dict's value": (lambda: {"a": 1}, lambda r: r.__setitem__("a", 2)),
    "a dict's new key": (lambda: {"a": 1}, lambda r: r.__setitem__("b", 2)),
    "a dict's order": (lambda: {"a": 1, "b": 2}, lambda r: r.__setitem__("a", r.pop("a"))),
    "a key that goes": (lambda: {"a": 1}, lambda r: r.pop("a")),
    "a member more": (lambda: [{1, 2}], lambda r: r[0].add(3)),
    "a member less": (lambda: [{1, 2}], lambda r: r[0].discard(1)),
    "a byte": (lambda: [bytearray(b"abc")], lambda r: r[0].__setitem__(1, 0)),
    "bytes more": (lambda: [bytearray(b"abc")], lambda r: r[0].extend(b"x")),
    "an attribute": (lambda: Plain(a=1), lambda r: setattr(r, "a", 2)),
    "a new attribute": (lambda: Plain(a=1), lambda r: setattr(r, "b", 2)),
    "an attribute that goes": (lambda: Plain(a=1), lambda r: delattr(r, "a")),
    "another instance dict": (lambda: Plain(a=1), lambda r: setattr(r, "__dict__", {"a": 1})),
    "another class": (lambda: Plain(a=1), lambda r: setattr(r, "__class__", Child)),
    "a zone": (
        lambda: [datetime.time(7, tzinfo=offset(1))],
        lambda r: r.__setitem__(0, datetime.time(7, tzinfo=offset(2))),
    ),
    "a member": (lambda: [Color.RED], lambda r: r.__setitem__(0, Color.BLUE)),
    "a factory": (
        lambda: collections.defaultdict(list, a=1),
        lambda r: setattr(r, "default_factory", dict),
    ),
    "a defaultdict's entry": (lambda: collections.defaultdict(list, a=1), lambda r: r["b"]),
    "an ordered dict's order": (
        lambda: collections.OrderedDict(a=1, b=2),
        lambda r: r.move_to_end("a"),
    ),
    "an ordered dict's value": (
        lambda: collections.OrderedDict(a=1, b=2),
        lambda r: r.__setitem__("b", 3),
    ),
    "an ordered dict's attribute": (
        lambda: collections.OrderedDict(a=1),
        lambda r: setattr(r, "x", 1),
    ),
    "a deque's item": (lambda: collections.deque([1, 2]), lambda r: r.__setitem__(1, 3)),
    "a deque that turns": (lambda: collections.deque([1, 2]), lambda r: r.rotate(1)),
    "a deque that grows": (lambda: collections.deque([1, 2]), lambda r: r.append(3)),
    "an array's item": (lambda: array.array("d", [1, 2]), lambda r: r.__setitem__(1, 3)),
    "an array that grows": (lambda: array.array("d", [1, 2]), lambda r: r.append(3)),
    "a partial's keyword": (
        lambda: [functools.partial(function, k=1)],
        lambda r: r[0].keywords.__setitem__("k", 2),
    ),
    "a partial's state": (
        lambda: [functools.partial(function, 1)],
        lambda r: r[0].__setstate__((function, (2,), {}, None)),
    ),
    "a partial's attribute": (
        lambda: [functools.partial(function, 1)],
        lambda r: setattr(r[0], "x", 1),
    ),
    "a list's subclass": (lambda: MyList([1, 2]), lambda r: r.__setitem__(0, 3)),
    "a list's subclass that grows": (lambda: MyList([1, 2]), lambda r: r.append(3)),
    "a list's subclass's attribute": (lambda: MyList([1]), lambda r: setattr(r, "x", 1)),
    "a dict's subclass": (lambda: MyDict(a=1), lambda r: r.__setitem__("a", 2)),
    "a dict's subclass's slot": (lambda: MyDict(a=1), lambda r: setattr(r, "x", 2)),
    "inside of a tuple's subclass": (lambda: MyTuple(([1],)), lambda r: r[0].append(1)),
    "a slot": (lambda: Slots(1, 2), lambda r: setattr(r, "x", 3)),
    "a slot that is set": (lambda: Slots(1, 2), lambda r: setattr(r, "_private", 3)),
    "a slot that goes": (lambda: Slots(1, 2), lambda r: delattr(r, "x")),
    "deep inside": (
        lambda: [{"a": [Plain(b=({"c": [1]},))]}],
        lambda r: r[0]["a"][0].b[0]["c"].append(1),
    ),
    "a frozen one": (lambda: Frozen(1, 2), lambda r: object.__setattr__(r, "x", 3)),
    "a frozen one with slots": (lambda: FrozenSlots(1, 2), lambda r: object.__setattr__(r, "x", 3)),
}


@sides
@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_noticed(change: str, is_worker: bool) -> None:
    assert_noticed(CHANGES[change], is_worker)


KEPT: list[Any] = []

# What leaves the pickle as it is, and yet may be seen by the next task.
TRACES: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
    "an append that was popped": (lambda: list(range(1000)), lambda r: (r.append(0), r.pop())),
    "a key that came and went": (lambda: {"a": 1}, lambda r: (r.__setitem__("b", 1), r.pop("b"))),
    "a member that came and went": (
        lambda: [set(range(5))],
        lambda r: (r[0].add(1000), r[0].discard(1000)),
    ),
    "an item that popitem took and was put back": (
        lambda: {"a": 1, "b": 2},
        lambda r: r.__setitem__(*r.popitem()),
    ),
    "a member that pop took and was put back": (
        lambda: [set(range(5))],
        lambda r: r[0].add(r[0].pop()),
    ),
    "a list that is kept": (lambda: [[1]], lambda r: KEPT.append(r[0])),
    "a tuple that is kept": (lambda: [([1],)], lambda r: KEPT.append(r[0])),
    "a frozenset that is kept": (lambda: [frozenset({1})], lambda r: KEPT.append(r[0])),
    "an instance dict that is kept": (lambda: [Plain(a=1)], lambda r: KEPT.append(vars(r[0]))),
    "an instance that is kept": (lambda: [Plain(a=1)], lambda r: KEPT.append(r[0])),
    "a weak reference": (lambda: [Plain(a=1)], lambda r: KEPT.append(weakref.ref(r[0]))),
    "a weak reference to a set": (lambda: [{1}], lambda r: KEPT.append(weakref.ref(r[0]))),
    "a list's subclass that grew and shrank": (
        lambda: MyList(range(100)),
        lambda r: (r.extend(range(100)), r.__delitem__(slice(100, None))),
    ),
    "a key that came to a dict's subclass and went": (
        lambda: MyDict(a=1),
        lambda r: (r.__setitem__("b", 1), r.pop("b")),
    ),
    "a list's subclass that is kept": (lambda: [MyList([1])], lambda r: KEPT.append(r[0])),
    "an item of a tuple's subclass that is kept": (
        lambda: [MyTuple(([1],))],
        lambda r: KEPT.append(r[0][0]),
    ),
    "a deque that turned and turned back": (
        lambda: collections.deque(range(100)),
        lambda r: (r.rotate(3), r.rotate(-3)),
    ),
    "an array that grew and shrank": (
        lambda: array.array("d", range(100)),
        lambda r: (r.extend(array.array("d", range(50))), r.__delitem__(slice(100, None))),
    ),
    "an array that is exported": (
        lambda: array.array("d", [1]),
        lambda r: KEPT.append(memoryview(r)),
    ),
    "a key that came to a defaultdict and went": (
        lambda: collections.defaultdict(list),
        lambda r: (r["a"], r.pop("a")),
    ),
    "a key that came to an ordered dict and went": (
        lambda: collections.OrderedDict(a=1),
        lambda r: (r.__setitem__("b", 1), r.pop("b")),
    ),
    "a deque that is kept": (lambda: [collections.deque([1])], lambda r: KEPT.append(r[0])),
    "a weak reference to an array": (
        lambda: [array.array("d")],
        lambda r: KEPT.append(weakref.ref(r[0])),
    ),
    "a partial's keywords that are kept": (
        lambda: [functools.partial(function, k=[1])],
        lambda r: KEPT.append(r[0].keywords),
    ),
    "a bytearray that is exported": (
        lambda: [bytearray(b"abc")],
        lambda r: KEPT.append(memoryview(r[0])),
    ),
}


@pytest.mark.parametrize("trace", TRACES)
def test_a_worker_notices_what_leaves_a_trace(trace: str) -> None:
    make, apply = TRACES[trace]
    root = loaded(make)
    proof = Proof.take(root, True)
    parents = loaded(make)
    parents_proof = Proof.take(parents, False)
    try:
        apply(root[0])
        assert_changed(proof, root)
        if not trace.startswith("a member"):
            # The parent's own pickle is the same: references of its own mean nothing.
            apply(parents[0])
            assert_holds(parents_proof, parents)
    finally:
        KEPT.clear()


def test_a_proof_holds_no_container_and_gives_its_atoms_back() -> None:
    inner, text = Plain(a=[1]), "some text of its own " + str(id(KEPT))
    root = [inner, [text], {"k": (1, [2])}]
    gone = weakref.ref(inner)
    before = sys.getrefcount(text), sys.getrefcount(root), sys.getrefcount(root[1])
    proof = Proof.take([root], False)
    assert sys.getrefcount(text) == before[0] + 1
    assert (sys.getrefcount(root), sys.getrefcount(root[1])) == before[1:]
    del inner, root
    assert gone() is None
    del proof
    assert sys.getrefcount(text) == before[0] - 1


def test_a_proof_knows_its_nodes_and_texts() -> None:
    text, inner = "a text", [1]
    root = [inner, text, {"key": 5000}]
    proof = Proof.take([root], False)
    assert all(proof.contains(one) for one in (root, inner, text, root[2]))
    assert not proof.contains([1]) and not proof.contains("another text")


@sides
def test_depth_is_no_matter(is_worker: bool) -> None:
    root: list[Any] = []
    for _ in range(100_000):
        root = [root]
    root = [root]
    proof = Proof.take(root, is_worker)
    assert_holds(proof, root)
    inner = root
    for _ in range(50_000):
        inner = inner[0]
    inner.append(1)
    del inner
    assert_changed(proof, root)
    # Freed level by level, not by one recursion.
    while root:
        root = root[0]


def test_no_collection_runs_in_a_walk_and_the_collector_is_as_it_was() -> None:
    root = [Plain(a=[x]) for x in range(2000)]
    collections_before = [generation["collections"] for generation in gc.get_stats()]
    proof = Proof.take(root, False)
    assert_holds(proof, root)
    assert [generation["collections"] for generation in gc.get_stats()] == collections_before
    assert gc.isenabled()
    gc.disable()
    try:
        Proof.take(root, False)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_weights() -> None:
    assert not _native.is_heavy([1, 2, 3], 100)
    assert not _native.is_heavy([Plain()], 100)
    assert _native.is_heavy(list(range(100)), 100)
    assert _native.is_heavy([[1] * 50, {"a": [2] * 50}], 100)
    assert _native.is_heavy({str(x): x for x in range(50)}, 100)
    assert _native.is_heavy(Plain(a=[1] * 200), 100)
    shared = [1] * 60
    assert not _native.is_heavy([shared, shared], 100)
    assert _native.is_heavy("x" * 6400, 100) and _native.is_heavy([b"x" * 6400], 100)
    assert not _native.is_heavy("x" * 6300, 100)


def test_a_class_weighs_nothing_whatever_its_metaclass() -> None:
    members = {f"M{x}": x for x in range(200)}
    assert not _native.is_heavy(enum.Enum("Many", members), 100)
