"""Frames of the direct codec by themselves: what is decoded is what was encoded, and bytes that cannot
be true are an error."""

from __future__ import annotations

import pickle
import random
import struct
import tracemalloc
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from millpond._native import decode, encode
from testkit.forms import by_form
from testkit.work import identity, keywords, square

DAMAGED = "a payload in shared memory is damaged"
NONE, TRUE, FALSE, INT, FLOAT, STR, BYTES, TUPLE, INTS, FLOATS = range(10)
LIST, LIST_OF_INTS, LIST_OF_FLOATS, AGAIN, NO_TAG = range(10, 15)
"""Tags, as they stand before values."""
WORDS = [0, 1, 2, 7, 48, 49, 1 << 16, 1 << 29, (1 << 29) + 1, 1 << 30, 1 << 31, (1 << 32) - 1]
"""Lengths and numbers that are wrong nearly anywhere, those among them that wrap when multiplied."""
CALLABLES: list[Callable[..., object]] = [square, identity, keywords, dict, OrderedDict]
pytestmark = pytest.mark.limit_s(by_form(60, 900))
EXAMPLES = by_form(150, 3000)
CHANGES = 30
"""Changed frames of each that is drawn: to draw one takes longer than to decode it."""
SMALL_BYTES = 1 << 18
BYTES_FOR_EACH = 128
"""Memory that reading may take, at all and for each byte of a frame: rows of nine levels may have a
pointer each for every byte that follows, and an object takes less than 20 for each of its own."""

# An object is drawn once, so that the same one in two places is one object.
atoms: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.text(max_size=9),
    st.text(st.characters(), max_size=9),
    st.binary(max_size=9),
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=4, max_size=9).map(tuple),
    st.lists(st.floats(), min_size=4, max_size=9).map(tuple),
)


def arranged(few: list[Any]) -> st.SearchStrategy[Any]:
    def grown(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return st.lists(inner, max_size=6).map(tuple)

    return st.recursive(st.sampled_from(few), grown, max_leaves=12)


values = st.lists(atoms, min_size=1, max_size=5).flatmap(arranged)
tuples = st.lists(values, max_size=5).map(tuple)
results = (
    values | st.lists(values, max_size=9) | st.lists(st.integers(-9, 9), min_size=4, max_size=9)
)
seeds = st.integers(0, 2**32 - 1)
tasks = st.tuples(
    st.sampled_from(CALLABLES),
    tuples,
    st.none() | st.dictionaries(st.text("abcé", max_size=3), values, max_size=3),
)


def picture(value: Any) -> list[Any]:
    """All of a value that a program can see, and which of its parts are one object.

    Each object is looked at once: a frame of few bytes can have more paths through its tuples than
    anybody can walk.
    """
    found = [value]
    numbers = {id(value): 0}
    rows: list[Any] = []
    for one in found:
        inner: list[Any] = []
        if type(one) in (tuple, list):
            inner = list(one)
        elif type(one) is dict:
            inner = [x for pair in one.items() for x in pair]
        for x in inner:
            if id(x) not in numbers:
                numbers[id(x)] = len(found)
                found.append(x)
        exact = struct.pack("<d", one) if type(one) is float else one
        rows.append((type(one), [numbers[id(x)] for x in inner] if inner else exact))
    return rows


def pickled(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


def encoded(value: Any, func: Callable[..., object] | None = None, kwds: Any = None) -> bytes:
    """A frame; for the few values that are left to pickle there is none, and another is drawn."""
    frame = encode(func, value, kwds)
    assume(frame is not None)
    assert frame is not None
    return frame


@given(value=results)
@settings(max_examples=EXAMPLES, deadline=None)
def test_a_result_is_decoded_to_what_pickle_makes(value: Any) -> None:
    found = decode(encoded(value), False, False)
    assert picture(found) == picture(pickled(value))


@given(task=tasks)
@settings(max_examples=EXAMPLES, deadline=None)
def test_a_task_is_decoded_to_what_pickle_makes(task: tuple[Any, Any, Any]) -> None:
    func, args, kwds = task
    found, *rest = decode(encoded(args, func, kwds), True, kwds is not None)
    assert found is func
    # No keywords are none to the function, whichever way they came.
    assert picture(rest) == picture(list(pickled((args, kwds or None))))


def changed(frame: bytes, other: bytes, rng: random.Random) -> bytes:
    """A frame that a memory fault, a mad peer, or another frame's end has come over."""
    now = bytearray(frame)
    for _ in range(rng.randint(1, 4)):
        at = rng.randint(0, len(now))
        match rng.choice(["flip", "byte", "tag", "word", "cut", "extend", "splice"]):
            case "flip" if at < len(now):
                now[at] ^= 1 << rng.randrange(8)
            case "byte":
                now[at : at + 1] = rng.randbytes(rng.randrange(4))
            case "tag":
                now[at : at + 1] = bytes([rng.randint(0, NO_TAG)])
            case "word":
                now[at : at + 4] = struct.pack("<I", rng.choice(WORDS))
            case "cut":
                del now[at:]
            case "extend":
                now += rng.randbytes(rng.randrange(40))
            case "splice":
                now[at:] = other[rng.randint(0, len(other)) :]
    return bytes(now)


def decoded(frame: bytes, is_task: bool, has_keywords: bool) -> Any:
    """What a frame is decoded to, or the error that this is; and not with more memory than it may."""
    tracemalloc.start()
    try:
        found = decode(frame, is_task, has_keywords)
    except Exception as error:
        found = error
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak <= SMALL_BYTES + BYTES_FOR_EACH * len(frame), f"{peak} for {len(frame)}: {frame!r}"
    return found


def is_told(error: Exception) -> bool:
    """Whether it is an error of damage, or the interpreter's own of a character beyond Unicode."""
    beyond = isinstance(error, SystemError) and "invalid maximum character" in str(error)
    return beyond or (isinstance(error, RuntimeError) and str(error) == DAMAGED)


def check(value: Any) -> None:
    """What a frame may be decoded to is whole, and is decoded to the same once more."""
    rows = picture(value)
    assert {kind for kind, _ in rows} <= {type(None), bool, int, float, str, bytes, tuple, list}
    frame = encode(None, value, None)
    if frame is not None:
        assert picture(decode(frame, False, False)) == rows


@given(seed=seeds, value=results, other=results)
@settings(max_examples=EXAMPLES, deadline=None)
def test_a_changed_result_is_an_error_or_a_value(seed: int, value: Any, other: Any) -> None:
    """Whatever another process leaves there, nothing is read beside it and nothing huge is made."""
    frames = encoded(value), encoded(other)
    rng = random.Random(seed)
    for _ in range(CHANGES):
        frame = changed(*frames, rng)
        found = decoded(frame, False, False)
        if isinstance(found, Exception):
            assert is_told(found), (found, frame)
        else:
            check(found)


@given(seed=seeds, task=tasks, other=tasks)
@settings(max_examples=EXAMPLES, deadline=None)
def test_a_changed_task_is_an_error_or_a_task(seed: int, task: Any, other: Any) -> None:
    one, two = (encoded(args, func, kwds) for func, args, kwds in (task, other))
    rng = random.Random(seed)
    for _ in range(CHANGES):
        frame = changed(one, two, rng)
        found = decoded(frame, True, rng.random() < 0.5)
        if isinstance(found, Exception):
            # Names that mean nothing are the unpickler's errors.
            is_of_names = isinstance(found, ImportError | AttributeError | ValueError)
            assert is_of_names or is_told(found), (found, frame)
            continue
        _, args, kwds = found
        assert type(args) is tuple
        check(args)
        assert kwds is None or type(kwds) is dict
        for pair in (kwds or {}).items():
            check(pair)


@given(data=st.binary(max_size=200))
@settings(max_examples=EXAMPLES, deadline=None)
def test_any_bytes_are_an_error_or_a_value(data: bytes) -> None:
    found = decoded(data, False, False)
    if isinstance(found, Exception):
        assert is_told(found), repr(found)
    else:
        check(found)


@given(value=results)
@settings(max_examples=EXAMPLES // 4, deadline=None)
def test_a_result_that_is_cut_off_or_continued_is_an_error(value: Any) -> None:
    whole = encoded(value)
    for wrong in [whole + b"\0", *(whole[:end] for end in range(len(whole)))]:
        with pytest.raises(RuntimeError, match=DAMAGED):
            decode(wrong, False, False)


@given(task=tasks)
@settings(max_examples=EXAMPLES // 4, deadline=None)
def test_a_task_that_is_cut_off_or_continued_is_an_error(task: tuple[Any, Any, Any]) -> None:
    func, args, kwds = task
    whole = encoded(args, func, kwds)
    for wrong in [whole + b"\0", *(whole[:end] for end in range(len(whole)))]:
        with pytest.raises(RuntimeError, match=DAMAGED):
            decode(wrong, True, kwds is not None)


def head(tag: int, length: int) -> bytes:
    return struct.pack("<BI", tag, length)


def text(kind: int, length: int, characters: bytes = b"") -> bytes:
    return struct.pack("<BBI", STR, kind, length) + characters


def name(of: bytes) -> bytes:
    return struct.pack("<H", len(of)) + of


def task_of(second: bytes, kwds: bytes = b"") -> bytes:
    return name(square.__module__.encode()) + name(b"square") + second + kwds


NOTHING = bytes([NONE])
EMPTY_TUPLE = head(TUPLE, 0)
WRONG: dict[str, bytes] = {
    "nothing": b"",
    "no tag": bytes([NO_TAG]),
    "the last byte": b"\xff",
    "half an int": bytes([INT]) + b"\0" * 7,
    "half a float": bytes([FLOAT]) + b"\0" * 7,
    "half a length": bytes([BYTES]) + b"\0" * 3,
    "bytes beyond the end": head(BYTES, 3) + b"ab",
    "bytes far beyond the end": head(BYTES, (1 << 32) - 1) + b"ab",
    "characters of no kind": text(0, 0),
    "characters of three bytes": text(3, 1, b"abc"),
    "a text beyond the end": text(1, 3, b"ab"),
    "a text far beyond the end": text(4, (1 << 32) - 1, b"abcd"),
    "a text whose length wraps": text(4, 1 << 30, b"abcd"),
    "a tuple of more than bytes": head(TUPLE, 3) + NOTHING * 2,
    "a huge tuple": head(TUPLE, (1 << 32) - 1) + NOTHING,
    "a huge list": head(LIST, (1 << 32) - 1) + NOTHING,
    "more ints than bytes": head(INTS, 2) + b"\0" * 15,
    "ints whose length wraps": head(INTS, 1 << 29) + b"\0" * 8,
    "floats whose length wraps": head(FLOATS, (1 << 29) + 1) + b"\0" * 8,
    "a list whose length wraps": head(LIST_OF_INTS, 1 << 29) + b"\0" * 8,
    "more listed floats than bytes": head(LIST_OF_FLOATS, 1),
    "none again": head(AGAIN, 0),
    "a later one again": head(TUPLE, 2) + head(AGAIN, 0) + head(BYTES, 0),
    "itself again": head(TUPLE, 1) + head(AGAIN, 0),
    "an empty tuple again": head(TUPLE, 2) + EMPTY_TUPLE + head(AGAIN, 0),
    "a list in a tuple": head(TUPLE, 1) + head(LIST, 0),
    "a list in a list": head(LIST, 1) + head(LIST, 0),
    "listed ints in a list": head(LIST, 1) + head(LIST_OF_INTS, 0),
    "tuples too deep": head(TUPLE, 1) * 10 + NOTHING,
    "tuples far too deep": head(TUPLE, 1) * 100_000 + NOTHING,
    "a huge tuple at each level": head(TUPLE, 30_000) * 12_000,
    "two values": NOTHING * 2,
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_result_that_cannot_be_true_is_an_error(kind: str) -> None:
    found = decoded(WRONG[kind], False, False)
    assert isinstance(found, RuntimeError) and str(found) == DAMAGED


@pytest.mark.parametrize("character", [0x110000, 0x7FFFFFFF, 0xFFFFFFFF], ids=hex)
@pytest.mark.parametrize(
    "count",
    [
        1,
        2,
        9,
    ],
)
def test_characters_beyond_unicode_are_an_error(character: int, count: int) -> None:
    found = decoded(text(4, count, struct.pack("<I", character) * count), False, False)
    assert isinstance(found, Exception) and is_told(found)


WRONG_TASKS: dict[str, bytes] = {
    "nothing": b"",
    "half a name's length": b"\1",
    "a name beyond the end": struct.pack("<H", 4) + b"abc",
    "one name": name(b"builtins"),
    "a name that is no UTF-8": name(b"\xff") + name(b"square") + EMPTY_TUPLE,
    "an argument that is no tuple": task_of(NOTHING),
    "a list of arguments": task_of(head(LIST, 0)),
    "none again": task_of(head(AGAIN, 0)),
    "half a count of keywords": task_of(EMPTY_TUPLE, b"\0\0\0"),
    "more keywords than there are": task_of(EMPTY_TUPLE, struct.pack("<I", 1)),
    "far more keywords": task_of(EMPTY_TUPLE, struct.pack("<I", (1 << 32) - 1) + text(1, 1, b"a") * 3),
    "a keyword without a value": task_of(EMPTY_TUPLE, struct.pack("<I", 1) + text(1, 1, b"a")),
    "a list for a value": task_of(EMPTY_TUPLE, struct.pack("<I", 1) + text(1, 1, b"a") + head(LIST, 0)),
    "bytes behind the keywords": task_of(EMPTY_TUPLE, struct.pack("<I", 0) + NOTHING),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG_TASKS)
def test_a_task_that_cannot_be_true_is_an_error(kind: str) -> None:
    found = decoded(WRONG_TASKS[kind], True, True)
    assert isinstance(found, RuntimeError) and str(found) == DAMAGED


def test_a_keyword_that_is_no_text_is_an_error() -> None:
    """The hash of a tuple of tuples of the same tuple and so on takes years."""
    keyword = bytes([INT]) + b"\0" * 8 + NOTHING
    found = decoded(task_of(EMPTY_TUPLE, struct.pack("<I", 1) + keyword), True, True)
    assert isinstance(found, RuntimeError) and str(found) == DAMAGED


def test_frames_are_laid_out_as_they_are_described() -> None:
    """What the wrong ones above are made of is right when nothing is wrong with it."""
    found = decode(
        head(TUPLE, 3) + text(2, 1, b"\xac\x20") + head(AGAIN, 0) + NOTHING, False, False
    )
    assert found == ("\u20ac", "\u20ac", None) and found[0] is found[1]
    assert decode(head(TUPLE, 1) * 9 + NOTHING, False, False) == (((((((((None,),),),),),),),),)
    assert decode(head(LIST, 2) + bytes([TRUE, FALSE]), False, False) == [True, False]
    assert decode(head(LIST_OF_INTS, 1) + b"\1" + b"\0" * 7, False, False) == [1]
    keywords = struct.pack("<I", 1) + text(1, 1, b"a") + head(BYTES, 1) + b"b"
    assert decode(task_of(EMPTY_TUPLE, keywords), True, True) == (square, (), {"a": b"b"})
    assert decode(task_of(EMPTY_TUPLE), True, False) == (square, (), None)
