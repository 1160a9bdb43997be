"""Packed lists and tuples of texts by themselves: what is unpacked is what pickle makes, and bytes
that cannot be true are an error."""

from __future__ import annotations

import pickle
import struct
from typing import Any

import pytest
from exactness.packed_material import picture
from hypothesis import given, settings
from hypothesis import strategies as st
from millpond._native import pack, unpack

DAMAGED = "a payload in shared memory is damaged"
STR, BYTES, TUPLE = 4, 5, 8
"""Kinds, as they stand in the store's directory."""
REPEAT = 1 << 31


def packed(value: Any, *, comes_once: bool = False) -> tuple[int, bytes]:
    found = pack(value, comes_once)
    assert found is not None
    return found


def head(*words: int) -> bytes:
    return struct.pack(f"={len(words)}I", *words)


# A text is drawn once, so that the same one in two places is one object.
def several(kind: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    def arranged(few: list[Any]) -> st.SearchStrategy[list[Any]]:
        again = [pickle.loads(pickle.dumps(x)) for x in few]
        return st.lists(st.sampled_from(few + again), min_size=1, max_size=60)

    return st.lists(kind, min_size=1, max_size=12).flatmap(arranged)


texts = st.text(st.characters(codec="utf-8"), max_size=9)
lists = several(texts) | several(st.binary(max_size=9)) | several(st.text("a\xe9", max_size=1))


@given(
    value=lists, times=st.integers(1, 60), is_list=st.booleans(), protocol=st.sampled_from([4, 5])
)
@settings(max_examples=300, deadline=None)
def test_what_is_unpacked_is_what_pickle_makes(
    value: list[Any], times: int, is_list: bool, protocol: int
) -> None:
    whole = (list if is_list else tuple)(value * times)
    kind, packed_bytes = packed(whole)
    found = unpack(kind, packed_bytes)
    assert picture(found) == picture(pickle.loads(pickle.dumps(whole, protocol)))
    # With repeats, and other references too: these are in the drawn list.
    assert type(found) is type(whole) and list(found) == list(whole)


@given(value=st.lists(st.text(max_size=5), min_size=1, max_size=30))
@settings(max_examples=200, deadline=None)
def test_texts_with_surrogates_are_left_to_pickle_and_no_others(value: list[str]) -> None:
    has_surrogate = any("\ud800" <= x <= "\udfff" for x in "".join(value))
    assert (pack(value, False) is None) == has_surrogate


@given(data=st.data())
@settings(max_examples=400, deadline=None)
def test_changed_bytes_are_an_error_or_texts(data: st.DataObject) -> None:
    """Whatever another process leaves there, nothing is read beside it."""
    kind, whole = packed(data.draw(lists))
    changed = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        # The words in front are where it matters.
        last = data.draw(st.sampled_from([min(40, len(changed)), len(changed)])) - 1
        changed[data.draw(st.integers(0, last))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(changed)) | st.just(len(changed)))
    try:
        found = unpack(kind, bytes(changed[:cut]))
    except RuntimeError as error:
        assert str(error) == DAMAGED
    else:
        expected = str if kind & ~TUPLE == STR else bytes
        assert {type(x) for x in found} <= {expected}


@given(value=lists)
@settings(max_examples=100, deadline=None)
def test_bytes_that_are_cut_off_or_continued_are_an_error(value: list[Any]) -> None:
    kind, whole = packed(value)
    for wrong in [whole + b"x", *(whole[:end] for end in range(len(whole)))]:
        with pytest.raises(RuntimeError, match=DAMAGED):
            unpack(kind, wrong)


WRONG: dict[str, tuple[int, bytes]] = {
    "nothing": (STR, b""),
    "half a head": (STR, b"\0\0"),
    "more texts than bytes": (STR, head(2**32 - 1)),
    "a text beyond the end": (STR, head(1, 3) + b"ab"),
    "a text far beyond the end": (BYTES, head(2, 1, REPEAT - 1) + b"ab"),
    "a repeat of itself": (STR, head(1, REPEAT)),
    "a repeat of a later one": (STR, head(2, REPEAT | 1, 1) + b"a"),
    "a repeat of none": (BYTES | TUPLE, head(2, 1, REPEAT | 7) + b"a"),
    "no UTF-8": (STR, head(1, 2) + b"\xc3("),
    "half a character": (STR, head(1, 1) + b"\xe4"),
    "beyond Unicode": (STR | TUPLE, head(1, 4) + b"\xf7\xbf\xbf\xbf"),
    "a pickle": (0, pickle.dumps(["a"])),
}


@pytest.mark.parametrize("kind", WRONG)
def test_bytes_that_cannot_be_true_are_an_error(kind: str) -> None:
    with pytest.raises(RuntimeError, match=DAMAGED):
        unpack(*WRONG[kind])


def test_bytes_are_laid_out_as_they_are_described() -> None:
    """What the wrong ones above are made of is right when nothing is wrong with it."""
    found = unpack(STR | TUPLE, head(3, 1, 2, REPEAT | 1) + "a\xe9".encode())
    assert found == ("a", "\xe9", "\xe9")
    assert unpack(BYTES, head(2, 0, 1) + b"x") == [b"", b"x"]


class Named(str):
    """A text of the user's."""


@pytest.mark.parametrize(
    "value",
    [[], (), [None], ["a", b"a"], [b"a", "a"], ["a", 1], ["a", Named("b")], [Named("b")],
     [b"a", bytearray(b"a")], [["a"]], ["x" * 2**17], [b"x" * 2**17], ["\u20ac" * 2**16],
     ["x" * 257] * 200 + [str(i) * 300 for i in range(200)]],
    ids=lambda value: repr(value)[:24],
)  # fmt: skip
def test_all_else_is_left_to_pickle(value: Any) -> None:
    assert pack(value, False) is None
    assert pack(tuple(value), False) is None


def test_what_comes_once_is_packed_only_if_nothing_else_refers_to_it() -> None:
    held = "".join(["a", " text"])
    assert pack([f"{i} texts" for i in range(9)], True) is not None
    assert pack([*(f"{i} texts" for i in range(9)), held], True) is None
    twice = ["".join(["a", " text"])] * 2
    assert pack(twice, True) is None
    assert pack(["", "x", "\xe9", chr(233)], True) is not None
    assert pack(["\u20ac" * 1 for _ in range(3)][:1] * 2, True) is None
    assert pack([b"", b""], True) is not None
    assert pack([b"x", b"x"], True) is None


def test_every_kind_of_text_has_a_kind_of_its_own() -> None:
    values: list[Any] = [
        ["a"],
        ("a",),
        [b"a"],
        (b"a",),
        [1],
        (1,),
        [2**40],
        (2**40,),
        [1.5],
        (1.5,),
    ]
    kinds = [packed(value)[0] for value in values]
    assert len(set(kinds)) == len(values) and 0 not in kinds
    assert [unpack(*packed(value)) for value in values] == values
