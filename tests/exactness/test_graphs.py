"""Heavy graphs of any kind, bound and as arguments: the same answers as the standard library."""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime
import decimal
import enum
import functools
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from testkit.oracle import Pool
from testkit.pools import running

from exactness.portrait import portrait
from exactness.twin import same

SIZE = 1500


class Node:
    """A plain class; instances refer to each other."""

    def __init__(self, number: int, friend: Any = None) -> None:
        self.number = number
        self.friend = friend
        self.tags = ["a", number]

    def method(self, x: int) -> Any:
        seen = (x, self.number, len(self.tags))
        self.tags.append(x)
        return seen


@dataclasses.dataclass
class Point:
    x: Any
    y: Any


@dataclasses.dataclass(frozen=True, slots=True)
class Cell:
    x: int
    y: Any


class Listed(list[Any]):
    pass


class Mapping(dict[str, Any]):
    pass


class Tupled(tuple[Any, ...]):
    pass


class Row(NamedTuple):
    a: Any
    b: Any


class Members(set[Any]):
    pass


class Number(int):
    pass


class Text(str):
    pass


class Blob(bytearray):
    pass


class Color(enum.Enum):
    RED = 0
    GREEN = 1
    BLUE = 2


class Slots:
    __slots__ = ("a", "b")

    def __init__(self, a: Any, b: Any) -> None:
        self.a, self.b = a, b

    def __repr__(self) -> str:
        return f"Slots({self.a}, {self.b})"


def chain() -> Any:
    """Each knows the one before it, and the first knows the last."""
    first = node = Node(0)
    everyone = [first]
    for number in range(1, SIZE):
        node = Node(number, node)
        everyone.append(node)
    first.friend = everyone
    return everyone


def shared() -> Any:
    inner: list[Any] = [1, 2]
    return [[inner, x] for x in range(SIZE)] + [inner]


MAKERS: dict[str, Callable[[], Any]] = {
    "nested lists": lambda: [[x, [x, str(x)]] for x in range(SIZE)],
    "dict of lists": lambda: {f"k{x}": [x] * 3 for x in range(SIZE)},
    "dict of dicts": lambda: {x: {"a": x, "b": {"c": str(x)}} for x in range(SIZE)},
    "a few long lists": lambda: {"a": list(range(3 * SIZE)), "b": [[x] for x in range(3 * SIZE)]},
    "many short lists": lambda: [[x] * 100 for x in range(60)],
    "tuples": lambda: [(x, (str(x), [x])) for x in range(SIZE)],
    "sets": lambda: [{x, -x, "s"} for x in range(SIZE)],
    "frozensets": lambda: {"f": [frozenset({x, "f"}) for x in range(SIZE)]},
    "one large set": lambda: {str(x) for x in range(3 * SIZE)},
    "bytearrays": lambda: [bytearray(b"%d" % x) for x in range(3 * SIZE)],
    "instances": lambda: [Node(x) for x in range(SIZE)],
    "a chain of instances": chain,
    "dataclasses": lambda: [Point(x, [x]) for x in range(SIZE)],
    "frozen ones with slots": lambda: [Cell(x, (x,)) for x in range(SIZE)],
    "slots": lambda: [Slots(x, {"x": x}) for x in range(SIZE)],
    "dates and decimals": lambda: [
        [datetime.date.fromordinal(x + 1), decimal.Decimal(x), datetime.timedelta(x)]
        for x in range(SIZE)
    ],
    "shared inner lists": shared,
    "functions and classes": lambda: [[portrait, Node, int, x] for x in range(SIZE)],
    "members of enums": lambda: [Point(Color(x % 3), [x, Color.RED]) for x in range(SIZE)],
    "a defaultdict": lambda: collections.defaultdict(list, {x: [x] for x in range(SIZE)}),
    "ordered dicts": lambda: collections.OrderedDict(
        (f"k{x}", collections.OrderedDict(a=x, b=[x])) for x in range(SIZE)
    ),
    "a list of a class": lambda: Listed([x, [x]] for x in range(SIZE)),
    "dicts of a class": lambda: [Mapping(x=x, y=[x]) for x in range(SIZE)],
    "tuples of a class": lambda: [Tupled((x, [x])) for x in range(SIZE)],
    "a deque": lambda: collections.deque([[x, str(x)] for x in range(SIZE)], 2 * SIZE),
    "an array": lambda: array.array("d", range(100_000)),
    "a byte array": lambda: bytearray(b"spam" * 100_000),
    "partials": lambda: [functools.partial(size, [x], k={"x": x}) for x in range(SIZE)],
    "named tuples": lambda: [Row(x, [x]) for x in range(SIZE)],
    "a counter": lambda: collections.Counter({f"k{x}": x for x in range(3 * SIZE)}),
    "counters": lambda: {x: collections.Counter({x: 1}) for x in range(SIZE)},
    "sets of a class": lambda: [Members([x, str(x)]) for x in range(SIZE)],
    "values of a class": lambda: [[Number(x), Text(x)] for x in range(SIZE)],
    "byte arrays of a class": lambda: [[Blob(b"%d" % x), x] for x in range(SIZE)],
    "small numpy arrays": lambda: {f"k{x}": np.full(3, x) for x in range(SIZE)},
    "columns of a matrix": lambda: list(np.arange(4.0 * SIZE).reshape(4, SIZE).T),
    "numpy arrays on bytes": lambda: [[np.full(300, x), x] for x in range(SIZE // 10)],
    "numpy scalars": lambda: [np.float64(x) for x in range(3 * SIZE)],
    "keys of numpy and dates": lambda: {
        **{np.int32(x): [x] for x in range(SIZE)},
        **{datetime.date.fromordinal(x + 1): {x} for x in range(SIZE)},
    },
    "methods": lambda: [[node, node.method] for node in map(Node, range(SIZE))],
    "times with a zone": lambda: [
        [datetime.datetime.fromtimestamp(x, datetime.UTC), x] for x in range(SIZE)
    ],
    "with something opaque": lambda: [uuid.UUID(int=5), [[x] for x in range(3 * SIZE)]],
}

everything = pytest.mark.parametrize("maker", MAKERS)


def size(value: Any, **_: Any) -> int:
    return len(value)


def look(x: Any, data: Any = None) -> str:
    return f"{x} {portrait(data, atoms=True)[:3000]} {size(data)}"


def first_list(value: Any, depth: int = 0) -> Any:
    """Some list, dict or instance deep inside."""
    if depth == 4:
        return value
    if isinstance(value, dict):
        inner = next((v for v in value.values() if not isinstance(v, int | str)), None)
    elif isinstance(value, list | tuple):
        kinds = (list, dict, tuple, Node, Point, np.ndarray)
        inner = next((v for v in value if isinstance(v, kinds)), None)
    elif isinstance(value, Node):
        inner = value.tags
    elif isinstance(value, Point):
        inner = value.y
    else:
        inner = None
    return value if inner is None else first_list(inner, depth + 1)


def spoil(x: Any, data: Any = None) -> str:
    """Look, then change something deep inside, and something at the top."""
    seen = look(x, data)
    inner = first_list(data)
    if isinstance(inner, list):
        inner.append("spoilt")
    elif isinstance(inner, np.ndarray):
        inner += 1
    elif isinstance(inner, dict | Node | Point):
        (inner if isinstance(inner, dict) else vars(inner))["spoilt"] = x
    elif isinstance(data, collections.deque | array.array | bytearray):
        data.append(7)
        data.reverse()
    elif isinstance(data, set):
        data.add("spoilt")
    elif isinstance(data, list):
        data.append("spoilt")
    return seen


@everything
def test_a_bound_graph_arrives_as_it_is(maker: str) -> None:
    def program(pool: Pool) -> object:
        data = MAKERS[maker]()
        bound = functools.partial(look, data=data)
        return (
            list(pool.imap(bound, range(4))),
            [pool.apply(bound, (x,)) for x in range(2)],
            pool.map(bound, range(6), chunksize=3),
        )

    same(program)


@everything
def test_each_task_has_a_fresh_one(maker: str) -> None:
    def program(pool: Pool) -> object:
        data = MAKERS[maker]()
        bound = functools.partial(spoil, data=data)
        return list(pool.imap(bound, range(4))), pool.map(bound, range(6), chunksize=3)

    same(program)


@everything
def test_what_the_parent_changes_is_seen(maker: str) -> None:
    def program(pool: Pool) -> object:
        data = MAKERS[maker]()
        bound = functools.partial(look, data=data)
        seen = []
        for x in range(4):
            seen.append(pool.apply(bound, (x,)))
            spoil(x, data)
        return seen

    same(program)


@everything
def test_a_graph_as_an_argument_arrives_as_it_is(maker: str) -> None:
    def program(pool: Pool) -> object:
        data = MAKERS[maker]()
        seen = [pool.apply(spoil, (x, data)) for x in range(4)]
        seen += pool.starmap(spoil, [(x, data) for x in range(4)], chunksize=2)
        spoil("parent", data)
        return seen + [pool.apply(spoil, (x, data)) for x in range(2)]

    same(program)


def identities(x: Any, data: Any) -> Any:
    """Where in data the very object x stands, at the top or one below."""
    tops = list(data.values()) if isinstance(data, dict) else list(data)
    found = [i for i, top in enumerate(tops) if top is x]
    for i, top in enumerate(tops[:50]):
        if isinstance(top, list | tuple):
            found += [i for one in top if one is x]
        elif isinstance(top, dict):
            found += [i for one in top.values() if one is x]
    return found[:20], x is data


@everything
def test_a_part_of_a_bound_graph_arrives_as_that_part(maker: str) -> None:
    def program(pool: Pool) -> object:
        data = MAKERS[maker]()
        tops = list(data.values()) if isinstance(data, dict) else list(data)
        inner = [one for top in tops[:3] if isinstance(top, list | tuple) for one in top]
        bound = functools.partial(identities, data=data)
        arguments = [*tops[:2], tops[-1], *inner[:4], data]
        return list(pool.imap(bound, arguments)), pool.map(bound, arguments, chunksize=3)

    same(program)


def mutate_and_see(x: Any, data: Any) -> str:
    """The argument is a part of data: a change of one is a change of the other."""
    if isinstance(x, list):
        x.append("through x")
    elif isinstance(x, dict):
        x["through"] = "x"
    return look("", data)


@pytest.mark.parametrize(
    "maker", ["nested lists", "dict of lists", "dict of dicts", "shared inner lists"]
)
def test_a_change_through_an_argument_is_a_change_of_the_graph(maker: str) -> None:
    def program(pool: Pool) -> object:
        data = MAKERS[maker]()
        tops = list(data.values()) if isinstance(data, dict) else list(data)
        bound = functools.partial(mutate_and_see, data=data)
        return list(pool.imap(bound, [*tops[:3], tops[-1]]))

    same(program)


def both(a: Any, b: Any, x: Any = None) -> Any:
    inner = [one for top in (a[:30], b[:30]) for one in top]
    return [[i for i, two in enumerate(inner) if one is two] for one in inner], len(a), len(b)


def test_two_graphs_that_share_objects_arrive_sharing_them() -> None:
    def program(pool: Pool) -> object:
        text, inner = "some text", [1, 2]
        a = [[x, text, inner] for x in range(SIZE)]
        b = [[x, text, inner] for x in range(SIZE)]
        c = [*a]
        seen = []
        for _ in range(3):
            seen.append(pool.apply(functools.partial(both, a, b), (0,)))
            seen.append(pool.apply(functools.partial(both, a, c), (0,)))
            seen.append(pool.apply(both, (a, c)))
        inner.append(3)
        seen.append(pool.apply(functools.partial(both, a, b), (0,)))
        return seen

    same(program)


def test_equal_graphs_arrive_as_two() -> None:
    def program(pool: Pool) -> object:
        a = [[x] for x in range(3 * SIZE)]
        b = [[x] for x in range(3 * SIZE)]
        return [pool.apply(functools.partial(both, a, b), (x,)) for x in range(3)]

    same(program)


class Opaque:
    """It has a pickler of its own, which meddles."""

    def __init__(self, data: Any = None, how: str = "") -> None:
        self.data, self.how = data, how

    def __reduce__(self) -> Any:
        if self.how == "inner":
            self.data[3].append("meddled")
        elif self.how == "root":
            self.data.append(["meddled"])
        elif self.how == "replace":
            self.data[3] = ["replaced"]
        return (Opaque, ())


def seen_by(x: Any, *args: Any, data: Any = None, **more: Any) -> Any:
    lists = [a for a in (*args, *more.values()) if isinstance(a, list)]
    return (
        [len(data), data[3], data[-1]],
        [[i for i, top in enumerate(data[:6]) if top is one] for one in lists],
        lists,
    )


WRAPPERS: dict[str, Callable[[Any], Any]] = {
    "bare": lambda opaque: opaque,
    "in a list's class": lambda opaque: Listed([opaque]),
    "in a tuple's class": lambda opaque: Tupled([opaque]),
    "in a dict's class": lambda opaque: Mapping(a=opaque),
    "in a named tuple": lambda opaque: Row(1, opaque),
    "in a set's class": lambda opaque: Members([opaque]),
}


@pytest.mark.parametrize("how", ["", "inner", "root", "replace"])
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_pickler_that_meddles_is_seen_as_pickling_sees_it(how: str, wrapper: str) -> None:
    def program(pool: Pool) -> object:
        seen = []
        for order in range(4):
            data: list[Any] = [[x] for x in range(3 * SIZE)]
            opaque = WRAPPERS[wrapper](Opaque(data, how))
            for _ in range(3):
                if order == 0:
                    bound = functools.partial(seen_by, 0, opaque, data=data, later=data[3])
                elif order == 1:
                    bound = functools.partial(seen_by, 0, data[3], opaque, data=data)
                elif order == 2:
                    bound = functools.partial(seen_by, 0, data=data, other=opaque, later=data[3])
                else:
                    bound = functools.partial(seen_by, 0, data[2], data=data, other=opaque)
                seen.append(pool.apply(bound))
                seen.append(pool.apply(bound, (data[3], data[2])))
        return seen

    same(program)


kept: list[Any] = []


def keep_part(x: int, data: Any) -> Any:
    """Keep a part of the graph, and change what was kept before."""
    before = [list(one) for one in kept]
    for one in kept:
        one.append("changed later")
    kept.append(data[x])
    return x, before, data[x], len(data), data[0]


def test_a_part_that_a_task_keeps_is_its_own() -> None:
    def program(pool: Pool) -> object:
        data = [[x] for x in range(3 * SIZE)]
        return list(pool.imap(functools.partial(keep_part, data=data), [0, 1, 0, 2]))

    same(program)


def test_a_method_of_a_heavy_instance_is_called() -> None:
    def program(pool: Pool) -> object:
        node = Node(1, [[x] for x in range(3 * SIZE)])
        node.tags = [str(x) for x in range(3 * SIZE)]
        seen = [pool.apply(node.method, (x,)) for x in range(3)]
        node.tags.append("more")
        return seen, list(pool.imap(node.method, range(3)))

    same(program)


def test_a_graph_that_changes_each_time_is_left_to_the_pickler_and_tried_again() -> None:
    data = {str(x): [x] for x in range(3 * SIZE)}
    with running(1) as pool:
        for x in range(40):
            assert pool.apply(size, (data,)) == len(data)
            data[f"new {x}"] = [x]
        (part,) = pool.stats().parts
        assert (part.rung, part.reason) == ("pickled", "it had changed each time that it came")
        assert 3 <= part.pickled <= 8
        for _ in range(20):
            assert pool.apply(size, (data,)) == len(data)
        (part,) = pool.stats().parts
    assert part.rung == "verified" and part.verified > 0


def test_one_graph_is_pickled_once_and_loaded_once_for_each_worker() -> None:
    data = {str(x): [x, {"x": x}] for x in range(3 * SIZE)}
    with running(1) as pool:
        bound = functools.partial(size, data)
        for _ in range(6):
            pool.apply(bound)
        stats = pool.stats()
    (part,) = stats.parts
    assert (part.rung, part.pickled, part.sent, part.verified) == ("verified", 1, 6, 5)
    # The last proof may still be going on.
    assert (part.loaded, part.changed) == (1, 0)
    assert part.proved in (5, 6)
