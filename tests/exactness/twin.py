"""Run one program on both pools and compare all that it can see: values, types, aliasing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from testkit.oracle import Failure, Pool, Program, assert_same, run_both

from exactness.portrait import clip, portrait


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
