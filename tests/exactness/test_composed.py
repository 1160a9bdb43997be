"""Any program that Hypothesis can compose of the rules' parts answers alike on both pools."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from functools import partial

import millpond
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from testkit.oracle import run_both

from exactness.composed import Case, cases, run_case

EXAMPLES = int(os.environ.get("MILLPOND_EXAMPLES", "2000"))

#: In how many parts they are drawn, each with pools of its own, so that parts may run side by side.
PARTS = int(os.environ.get("MILLPOND_PARTS", "1"))


def checked(examples: int, check: Callable[[Case], None]) -> None:
    """Check so many composed programs."""
    settings(
        max_examples=examples,
        deadline=None,
        database=None,
        # Drawn without chance, all parts would be the same.
        derandomize=bool(os.environ.get("CI")) and PARTS == 1,
        phases=[Phase.explicit, Phase.generate, Phase.target, Phase.shrink],
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )(given(cases)(check))()


def compare(start_method: str, examples: int) -> None:
    """Both pools are made once, with one worker each, so that everything has one order."""
    context = multiprocessing.get_context(start_method)
    oracle, pool = context.Pool(1), millpond.Pool(1, context=context)

    def check(case: Case) -> None:
        expected, found = run_case(oracle, case), run_case(pool, case)
        assert found == expected

    try:
        checked(examples, check)
    finally:
        for one in (oracle, pool):
            one.terminate()
            one.join()


@pytest.mark.limit_s(60 + EXAMPLES)
@pytest.mark.parametrize("part", range(PARTS))
def test_composed_programs_answer_alike(part: int) -> None:
    """All rules at once, with forked workers."""
    compare("fork", EXAMPLES // PARTS)


@pytest.mark.limit_s(60 + EXAMPLES)
@pytest.mark.parametrize("start_method", ["spawn", "forkserver"])
def test_composed_programs_answer_alike_in_workers_started_otherwise(start_method: str) -> None:
    """Nothing is inherited there; a tenth of the examples."""
    compare(start_method, EXAMPLES // 10)


@pytest.mark.limit_s(60 + EXAMPLES)
def test_composed_programs_answer_alike_in_workers_that_know_nothing() -> None:
    """A worker for each task: all that a task names must be where it says.

    The pools live one after the other: two that replace workers at once can inherit each other's
    sentinels, and the standard library's then waits for ever.
    """

    def check(case: Case) -> None:
        expected, found = run_both(partial(run_case, case=case), processes=1, maxtasksperchild=1)
        assert found == expected

    checked(EXAMPLES // 5, check)
