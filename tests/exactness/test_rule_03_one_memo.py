"""Rule 3: two references to one object, anywhere in a task's callable and arguments, arrive as
one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from testkit.oracle import Pool

from exactness.calls import by_every_call
from exactness.material import (
    BINDINGS,
    MATERIALS,
    Holder,
    Opaque,
    bindings,
    floats,
    ints,
    materials,
    mixed,
    sizes,
    words,
)
from exactness.portrait import portrait
from exactness.twin import same


def found_at(x: object, d: Any) -> list[int]:
    """Where in d the very object x stands."""
    return [i for i, part in enumerate(d) if part is x][:5]


def whole(x: object, d: object) -> bool:
    return x is d


def drawn(*args: object, **kwds: object) -> str:
    """What arrived, with every aliasing, of atoms too."""
    return portrait((args, kwds), atoms=True)[:4000]


@sizes
def test_an_item_of_the_bound_words_is_that_element(n: int) -> None:
    """Rule 3: `imap(partial(f, d=words), words)` gives an x that is an element of d."""

    def program(pool: Pool) -> object:
        bound = words(n)
        return by_every_call(pool, partial(found_at, d=bound), bound[:4])

    assert same(program)["imap 1"] == [[0], [1], [2], [3]]


@sizes
@materials
def test_an_item_of_the_bound_material_is_what_pickle_makes_of_it(material: str, n: int) -> None:
    """Rule 3: texts, tuples, lists arrive as one; floats and ints, which pickle does not memoize,
    as two."""

    def program(pool: Pool) -> object:
        bound = MATERIALS[material](n)
        items = [part for part, _ in zip(bound, range(4), strict=False)]
        return by_every_call(
            pool,
            partial(found_at, d=bound),
            items,
            ["apply", "map 2", "imap 1", "imap 2", "starmap 2"],
        )

    same(program)


@sizes
@bindings
def test_an_item_is_the_element_however_the_list_is_bound(binding: str, n: int) -> None:
    """Rule 3, through partials, methods and instances."""

    def program(pool: Pool) -> object:
        bound = words(n)
        callee = BINDINGS[binding](found_at, bound)
        return by_every_call(
            pool, callee, [bound[1], bound[-1], bound[0]], ["apply", "map 2", "imap 1"]
        )

    same(program)


@sizes
@materials
def test_the_bound_object_as_an_item_is_that_object(material: str, n: int) -> None:
    """Rule 3: x is the whole of d; an equal copy is not."""

    def program(pool: Pool) -> object:
        bound, equal = MATERIALS[material](n), MATERIALS[material](n)
        return by_every_call(pool, partial(whole, d=bound), [bound, equal, bound])

    assert same(program)["apply"] == [True, False, True]


@sizes
def test_words_that_are_equal_but_other_objects_are_not_the_element(n: int) -> None:
    """Rules 3 and 4: identity in the parent decides, not equality."""

    def program(pool: Pool) -> object:
        bound = words(n)
        bound[2] = bound[0]
        copies = ["".join(list(word)) for word in bound[:4]]
        return by_every_call(pool, partial(found_at, d=bound), [*copies, *bound[:4]])

    answer = same(program)["imap 1"]
    assert answer == [[], [], [], [], [0, 2], [1], [0, 2], [3]]


def one(a: object, b: object) -> bool:
    return a is b


PAIRS: dict[str, Callable[[], object]] = {
    "str": lambda: "a text " * 3,
    "one character": lambda: chr(97),
    "empty str": str,
    "non-latin": lambda: "\u4e16" * 2,
    "bytes": lambda: b"some bytes " * 3,
    "empty bytes": bytes,
    "tuple": lambda: (1, "x", 2.5),
    "empty tuple": tuple,
    "list": list,
    "dict": dict,
    "small int": lambda: 7,
    "int": lambda: 10**6,
    "big int": lambda: 10**40,
    "float": lambda: 2.5 * 2,
    "complex": lambda: complex(1, 2),
    "None": lambda: None,
    "bool": lambda: True,
    "frozenset": lambda: frozenset([1, 2]),
    "bytearray": lambda: bytearray(5),
    "range": lambda: range(5),
    "slice of words": lambda: words(5)[1:3],
    "heavy str": lambda: "x" * 200_000,
    "heavy bytes": lambda: b"x" * 200_000,
    "heavy list": lambda: ints(50_000),
    "heavy tuple": lambda: tuple(words(5_000)),
    "class": lambda: Opaque,
    "instance": lambda: Opaque(1),
}


@pytest.mark.parametrize("kind", PAIRS)
def test_one_object_given_twice_arrives_as_pickle_has_it(kind: str) -> None:
    """Rule 3: `apply(f, (x, x))` is one for texts and containers, two for floats and larger
    ints."""

    def program(pool: Pool) -> object:
        x, y = PAIRS[kind](), PAIRS[kind]()
        return [
            pool.apply(one, (x, x)),
            pool.apply(one, (x,), {"b": x}),
            pool.apply(one, (), {"a": x, "b": x}),
            pool.apply(partial(one, x), (x,)),
            pool.apply(partial(one, b=x), (x,)),
            pool.apply(partial(one, x, x)),
            pool.starmap(one, [(x, x), (x, y), (y, y)], 1),
            pool.starmap(one, [(x, x), (x, y), (y, y)], 3),
            list(pool.imap(partial(one, x), [x, y, x], 2)),
        ]

    same(program)


@sizes
def test_inner_parts_are_one_too(n: int) -> None:
    """Rule 3: `apply(f, ([S, 1], [S, 2]))` shares S, and so do parts of what is bound."""

    def program(pool: Pool) -> object:
        shared, text = ints(n)[:40], "a longer text " * n
        bound: list[object] = [*range(n), shared, text]
        return [
            pool.apply(drawn, ([shared, 1], [shared, 2])),
            pool.apply(drawn, ([text, 1], (text, 2)), {"k": {text: [text]}}),
            pool.apply(partial(drawn, [1, shared], k=(shared, text)), (shared, text)),
            pool.apply(partial(found_at, d=bound), (shared,)),
            pool.apply(partial(found_at, d=bound), (text,)),
        ]

    same(program)


def append_to_x(x: list[int], d: list[list[int]]) -> list[int]:
    x.append(0)
    return [len(part) for part in d[:4]]


@sizes
def test_a_change_through_the_item_shows_in_what_is_bound(n: int) -> None:
    """Rule 3: shared inner lists are one object, so one is written by the name of the other."""

    def program(pool: Pool) -> object:
        bound = [ints(n) for _ in range(4)]
        return by_every_call(pool, partial(append_to_x, d=bound), bound)

    answers = same(program)
    assert answers["imap 1"][1] == [n, n + 1, n, n]
    assert answers["map 4"][3] == [n + 1] * 4


def alike(a: Any, b: Any) -> object:
    return a is b, [x is y for x, y in zip(a, b, strict=False)][:6]


@sizes
@materials
def test_one_object_bound_twice_is_one(material: str, n: int) -> None:
    """Rules 3 and 4: the same list twice in a partial; and an equal one, which is another."""

    def program(pool: Pool) -> object:
        part, equal = MATERIALS[material](n), MATERIALS[material](n)
        return [
            list(pool.imap(passed, [0, 1]))
            for passed in (
                partial(_alike_of, a=part, b=part),
                partial(_alike_of, a=part, b=equal),
                partial(_alike_twice, part, part),
                partial(_alike_twice, [part], [part]),
                partial(_alike_twice, part, [part]),
            )
        ]

    same(program)


def _alike_of(x: object, a: Any, b: Any) -> object:
    return alike(a, b)


def _alike_twice(a: Any, b: Any, x: object) -> object:
    return alike(a, b)


@sizes
def test_two_lists_of_the_same_words_share_the_words_but_not_the_list(n: int) -> None:
    """Rules 3 and 4: `partial(f, a=words, b=words[:])`: stored apart, the words would be two."""

    def program(pool: Pool) -> object:
        bound = words(n)
        pairs = [
            (bound, bound[:]),
            (bound, tuple(bound)),
            (bound, bound[1:]),
            (bound, [bound[1], bound[0], *bound[2:]]),
            (bound, dict.fromkeys(bound, 0)),
            (mixed(n), words(n)),
        ]
        return [
            (
                pool.apply(partial(_alike_of, a=a, b=b), (0,)),
                pool.apply(partial(_alike_of, a=a), (0,), {"b": b}),
                pool.apply(_alike_of, (0, b, a)),
            )
            for a, b in pairs
        ]

    assert same(program)[0][0] == (False, [True] * min(n, 6))


@sizes
def test_lists_that_share_heavy_inner_lists_arrive_sharing_them(n: int) -> None:
    """Rule 3: `a=[x, y], b=[y, z]` with y one list."""

    def program(pool: Pool) -> object:
        x, y, z = ints(n), words(n), floats(n)
        callee = partial(_ends_meet, a=[x, y], b=[y, z])
        return [
            by_every_call(pool, callee, [x, y, z, 0], ["apply", "map 2", "imap 1"]),
            pool.apply(partial(_ends_meet, a=(x, y), b=(y, z)), (y,)),
        ]

    same(program)


def _ends_meet(x: object, a: Any, b: Any) -> object:
    a[1].append(0)
    return a[1] is b[0], len(b[0]), [x is part for part in (*a, *b)]


@sizes
def test_a_list_that_holds_itself_arrives_so(n: int) -> None:
    """Rule 3: recursion is aliasing."""

    def program(pool: Pool) -> object:
        bound: list[Any] = [*range(n)]
        bound.append(bound)
        ring: list[Any] = [words(n)]
        ring.append((ring, bound))
        return [
            list(pool.imap(partial(found_at, d=bound), [bound, 0])),
            pool.apply(_turns, (ring,)),
            pool.apply(partial(_turns, ring), (bound,)),
            pool.apply(partial(found_at, d=bound), (bound[-1],)) == [n],
        ]

    same(program)


def _turns(ring: Any, x: Any = None) -> object:
    return ring[1][0] is ring, ring[1][1][-1] is ring[1][1], x is ring[1][1]


@sizes
def test_repeated_and_equal_elements_keep_their_pattern(n: int) -> None:
    """Rule 3: which places of a list hold one object, and which an equal one."""

    def program(pool: Pool) -> object:
        text, other = "the same text", "".join(list("the same text"))
        number, pair = 10**9, (1, 2)
        bound = [text, other, number, pair, (1, 2), text, number, pair, other, 2.5, *words(n)]
        return [
            pool.apply(partial(drawn, bound[:10], d=bound[:10]), (text, other, number, pair)),
            pool.apply(partial(_pattern, d=bound), (pair,)),
            list(pool.imap(partial(_pattern, d=bound), [text, other, pair, number], 2)),
            list(pool.imap(partial(_pattern, d=tuple(bound)), [text, other, pair, number])),
        ]

    same(program)


def _pattern(x: object, d: Any) -> object:
    return [[j for j in range(10) if d[i] is d[j]] for i in range(10)], found_at(x, d)


def _key_is_word(d: list[str], **kwds: object) -> bool:
    return next(iter(kwds)) is d[0]


@sizes
def test_the_name_of_a_keyword_is_memoized_as_well(n: int) -> None:
    """Rule 3: names of keywords and keys of dicts are texts like others."""

    def program(pool: Pool) -> object:
        bound = [f"name_{i}" for i in range(n)]
        return [
            pool.apply(_key_is_word, (bound,), {bound[0]: 1}),
            pool.apply(partial(_key_is_word, bound), (), {bound[0]: 1}),
            pool.apply(partial(_key_is_word, bound, **{bound[0]: 1})),
            pool.apply(partial(_key_is_word, bound), (), {"".join(list(bound[0])): 1}),
        ]

    assert same(program) == [True, True, True, False]


class Selfish(Holder):
    def is_self(self, other: Holder, d: object) -> tuple[bool, bool]:
        return self is other, self.bound is d


@sizes
def test_the_instance_of_a_bound_method_is_one_with_the_argument(n: int) -> None:
    """Rule 3: a method travels as its instance and a name."""

    def program(pool: Pool) -> object:
        holder = Selfish(whole, ints(n))
        twin = Selfish(whole, holder.bound)
        return [
            pool.apply(holder.is_self, (holder, holder.bound)),
            pool.apply(holder.is_self, (twin, twin.bound)),
            pool.apply(partial(holder.is_self, twin), (holder.bound,)),
            pool.map(holder.run, [holder.bound, holder], 2),
        ]

    assert same(program)[0] == (True, True)


def grow(x: list[int]) -> int:
    x.append(0)
    return len(x)


@sizes
def test_one_list_as_every_item_is_shared_in_its_chunk(n: int) -> None:
    """Rule 3: the memo spans a chunk: 1 2 3 4 in one of four, 1 1 1 1 in four of one."""

    def program(pool: Pool) -> object:
        part = ints(n)
        return [pool.map(grow, [part] * 4, size) for size in (1, 2, 4)]

    assert same(program) == [[n + 1] * 4, [n + 1, n + 2] * 2, [n + 1, n + 2, n + 3, n + 4]]


class Late:
    """When it arrives it changes the list that came before it."""

    def __init__(self, data: list[Any]) -> None:
        self.data = data

    def __getstate__(self) -> object:
        return {"data": self.data}

    def __setstate__(self, state: Any) -> None:
        self.data = state["data"]
        self.data[0] = "changed"
        del self.data[1:]


def named(data: Any, late: Late, *more: Any) -> object:
    return len(data), data[:5], more


@sizes
@pytest.mark.parametrize("material", ["words", "bytes", "mixed", "one word often"])
def test_a_text_is_what_it_was_when_its_list_was_loaded(material: str, n: int) -> None:
    """Rule 3: pickle's memo has the text itself, whatever became of the list meanwhile."""

    def program(pool: Pool) -> object:
        d = MATERIALS[material](n)
        texts = [x for x in (d[0], d[1], d[-1]) if isinstance(x, str | bytes)]
        return [
            *(pool.apply(partial(named, d), (Late(d), *texts)) for _ in range(2)),
            *(pool.apply(named, (d, Late(d), *texts)) for _ in range(2)),
        ]

    same(program)


# --- the way back -------------------------------------------------------------------------------


def twice(x: Any) -> list[Any]:
    return [x, x]


def with_copy(x: Any) -> list[Any]:
    return [x, x[:], x]


def give_bound(x: object, d: Any) -> Any:
    return d


@sizes
@materials
def test_a_result_that_holds_one_object_twice_arrives_so(material: str, n: int) -> None:
    """Rule 3 for results: `[a, a]` comes back aliased."""

    def program(pool: Pool) -> object:
        part = MATERIALS[material](n)
        got = pool.apply(twice, (part,))
        spread = pool.map(twice, [part, part], 2)
        return [
            got[0] is got[1],
            got[0] is part,
            spread[0][0] is spread[1][1],
            [pair[0] is pair[1] for pair in pool.imap(twice, [part, part])],
            type(got[0]).__name__,
        ]

    same(program)


@sizes
@pytest.mark.parametrize("material", ["ints", "words", "mixed", "list of lists", "tuple of words"])
def test_results_within_a_task_keep_their_aliasing(material: str, n: int) -> None:
    """Rule 3 for results: a copy is a copy, its elements are shared; atoms too, within a task."""

    def program(pool: Pool) -> object:
        part = MATERIALS[material](n)
        results = list(pool.imap(with_copy, [part, part]))
        return [portrait(result, atoms=True) for result in results]

    same(program)


@sizes
def test_the_bound_list_as_result_is_one_in_a_chunk_and_another_in_each(n: int) -> None:
    """Rules 3 and 12: the results of a chunk come back in one pickle."""

    def program(pool: Pool) -> object:
        callee = partial(give_bound, d=ints(n))
        return [
            [[a is b for b in results] for a in results]
            for results in (pool.map(callee, range(4), size) for size in (1, 2, 4))
        ]

    assert same(program)[1] == [[True, True, False, False]] * 2 + [[False, False, True, True]] * 2
