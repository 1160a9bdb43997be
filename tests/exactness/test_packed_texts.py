"""Long lists and tuples of short texts, which are packed without pickle: the same answers."""

from __future__ import annotations

import multiprocessing.queues
import pickle
from collections.abc import Callable
from functools import partial
from multiprocessing.reduction import ForkingPickler
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from millpond._native import pack
from testkit.oracle import Pool
from testkit.pools import running

from exactness.packed_material import LABELS, MATERIALS, NOT_PACKED, PACKED, picture, raws, words
from exactness.twin import same

every_material = pytest.mark.parametrize("material", MATERIALS)


def look(value: Any, x: object = None) -> object:
    return x, picture(value)


def give(material: str) -> Any:
    return MATERIALS[material]()


@every_material
def test_a_bound_list_arrives_as_pickle_brings_it(material: str) -> None:
    def program(pool: Pool) -> object:
        bound = MATERIALS[material]()
        callee = partial(look, bound)
        return [list(pool.imap(callee, range(3))), pool.map(callee, range(4), 2)]

    same(program)


@every_material
def test_an_argument_arrives_as_pickle_brings_it(material: str) -> None:
    """The first time it serves one task, later it is kept; and so it is in a chunk."""

    def program(pool: Pool) -> object:
        one = MATERIALS[material]()
        again = [pool.apply(look, (one, x)) for x in range(3)]
        return again, pool.map(look, [MATERIALS[material](), one, MATERIALS[material]()], 2)

    same(program)


@every_material
def test_a_result_arrives_as_pickle_brings_it(material: str) -> None:
    def program(pool: Pool) -> object:
        results = [pool.apply(give, (material,)), *pool.map(give, [material] * 3, 2)]
        return [picture(result) for result in results]

    same(program)


def item(x: int) -> str:
    return LABELS[x % 40] if x % 3 else f"result {x}"


def raw_item(x: int) -> bytes:
    return b"%d" % (x // 2)


@pytest.mark.parametrize("task", [item, raw_item])
def test_the_results_of_a_long_chunk_keep_their_identities(task: Callable[[int], Any]) -> None:
    """They are one list, which is packed as any other."""

    def program(pool: Pool) -> object:
        return [picture(pool.map(task, range(5000), size)) for size in (5000, 2500, 100)]

    same(program)


@pytest.mark.parametrize("material", PACKED)
def test_this_is_packed(material: str) -> None:
    """Else the tests above would test pickle."""
    assert pack(PACKED[material](), False) is not None


@pytest.mark.parametrize("material", NOT_PACKED)
def test_this_is_left_to_pickle(material: str) -> None:
    assert pack(NOT_PACKED[material](), False) is None


# --- identity with what stands elsewhere in the task ------------------------------------------------

TEXTS: dict[str, Callable[[], list[Any]]] = {
    "words": words,
    "bytes": raws,
    "labels": PACKED["labels"],
    "interned": PACKED["interned"],
    "characters": PACKED["characters"],
    "single bytes": PACKED["single bytes"],
}
texts = pytest.mark.parametrize("material", TEXTS)


def places(*args: Any, **kwds: Any) -> object:
    """Where in each list each single text stands, by identity; and how the lists share theirs."""
    every = [*args, *kwds.values(), *kwds]
    lists = [x for x in every if isinstance(x, list | tuple | dict)]
    single = [x for x in every if isinstance(x, str | bytes)]
    single += [x for one in lists if len(one) < 100 for x in one]
    found = [[i for i, y in enumerate(one) if y is x][:3] for x in single for one in lists]
    known = [{id(x) for x in one} for one in lists]
    return found, [len(a & b) for a in known for b in known], [a is b for a in lists for b in lists]


@texts
def test_a_text_that_is_named_beside_its_list_is_its_item(material: str) -> None:
    """A fresh list each time: what comes once has nothing that tells its texts."""
    make = TEXTS[material]

    def program(pool: Pool) -> object:
        seen = []
        d = make()
        seen.append(pool.apply(places, (d[3], d, d[3])))
        d = make()
        seen.append(pool.apply(places, (d, [d[7], d[1]])))
        d = make()
        seen.append(pool.apply(places, (d,), {"k": d[-1], "d": [d[-1]]}))
        d = make()
        seen.append(pool.apply(places, (d, {d[0]: d[1], d[2]: 0})))
        d = make()
        seen.append(pool.starmap(places, [(x, d) for x in d[:5]], 3))
        d = make()
        seen.append(pool.apply(partial(places, d[5], d), (d[5],)))
        seen += [pool.apply(places, (d[i], d)) for i in range(3)]
        return [*seen, list(pool.imap(partial(places, d), d[:5]))]

    same(program)


@texts
def test_lists_that_share_their_texts_arrive_sharing_them(material: str) -> None:
    """Fresh ones, then one that is known beside a fresh one, then both known."""
    make = TEXTS[material]

    def program(pool: Pool) -> object:
        seen = []
        for other in (list, tuple, lambda d: d[::2], lambda d: d[:50], dict.fromkeys):
            a = make()
            b: Any = other(a)
            seen += [pool.apply(places, pair) for pair in ((a, b), (b, a), (a, a))]
            c, e = make(), make()
            seen += [pool.apply(places, pair) for pair in ((a, c), (c, a), (e[1:], e), (a, a[1:]))]
            seen.append(pool.apply(partial(places, a, b), (a[1:], e)))
        return seen

    same(program)


@texts
def test_equal_lists_arrive_as_two(material: str) -> None:
    make = TEXTS[material]

    def program(pool: Pool) -> object:
        return [pool.apply(places, (make(), make(), tuple(make()))) for _ in range(2)]

    same(program)


class Picky:
    """Its pickling gives texts of a list that is pickled beside it."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __reduce__(self) -> Any:
        return tuple, ([self.data[1], self.data[0]],)


@texts
def test_a_pickler_that_gives_texts_of_the_list_is_seen_as_pickling_sees_it(material: str) -> None:
    make = TEXTS[material]

    def program(pool: Pool) -> object:
        seen = []
        for _ in range(3):
            d = make()
            seen += [pool.apply(places, (d, Picky(d))), pool.apply(places, (Picky(d), d))]
            seen.append(pool.apply(partial(places, d), (Picky(d),)))
        return seen

    same(program)


def test_what_comes_once_is_packed_if_nothing_else_refers_to_its_texts() -> None:
    held = words()
    given: dict[str, Any] = {
        "alone": words(),
        "bytes": tuple(b"raw %d" % i for i in range(5000)),
        # There is only one of each, wherever it is loaded.
        "characters": [chr(i % 256) for i in range(5000)],
        "wide characters": [chr(256 + i % 256) for i in range(5000)],
        "empty": [""] * 5000,
        "empty bytes": [b""] * 5000,
        "held": list(held),
        "labels": PACKED["labels"](),
        "mixed": NOT_PACKED["a number last"](),
    }
    with running(1) as pool:
        for name, value in given.items():
            pool.apply(taken, (), {name: value})
        rungs = {part.place: part.rung for part in pool.stats().parts}
    assert rungs == {
        "argument['alone']": "packed",
        "argument['bytes']": "packed",
        "argument['characters']": "packed",
        "argument['wide characters']": "packed",
        "argument['empty']": "packed",
        "argument['empty bytes']": "packed",
        "argument['held']": "pickled",
        "argument['labels']": "pickled",
        "argument['mixed']": "pickled",
    }


def taken(**kwds: Any) -> list[int]:
    return [len(value) for value in kwds.values()]


# --- picklers ---------------------------------------------------------------------------------------

noted: list[int] = []


class Noting(ForkingPickler):
    """Counts what it pickles."""

    def dump(self, obj: object) -> None:
        noted.append(1)
        super().dump(obj)


def note_results(is_on: bool) -> None:
    """Change, in the worker, the class that pickles results."""
    chosen = Noting if is_on else ForkingPickler
    multiprocessing.queues._ForkingPickler = chosen  # type: ignore[attr-defined]


def noted_here(x: int) -> int:
    return len(noted)


def test_another_pickler_gets_the_texts_of_results() -> None:
    def program(pool: Pool) -> object:
        pool.apply(note_results, (True,))
        results = [picture(pool.apply(give, ("words",))) for _ in range(3)]
        return results, pool.apply(noted_here, (0,))

    # The answers to `note_results`, and to the three that follow.
    assert same(program)[1] == 4


def test_another_pickler_gets_the_texts_of_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    def program(pool: Pool) -> object:
        noted.clear()
        with monkeypatch.context() as patch:
            patch.setattr("multiprocessing.connection._ForkingPickler", Noting)
            seen = [pool.apply(look, (words(), x)) for x in range(3)]
            seen += pool.imap(partial(look, words()), range(3))
        return seen, len(noted)

    assert same(program)[1] >= 6


# --- at random --------------------------------------------------------------------------------------

characters = st.characters(codec="utf-8") | st.sampled_from("aé\u20ac\U0001f600")
text = st.text(characters, max_size=6)


@st.composite
def lists(draw: st.DrawFn) -> Any:
    """Texts of one kind, or rarely not, some of them in several places, repeated to be heavy."""
    kinds = st.sampled_from([text, text, st.binary(max_size=6), st.text(max_size=6)])
    few = draw(st.lists(draw(kinds), min_size=1, max_size=8))
    few += [pickle.loads(pickle.dumps(x)) for x in few]
    order = draw(st.lists(st.integers(0, len(few) - 1), min_size=1, max_size=40))
    some = [few[i] for i in order]
    fresh = draw(st.booleans())
    whole: list[Any] = []
    while len(whole) < 2100:
        # Equal ones that are other objects, or the same again.
        whole += [pickle.loads(pickle.dumps(x)) for x in some] if fresh else some
    return draw(st.sampled_from([list, tuple]))(whole)


stored: list[Any] = []


def keep(value: Any) -> object:
    stored[:] = [value]
    return picture(value)


def kept(x: object) -> Any:
    return stored[0]


def test_any_list_arrives_as_pickle_brings_it() -> None:
    """As an argument, bound, and as a result."""
    with running(1) as pool:

        @given(value=lists())
        @settings(max_examples=60, deadline=None)
        def check(value: Any) -> None:
            loaded = pickle.loads(ForkingPickler.dumps(value))
            expected = picture(loaded)
            assert pool.apply(keep, (value,)) == expected
            result = pool.apply(kept, (0,))
            assert picture(result) == picture(pickle.loads(ForkingPickler.dumps(loaded)))
            assert pool.apply(partial(keep, value)) == expected
            assert pool.apply(keep, (value,)) == expected

        check()
