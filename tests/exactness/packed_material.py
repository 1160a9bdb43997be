"""Lists and tuples of texts, what is packed of them and what is not, and all that can be seen of
one."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable
from typing import Any

from exactness.twin import portrait

LENGTH = 3300
"""Above what is heavy, and no multiple of the batches in which pickle fills a list."""

ONLY = ["", b"", *map(chr, range(256)), *(bytes([i]) for i in range(256))]
"""Texts of which the interpreter keeps one object."""
ONLY_IDS = {id(text) for text in ONLY}

LABELS = [f"label {i}" for i in range(40)]


class Named(str):
    """A text of the user's."""


class Raw(bytes):
    """Bytes of the user's."""


def words() -> list[Any]:
    return [f"word {i}" for i in range(LENGTH)]


def raws() -> list[Any]:
    return [b"%d" % i for i in range(LENGTH)]


def other(text: str) -> str:
    """An equal text that is another object."""
    return "".join(list(text))


def put(items: list[Any], at: int, item: object) -> list[Any]:
    items[at] = item
    return items


PACKED: dict[str, Callable[[], Any]] = {
    "words": words,
    "tuple of words": lambda: tuple(words()),
    "bytes": raws,
    "tuple of bytes": lambda: tuple(raws()),
    "labels": lambda: [LABELS[i * 7 % 40] for i in range(LENGTH)],
    "tuple of labels": lambda: tuple(LABELS[i * 7 % 40] for i in range(LENGTH)),
    "one text": lambda: ["the very same"] * LENGTH,
    "bytes twice": lambda: [x for raw in raws() for x in (raw, raw)],
    "equal ones": lambda: [other(f"word {i // 3}") for i in range(LENGTH)],
    "equal bytes": lambda: [b"%d" % (i // 3) for i in range(LENGTH)],
    "interned": lambda: [sys.intern(word) for word in words()],
    "empty": lambda: ["" for _ in range(LENGTH)],
    "empty bytes": lambda: [b"" for _ in range(LENGTH)],
    "characters": lambda: [chr(i % 700) for i in range(LENGTH)],
    "single bytes": lambda: [bytes([i % 256]) for i in range(LENGTH)],
    "short ones": lambda: ["word %d"[: i % 7] + chr(i) * (i % 4) for i in range(LENGTH)],
    "latin": lambda: [f"\xe9\xff{i}\x80" for i in range(LENGTH)],
    "cyrillic": lambda: [f"\u0436\u0430{i}" for i in range(LENGTH)],
    "astral": lambda: [f"{i}\U0001f600\U0010ffff" for i in range(LENGTH)],
    "zeros": lambda: ["\x00" * (i % 9) for i in range(LENGTH)],
    "edges": lambda: [chr([0x7F, 0x80, 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFFFF][i % 7]) * 2
                      for i in range(LENGTH)],
    "a longer one": lambda: put(words(), 3000, "x" * 100_000),
    "just heavy": lambda: words()[:2048],
    "whole batches": lambda: words()[:3000],
    "one more": lambda: words()[:3001],
}  # fmt: skip

NOT_PACKED: dict[str, Callable[[], Any]] = {
    "a number last": lambda: [*words(), 7],
    "none first": lambda: [None, *words()],
    "bytes among texts": lambda: put(words(), 3000, b"raw"),
    "a text among bytes": lambda: put(raws(), 3000, "text"),
    "a subclass": lambda: put(words(), 3000, Named("named")),
    "a subclass of bytes": lambda: put(raws(), 3000, Raw(b"raw")),
    "a lone surrogate": lambda: put(words(), 3000, "x\ud800"),
    "a pair of surrogates": lambda: put(words(), 3000, "\ud83d\ude00"),
    "a part of its own": lambda: put(words(), 3000, "x" * 2**17),
    "bytes of their own": lambda: put(raws(), 3000, b"x" * 2**17),
    "long ones": lambda: [f"{i}" * 300 for i in range(LENGTH)],
}

MATERIALS = {**PACKED, **NOT_PACKED}


def picture(value: Any) -> tuple[object, ...]:
    """Types, values, identities, sizes, and which texts are those of which there is one."""
    alone = [id(item) in ONLY_IDS for item in value]
    # One of which there is only one may remember its UTF-8 since before the workers were forked.
    sizes = [0 if one else sys.getsizeof(item) for item, one in zip(value, alone, strict=True)]
    drawn = repr((portrait(value, atoms=True), sizes, alone)).encode(errors="surrogatepass")
    return type(value).__name__, len(value), sys.getsizeof(value), zlib.crc32(drawn)
