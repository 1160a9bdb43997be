"""Large arguments, sent once where they come again: the same answers."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from testkit.oracle import Pool, assert_same
from testkit.pools import running

from exactness.twin import same

LENGTH = 5000

MAKERS: dict[str, Callable[[], Any]] = {
    "ints": lambda: list(range(LENGTH)),
    "floats": lambda: [x / 4 for x in range(LENGTH)],
    "wide": lambda: [x << 50 for x in range(LENGTH)],
    "tuple of ints": lambda: tuple(range(LENGTH)),
    "words": lambda: [f"word {x}" for x in range(LENGTH)],
    "bytes": lambda: [b"%d" % x for x in range(LENGTH)],
    "mixed": lambda: [None, True, 1.5, "x", b"y", 2**70] * LENGTH,
}

everything = pytest.mark.parametrize("maker", MAKERS)


def look(*args: Any, **kwds: Any) -> Any:
    """What a task sees: ends, lengths, and which arguments are one object."""
    heavy = [a for a in (*args, *kwds.values()) if isinstance(a, list | tuple)]
    ends = [(type(a).__name__, len(a), a[:2], a[-1]) for a in heavy]
    return ends, [[a is b for b in heavy] for a in heavy], [a for a in args if type(a) is int]


def spoil(x: int, data: Any) -> Any:
    """Look, then change what can be changed."""
    seen = (x, len(data), data[0], data[-1])
    if isinstance(data, list):
        data[0] = "spoilt"
        data.append(x)
    return seen


@everything
def test_an_argument_that_comes_again_arrives_as_it_is(maker: str) -> None:
    def program(pool: Pool) -> object:
        big = MAKERS[maker]()
        return [
            [pool.apply(look, (big, x)) for x in range(4)],
            [r.get() for r in [pool.apply_async(look, (x, big), {"k": big}) for x in range(4)]],
            pool.starmap(look, [(x, big) for x in range(6)], chunksize=2),
            pool.starmap(look, [(x, big, big) for x in range(3)], chunksize=1),
            list(pool.imap(look, [big] * 4)),
            pool.map(look, [big, list(big), big, big], chunksize=2),
        ]

    same(program)


@everything
def test_each_task_has_an_argument_of_its_own(maker: str) -> None:
    def program(pool: Pool) -> object:
        big = MAKERS[maker]()
        return [
            [pool.apply(spoil, (x, big)) for x in range(4)],
            pool.starmap(spoil, [(x, big) for x in range(6)], chunksize=3),
            list(pool.imap(functools.partial(spoil, 7), [big] * 4)),
        ]

    same(program)


@everything
def test_what_the_parent_changes_between_calls_is_seen(maker: str) -> None:
    def program(pool: Pool) -> object:
        big = MAKERS[maker]()
        seen = []
        for x in range(6):
            seen.append(pool.apply(look, (x, big)))
            if isinstance(big, list):
                big[x] = big[-1 - x]
                if x == 3:
                    big.pop()
        return seen

    same(program)


@everything
def test_an_argument_that_is_bound_too_is_one_object(maker: str) -> None:
    def program(pool: Pool) -> object:
        big = MAKERS[maker]()
        bound = functools.partial(look, big, k=big)
        return [pool.apply(bound, (big, x)) for x in range(3)], list(pool.imap(bound, [big] * 3))

    same(program)


def is_item_of(item: Any, data: Any) -> Any:
    """Where in data the very item stands."""
    return [i for i, one in enumerate(data) if one is item][:3]


@pytest.mark.parametrize("maker", ["words", "bytes", "mixed"])
def test_an_item_of_a_large_argument_arrives_as_its_item(maker: str) -> None:
    def program(pool: Pool) -> object:
        big = MAKERS[maker]()
        texts = [item for item in big[:9] if isinstance(item, str | bytes)]
        seen = []
        for item in texts:
            seen.append(pool.apply(is_item_of, (item, big)))
            seen.append(pool.apply(is_item_of, (), {"data": big, "item": item}))
        seen.append(pool.starmap(is_item_of, [(item, big) for item in texts], chunksize=2))
        return seen

    same(program)


kept: list[Any] = []


def keep(x: int, data: Any) -> Any:
    kept.append(data)
    return x, len(kept), [len(one) for one in kept], [one is data for one in kept]


@everything
def test_an_argument_that_a_task_keeps_stays_as_it_was(maker: str) -> None:
    def program(pool: Pool) -> object:
        big = MAKERS[maker]()
        return [pool.apply(keep, (x, big)) for x in range(4)]

    same(program)


class Wrapper:
    """As scikit-learn wraps each task: a new object around the same data."""

    def __init__(self, x: int, data: Any) -> None:
        self.x = x
        self.data = data

    def __call__(self) -> Any:
        return self.x, look(self.data, self.data, self.x)


@everything
def test_new_wrappers_around_the_same_data_give_the_same_answers(maker: str) -> None:
    def program(pool: Pool) -> object:
        big = MAKERS[maker]()
        results = [pool.apply_async(Wrapper(x, big)) for x in range(4)]
        return [result.get() for result in results]

    same(program)


def test_another_argument_at_the_same_place_is_not_taken_for_the_old_one() -> None:
    def program(pool: Pool) -> object:
        return [pool.apply(look, (list(range(x, x + LENGTH)), x)) for x in range(8)]

    same(program)


class Meddler:
    """Its pickling changes the list that is an argument as well."""

    def __init__(self, data: list[Any]) -> None:
        self.data = data

    def __reduce__(self) -> Any:
        self.data[1] = "meddled"
        self.data.append(1)
        return (int, (7,))


def test_an_argument_that_another_ones_pickling_changes_is_pickled_as_it_then_is() -> None:
    def program(pool: Pool) -> object:
        big = list(range(LENGTH))
        meddler = Meddler(big)
        before = [pool.apply(look, (meddler, big)) for _ in range(3)]
        after = [pool.apply(look, (big, meddler)) for _ in range(3)]
        return before, after, [pool.apply(look, (big, meddler, big)) for _ in range(3)]

    assert_same(program)


def test_stats_tell_what_became_of_each_argument() -> None:
    big, words, nested = list(range(LENGTH)), ["word"] * LENGTH, [[x] for x in range(LENGTH)]
    opaque = [uuid.UUID(int=x) for x in range(LENGTH)]
    with running(1) as pool:
        for x in range(4):
            pool.apply(look, (x, big), {"words": words})
        for x in range(3):
            pool.apply(functools.partial(look, data=nested, other=opaque), (x,))
        stats = pool.stats()
    parts = {(part.callable, part.place): part for part in stats.parts}
    sent = parts["look", "argument 1"]
    assert (sent.rung, sent.kind, sent.sent) == ("verified", f"list of {LENGTH}", 4)
    assert (sent.pickled, sent.verified, sent.changed) == (2, 2, 0)
    # The last proof may still be going on.
    assert sent.loaded == 2 and sent.proved in (2, 3), sent
    named = parts["look", "argument['words']"]
    assert (named.rung, named.sent) == ("verified", 3)
    walked = parts["look", "bound['data']"]
    assert (walked.rung, walked.pickled, walked.sent) == ("verified", 1, 3)
    # What has a pickler of its own does not drag down what lies beside it.
    other = parts["look", "bound['other']"]
    assert (other.rung, other.sent, other.bytes) == ("pickled", 0, 0)
    assert "UUID" in other.reason
    text = str(stats)
    assert "argument 1" in text and "tasks_completed" in text


TEXTS: dict[str, Callable[[], Any]] = {
    "bytes": lambda: b"\x00\xff" * 200_000,
    "ascii": lambda: "abcd" * 100_000,
    "wide text": lambda: "\u1234\U0001f600" * 100_000,
}

texts = pytest.mark.parametrize("maker", TEXTS)


def weigh(x: int, *data: Any, **named: Any) -> Any:
    """What a task sees of long texts: type, length, ends, and which are one object."""
    everything = [*data, *named.values()]
    for holder in [d for d in everything if isinstance(d, list)]:
        everything.extend(holder)
    long = [d for d in everything if isinstance(d, str | bytes)]
    ends = [(type(d).__name__, len(d), d[:2], d[-1:]) for d in long]
    return x, ends, [[a is b for b in long] for a in long]


@texts
def test_a_long_text_arrives_as_it_is(maker: str) -> None:
    def program(pool: Pool) -> object:
        text = TEXTS[maker]()
        other = TEXTS[maker]()
        return [
            list(pool.imap(functools.partial(weigh, 1, text, other, text), range(3))),
            [pool.apply(weigh, (x, text, [text, other]), {"k": other}) for x in range(4)],
            pool.starmap(weigh, [(x, text, other) for x in range(4)], chunksize=2),
            pool.map(functools.partial(weigh, 2), [text, other, text], chunksize=2),
            pool.apply(functools.partial(weigh, 3, text, uuid.UUID(int=1)), (text,)),
            [pool.apply(echo_text, (text,)) == text for _ in range(3)],
        ]

    same(program)


def echo_text(text: Any) -> Any:
    return text


@texts
def test_a_long_text_is_sent_once(maker: str) -> None:
    text = TEXTS[maker]()
    with running(1) as pool:
        list(pool.imap(functools.partial(weigh, 1, text), range(6)))
        for _ in range(6):
            pool.apply(weigh, (1, text))
        parts = pool.stats().parts
        assert sum(part.pickled for part in parts) <= 2
        assert pool.stats()["bytes_pickled"] < 4 * len(text) * 4


def keep_text(x: int, text: Any) -> int:
    texts_kept.append(text)
    return len(texts_kept)


texts_kept: list[Any] = []


def test_a_task_may_keep_a_long_text() -> None:
    def program(pool: Pool) -> object:
        text = "x" * 500_000
        counts = [pool.apply(keep_text, (x, text)) for x in range(4)]
        del text
        return counts, pool.apply(lengths_kept), pool.apply(keep_text, (1, "y" * 500_000))

    same(program)


def lengths_kept() -> Any:
    return [len(text) for text in texts_kept], "".join(text[0] for text in texts_kept)


class Interloper:
    """When it is pickled it changes what comes after it."""

    def __init__(self, target: list[Any]) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        self.target[0] = "changed meanwhile"
        self.target[-1] = self.target[1]
        return (Interloper, ([],))


def three(one: Any, meddler: Any, two: Any) -> Any:
    return one[:2], one[-2:], two[:2], two[-2:], [a is b for a, b in zip(one, two, strict=True)][:3]


@pytest.mark.parametrize("target", [0, 1])
def test_two_parts_that_share_objects_and_code_that_runs_in_between(target: int) -> None:
    def program(pool: Pool) -> object:
        word = "a word"
        one: list[Any] = [f"one {x}" for x in range(LENGTH)]
        two: list[Any] = [f"two {x}" for x in range(LENGTH)]
        one[1] = two[1] = word
        meddler = Interloper((one, two)[target])
        func = functools.partial(three, one, meddler, two)
        return [[pool.apply(func) for _ in range(3)], [pool.apply(three, (two, meddler, one))]]

    same(program)


def test_two_parts_that_share_objects_are_stored_once() -> None:
    word = "a word"
    one: list[Any] = [word, *map(str, range(LENGTH))]
    two: list[Any] = [*map(str, range(LENGTH)), word]
    with running(1) as pool:
        func = functools.partial(share_word, one, two)
        assert pool.map(func, range(10), chunksize=1) == [True] * 10
        # Each by itself, then both as one.
        assert pool.stats()["heavy_parts_pickled"] <= 3


def share_word(one: Any, two: Any, _x: int) -> bool:
    return one[0] is two[-1]
