"""Descriptions of values, put together by Hypothesis, and what they describe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from exactness.bulks import BULKS, SIZES, bulk
from exactness.material import Holder, Opaque
from exactness.tasks import work


@dataclass(frozen=True)
class Atom:
    value: Any


@dataclass(frozen=True)
class LongText:
    """A text that is heavy by itself."""

    length: int


@dataclass(frozen=True)
class Bulk:
    """Many atoms in a list or tuple."""

    kind: str
    size: str
    within: str


@dataclass(frozen=True)
class Group:
    """A container of others."""

    within: str
    parts: tuple[Any, ...]


@dataclass(frozen=True)
class Again:
    """The very object that was built at that place before, counted from the last."""

    back: int


atoms = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.sampled_from(["a longer text " * 3, b"longer bytes " * 3, 10**30]),
)
bulks = st.builds(
    Bulk,
    st.sampled_from(sorted(BULKS)),
    st.sampled_from(SIZES),
    st.sampled_from(["list", "tuple"]),
)
leaves = st.one_of(
    st.builds(Atom, atoms),
    bulks,
    st.builds(LongText, st.sampled_from([70_000, 140_000])),
    st.builds(Again, st.integers(0, 6)),
)
structures = st.recursive(
    leaves,
    lambda parts: st.builds(
        Group,
        st.sampled_from(["list", "tuple", "dict", "opaque", "holder"]),
        st.lists(parts, min_size=1, max_size=3).map(tuple),
    ),
    max_leaves=5,
)
containers = st.one_of(
    bulks,
    st.builds(Group, st.just("list"), st.lists(structures, min_size=1, max_size=3).map(tuple)),
)


class Builder:
    """Builds structures; what it built stays known, elements of bulks included, to be built in
    again."""

    def __init__(self) -> None:
        self.built: list[Any] = []

    def __call__(self, spec: Any) -> Any:
        if isinstance(spec, Again):
            return self.built[-1 - spec.back % len(self.built)] if self.built else None
        if isinstance(spec, Atom):
            made = spec.value
        elif isinstance(spec, LongText):
            made = "x" * spec.length
        elif isinstance(spec, Bulk):
            parts = bulk(spec.kind, spec.size)
            self.built.append(parts[-1])
            made = parts if spec.within == "list" else tuple(parts)
        else:
            made = self._group(spec.within, [self(part) for part in spec.parts])
        self.built.append(made)
        return made

    @staticmethod
    def _group(within: str, parts: list[Any]) -> Any:
        match within:
            case "list":
                return parts
            case "tuple":
                return tuple(parts)
            case "dict":
                return {f"key {i}": part for i, part in enumerate(parts)}
            case "opaque":
                return Opaque(parts)
        return Holder(work, parts)
