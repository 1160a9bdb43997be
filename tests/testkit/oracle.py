"""The oracle: the same program on the standard library's pool and on Millpond's.

An outcome is a value, or an error told by what a caller can see of it. Addresses in texts are
blanked: they differ from run to run in the standard library alone.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.pool
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import millpond

ADDRESS = re.compile(r"0x[0-9a-f]+")

Pool = multiprocessing.pool.Pool
Program = Callable[[Pool], object]


def blank(value: object) -> object:
    """Texts without addresses, inside tuples and lists too; all else as it is."""
    if type(value) is str:
        return ADDRESS.sub("0x", value)
    if type(value) in (tuple, list):
        return type(value)(blank(item) for item in value)  # type: ignore[call-arg, attr-defined]
    return value


@dataclass(frozen=True)
class Failure:
    """An exception as the caller sees it."""

    kind: type[BaseException]
    args: object
    cause: type[BaseException] | None

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        cause = error.__cause__
        return cls(type(error), blank(error.args), None if cause is None else type(cause))


@dataclass(frozen=True)
class Outcome:
    """A value, or a failure. A program returns what `==` can compare (an array as a list)."""

    value: object = None
    failure: Failure | None = None


def outcome_of(call: Callable[[], object]) -> Outcome:
    """Run it and keep what came, whatever it was."""
    try:
        return Outcome(value=blank(call()))
    except Exception as error:
        return Outcome(failure=Failure.of(error))


def run_on(pool: Pool, program: Program) -> Outcome:
    """The program's outcome on this pool, which is ended afterwards."""
    try:
        return outcome_of(lambda: program(pool))
    finally:
        pool.terminate()
        pool.join()


def run_both(
    program: Program,
    *,
    processes: int = 2,
    start_method: str = "fork",
    **pool_kwargs: Any,
) -> tuple[Outcome, Outcome]:
    """The outcomes on the standard library's pool and on Millpond's, in this order."""
    context = multiprocessing.get_context(start_method)
    expected = run_on(context.Pool(processes, **pool_kwargs), program)
    found = run_on(millpond.Pool(processes, context=context, **pool_kwargs), program)
    return expected, found


def assert_same(
    program: Program,
    *,
    processes: int = 2,
    start_method: str = "fork",
    **pool_kwargs: Any,
) -> Outcome:
    """Both pools must answer alike; the common answer, so that a test can look at it too."""
    expected, found = run_both(
        program, processes=processes, start_method=start_method, **pool_kwargs
    )
    assert found == expected, f"multiprocessing: {expected}\nmillpond: {found}"
    return expected
