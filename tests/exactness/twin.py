"""Run one program on both pools and compare all that it can see: values, types, aliasing."""

from __future__ import annotations

import functools
import hashlib
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from testkit.oracle import Failure, Pool, Program, assert_same, run_both

SINGLE = (bool, type(None), type(...), type(NotImplemented))
ATOMS = (int, float, complex, str, bytes)
NAMED = (type, types.FunctionType, types.BuiltinFunctionType)
LONGEST = 6000


def portrait(value: object, *, atoms: bool = False) -> str:
    """A text that differs when value, type or aliasing does: what was seen before is `#number`.

    With `atoms`, the identity of ints, floats and texts counts too; only within one task is that
    part of an answer.
    """
    seen: dict[int, int] = {}
    held: list[object] = []  # no id may be used twice while we draw

    def several(nodes: Iterator[object]) -> str:
        return ", ".join(draw(node) for node in nodes)

    def draw(node: object) -> str:
        kind = type(node)
        if kind in SINGLE or (kind in ATOMS and not atoms):
            return repr(node)
        if isinstance(node, NAMED):
            return f"<{node.__module__}.{node.__qualname__}>"
        if id(node) in seen:
            return f"#{seen[id(node)]}"
        seen[id(node)] = len(seen)
        held.append(node)
        if kind in ATOMS:
            return repr(node)
        if kind is list:
            return f"[{several(iter(node))}]"  # type: ignore[call-overload]
        if kind is tuple:
            return f"({several(iter(node))})"  # type: ignore[call-overload]
        if isinstance(node, functools.partial):
            return f"partial({draw(node.func)}, {draw(node.args)}, {draw(node.keywords)})"
        if isinstance(node, types.MethodType):
            return f"{node.__name__} of {draw(node.__self__)}"
        if isinstance(node, np.ndarray):
            data = hashlib.sha256(node.tobytes()).hexdigest()[:16]
            flags = [bool(node.flags[name]) for name in ("C", "F", "O", "W")]
            base = type(node.base).__name__
            return f"{kind.__name__}{node.shape}{node.strides}{node.dtype}{flags}{base} {data}"
        text = "" if kind is dict else f"{kind.__module__}.{kind.__qualname__}"
        if isinstance(node, BaseException):
            text += f"{draw(node.args)} from {type(node.__cause__).__name__}"
        elif isinstance(node, dict):
            text += "{" + ", ".join(f"{draw(k)}: {draw(v)}" for k, v in node.items()) + "}"
        elif isinstance(node, set | frozenset):
            text += "{" + ", ".join(sorted(map(repr, node))) + "}"
        elif isinstance(node, list | tuple):
            text += f"[{several(iter(node))}]"
        elif isinstance(node, ATOMS) or not hasattr(node, "__dict__"):
            text += repr(node)
        if hasattr(node, "__dict__"):
            text += draw(vars(node))
        return text

    return draw(value)


def clip(text: str) -> str:
    """Long portraits as their beginning and a digest."""
    if len(text) <= LONGEST:
        return text
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
    return f"{text[:LONGEST]}... {len(text)} characters, {digest[:16]}"


def same(
    program: Program, *, processes: int = 1, start_method: str = "fork", **pool_kwargs: Any
) -> Any:
    """Both pools give this answer. One worker unless told: then everything has one order."""
    answers: list[object] = []

    def drawn(pool: Pool) -> object:
        answers.append(program(pool))
        return clip(portrait(answers[-1]))

    outcome = assert_same(drawn, processes=processes, start_method=start_method, **pool_kwargs)
    assert outcome.failure is None, f"not an answer but {outcome.failure}"
    return answers[0]


def same_error(
    program: Program, *, processes: int = 1, start_method: str = "fork", **pool_kwargs: Any
) -> Failure:
    """Both pools raise this."""
    outcome = assert_same(program, processes=processes, start_method=start_method, **pool_kwargs)
    assert outcome.failure is not None, f"no error but {outcome.value}"
    return outcome.failure


def both_allowed(
    program: Program,
    allowed: Callable[[Any], bool],
    *,
    processes: int = 1,
    start_method: str = "fork",
    **pool_kwargs: Any,
) -> None:
    """Where timing decides, each pool's answer is one that the standard library could give."""
    expected, found = run_both(
        program, processes=processes, start_method=start_method, **pool_kwargs
    )
    assert expected.failure is None and allowed(expected.value), f"the test is wrong: {expected}"
    assert found.failure is None and allowed(found.value), f"millpond: {found}"
