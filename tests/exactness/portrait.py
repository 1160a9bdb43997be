"""A text of all that can be seen of a value: types, values, and which places hold one object."""

from __future__ import annotations

import functools
import hashlib
import itertools
import types
from collections import OrderedDict, defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np

SINGLE = frozenset([bool, type(None), type(...), type(NotImplemented)])
ATOMS = frozenset([int, float, complex, str, bytes])
NAMED = (type, types.FunctionType, types.BuiltinFunctionType)
LONGEST = 6000
MANY = 16
"""Elements from which on they are drawn in columns."""


def portrait(value: object, *, atoms: bool = False, many: int = MANY) -> str:
    """A text that differs when value, type or aliasing does: what was seen before is `#number`.

    With `atoms`, the identity of ints, floats and texts counts too; only within one task is that
    part of an answer.

    So `many` elements or more are drawn in columns: those of one type together, and then all that is
    in these, whose number is told. Composed programs spent most of their time in a call for each node.
    """
    return _Drawing(atoms=atoms, many=many).draw(value)


def clip(text: str) -> str:
    """Long portraits as their beginning and a digest."""
    if len(text) <= LONGEST:
        return text
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
    return f"{text[:LONGEST]}... {len(text)} characters, {digest[:16]}"


class _Drawing:
    """A portrait in the making."""

    def __init__(self, *, atoms: bool, many: int) -> None:
        self.unnumbered = SINGLE if atoms else SINGLE | ATOMS
        self.many = many
        self.seen: dict[int, int] = {}
        self.held: list[object] = []  # no id may be used twice while we draw

    def draw(self, node: Any) -> str:
        kind = type(node)
        if kind in self.unnumbered:
            return repr(node)
        if kind not in COMMON and isinstance(node, NAMED):
            return f"<{node.__module__}.{node.__qualname__}>"
        number = len(self.seen)
        first = self.seen.setdefault(id(node), number)
        if first != number:
            return f"#{first}"
        self.held.append(node)
        if kind is list:
            return f"[{self.several(node)}]"
        if kind is tuple:
            return f"({self.several(node)})"
        if kind is dict:
            return self.entries(node)
        if kind in ATOMS:
            return repr(node)
        return self.instance(node, kind)

    def several(self, nodes: list[Any] | tuple[Any, ...]) -> str:
        return self.each(nodes) if len(nodes) < self.many else self.columns(nodes)

    def each(self, nodes: Iterable[Any]) -> str:
        return ", ".join([self.draw(node) for node in nodes])

    def columns(self, nodes: list[Any] | tuple[Any, ...]) -> str:
        """One column for each type, and which element is of which."""
        kinds = list(map(type, nodes))
        numbers = {kind: number for number, kind in enumerate(dict.fromkeys(kinds))}
        if len(numbers) == 1:
            return self.column(kinds[0], nodes)
        order = list(map(numbers.__getitem__, kinds))
        columns = [
            self.column(kind, [node for node, own in zip(nodes, kinds, strict=True) if own is kind])
            for kind in numbers
        ]
        return f"{order} of {'; '.join(columns)}"

    def column(self, kind: type, nodes: list[Any] | tuple[Any, ...]) -> str:
        """Elements of one type: their own part of the text, and what is in all of them."""
        if kind in self.unnumbered:
            return ", ".join(map(repr, nodes))
        ids = list(map(id, nodes))
        firsts = dict(zip(ids, nodes, strict=True))
        if len(firsts) < len(nodes):
            places = {key: place for place, key in enumerate(firsts)}
            order = list(map(places.__getitem__, ids))
            return f"{order} of {self.column(kind, list(firsts.values()))}"
        if len(nodes) < self.many or not self.seen.keys().isdisjoint(firsts):
            return self.each(nodes)
        if kind in COLUMNS:
            self.number(ids, nodes)
            lengths, *parts = COLUMNS[kind](nodes)
            return f"{_name(kind)} {lengths} of {'; '.join(map(self.several, parts))}"
        if issubclass(kind, SPECIAL):
            return self.each(nodes)
        self.number(ids, nodes)
        if kind.__dictoffset__:
            return f"{_name(kind)} of {self.several(list(map(vars, nodes)))}"
        return f"{_name(kind)} {list(map(repr, nodes))}"

    def number(self, ids: list[int], nodes: object) -> None:
        self.seen.update(zip(ids, itertools.count(len(self.seen)), strict=False))
        self.held.append(nodes)

    def entries(self, node: dict[Any, Any]) -> str:
        draw = self.draw
        return "{" + ", ".join([f"{draw(key)}: {draw(value)}" for key, value in node.items()]) + "}"

    def instance(self, node: Any, kind: type) -> str:
        if isinstance(node, functools.partial):
            return f"partial({self.each((node.func, node.args, node.keywords))})"
        if isinstance(node, types.MethodType):
            return f"{node.__name__} of {self.draw(node.__self__)}"
        if isinstance(node, np.ndarray):
            data = hashlib.sha256(node.tobytes()).hexdigest()[:16]
            flags = [bool(node.flags[name]) for name in ("C", "F", "O", "W")]
            base = type(node.base).__name__
            return f"{kind.__name__}{node.shape}{node.strides}{node.dtype}{flags}{base} {data}"
        text = _name(kind)
        if isinstance(node, BaseException):
            text += f"{self.draw(node.args)} from {type(node.__cause__).__name__}"
        elif isinstance(node, dict):
            text += self.entries(node)
        elif isinstance(node, set | frozenset):
            text += "{" + ", ".join(sorted(map(repr, node))) + "}"
        elif isinstance(node, list | tuple):
            text += f"[{self.each(node)}]"
        elif isinstance(node, int | float | str | bytes) or not hasattr(node, "__dict__"):
            text += repr(node)
        if hasattr(node, "__dict__"):
            text += self.draw(vars(node))
        return text


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


SPECIAL = (
    *NAMED,
    *(functools.partial, types.MethodType, np.ndarray),
    *(BaseException, dict, set, frozenset, list, tuple),
)
COMMON = ATOMS | {list, tuple, dict}


def _sequences(nodes: Any) -> tuple[list[Any], ...]:
    return list(map(len, nodes)), list(itertools.chain.from_iterable(nodes))


def _dicts(nodes: Any) -> tuple[list[Any], ...]:
    values = itertools.chain.from_iterable(map(dict.values, nodes))
    return *_sequences(nodes), list(values)


def _ordered(nodes: Any) -> tuple[list[Any], ...]:
    values = itertools.chain.from_iterable(map(OrderedDict.values, nodes))
    return *_sequences(nodes), list(values), list(map(vars, nodes))


def _partials(nodes: Any) -> tuple[list[Any], ...]:
    parts = [(node.func, node.args, node.keywords) for node in nodes]
    return [], *map(list, zip(*parts, strict=True))


COLUMNS = {
    list: _sequences,
    tuple: _sequences,
    dict: _dicts,
    defaultdict: _dicts,
    OrderedDict: _ordered,
    functools.partial: _partials,
}
"""Of each node the number of its parts; and the parts of all, in one column or more."""
