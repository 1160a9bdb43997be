"""The soak's short form; the long one is `make soak`."""

from __future__ import annotations

import math
import random
import sys
from pathlib import Path

import pytest
from testkit import trend
from testkit.forms import by_form, seeded
from testkit.scripts import run_script

from reliability.soak import PRIVATE_SLOPE_MAX, PRIVATE_STEP, Pace, is_slower

MINUTES = by_form(0.1, 5.0)

PROGRAM = """
    import sys
    from reliability import soak

    if __name__ == "__main__":
        sys.exit(soak.main())
"""


@pytest.mark.limit_s(by_form(120, 600))
def test_a_pool_under_everything_grows_nothing(tmp_path: Path) -> None:
    samples, seed = by_form("5", "30"), str(seeded().getrandbits(32))
    arguments = ("--minutes", str(MINUTES), "--samples", samples, "--seed", seed)
    ended = run_script(PROGRAM, tmp_path, *arguments)
    print(ended.stdout, file=sys.stdout)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "nothing has grown" in ended.stdout
    assert ended.orphans == []


HOURS = [minute / 60 for minute in range(61)]
MIB = 1 << 20


def has_leaked(leak_per_hour: float, noise: float, step: float = 0.0) -> bool:
    """Whether an hour's samples are taken for a leak: a warm-up, a leak, noise, and a step halfway."""
    chance = random.Random(7)
    values = [
        50 * MIB * (1 - math.exp(-20 * hour))
        + leak_per_hour * hour
        + chance.expovariate(1) * noise
        + (step if hour > 0.6 else 0)
        for hour in HOURS
    ]
    return trend.rise(HOURS, values).exceeds(PRIVATE_SLOPE_MAX, PRIVATE_STEP)


def test_the_soak_tells_a_leak_from_noise_from_a_step_and_from_the_warm_up() -> None:
    assert not has_leaked(0, noise=0)
    assert not has_leaked(0, noise=8 * MIB)
    assert not has_leaked(0, noise=MIB, step=16 * MIB)
    assert not has_leaked(MIB, noise=MIB)
    assert has_leaked(6 * MIB, noise=MIB)
    assert has_leaked(6 * MIB, noise=0)
    assert has_leaked(20 * MIB, noise=8 * MIB)
    assert not has_leaked(2 * MIB, noise=0), "an hour is too short for that"


def test_the_soak_compares_the_last_quarters_pace_with_the_firsts() -> None:
    """A machine that has become slower is not the pool's fault."""
    at_s = [60.0 * minute for minute in range(61)]
    steady = [1000 * minute for minute in range(61)]
    tired = [1000 * minute - 500 * max(0, minute - 45) for minute in range(61)]
    even, slowed = [1.0] * 61, [1.0] * 40 + [2.0] * 21
    assert Pace(steady, at_s, even).ratios() == (1.0, 1.0)
    assert Pace(tired, at_s, even).ratios() == (0.5, 0.5)
    assert Pace(tired, at_s, slowed).ratios() == (0.5, 1.0)
    assert is_slower(Pace(tired, at_s, even), minutes=60)
    assert not is_slower(Pace(steady, at_s, even), minutes=60)
    assert not is_slower(Pace(tired, at_s, slowed), minutes=60)
    assert not is_slower(Pace(tired, at_s, even), minutes=5), "no test asserts a time"
