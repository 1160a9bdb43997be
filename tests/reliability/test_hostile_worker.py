"""A task that writes over the pool's shared memory, as a stray pointer of native code may.

Goal 20 of the reliability catalogue: an error and a clean end, no hang, nothing undefined. What such a
task does to the answers of others is not promised: they may be lost, or garbage.
"""

from __future__ import annotations

import functools
import random
from multiprocessing import TimeoutError  # noqa: A004 - what `get` raises where nothing has come
from pathlib import Path
from typing import Any

import millpond
import pytest
from testkit.forms import by_form, seeded
from testkit.ledger import wait_for_file
from testkit.pools import running
from testkit.work import square

POOLS = by_form(40, 4_000)

#: More than any end of a task takes here; the watchdog would end the test in its own time.
PATIENCE_S = 30

#: Places of the control block in words: head, tail, the refill mark, the stop flag and the number of
#: held wakes, the done stack and the parent's bell, the spinner, and the sleepers.
CONTROL = (16, 32, 33, 34, 48, 64, 80, 81)


def table() -> tuple[int, int]:
    """Address and length in bytes of the task table in this process."""
    with open("/proc/self/maps", encoding="ascii") as maps:
        for line in maps:
            if "memfd:millpond-table" in line and "rw-s" in line:
                start, end = line.split()[0].split("-")
                return int(start, 16), int(end, 16) - int(start, 16)
    raise AssertionError("the table is mapped in every process of the pool")


def write(words: dict[int, int], go: str | None = None) -> str:
    """Write words over the table, by place, once a file is there."""
    if go is not None:
        wait_for_file(Path(go))
    address, _ = table()
    with open("/proc/self/mem", "r+b", buffering=0) as memory:
        for place, value in words.items():
            memory.seek(address + place * 8)
            memory.write(value.to_bytes(8, "little"))
    return "written"


def scribble(seed: int) -> str:
    """Write a few values over words of the table, most of them over such as are in use."""
    chance = random.Random(seed)
    address, length = table()
    with open("/proc/self/mem", "rb", buffering=0) as memory:
        memory.seek(address)
        words = memoryview(bytearray(memory.read(length))).cast("Q")
    used = [place for place, word in enumerate(words) if word]
    found: dict[int, int] = {}
    for _ in range(chance.choice((1, 1, 2, 5, 50))):
        places = [chance.choice(CONTROL), chance.choice(used), chance.choice(used)]
        place = chance.choice([*places, chance.randrange(len(words))])
        word = words[place]
        near = [word + 1, word - 1, word ^ 1 << chance.randrange(64), words[chance.choice(used)]]
        any_value = [chance.getrandbits(64), chance.randrange(64)]
        value = chance.choice([0, 1, 2**64 - 1, *near, *any_value])
        found[place] = value % 2**64
    return write(found)


def total(x: int, numbers: list[int]) -> int:
    return x + len(numbers)


def end_of(result: Any) -> object:
    """What a result came to; the test fails if it came to nothing."""
    try:
        return result.get(timeout=PATIENCE_S)
    except TimeoutError:
        pytest.fail(f"a task has not ended after {PATIENCE_S} s")
    except Exception as error:
        return error


def is_broken(pool: millpond.Pool) -> bool:
    return isinstance(end_of(pool.apply_async(square, (2,))), Exception)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        pytest.param(32, 2**64 - 1, id="tail at the end of all positions"),
        pytest.param(32, 0, id="tail at the first position"),
        pytest.param(16, 2**48 - 1, id="head at the end of all positions"),
        pytest.param(16, 0, id="head at the first position"),
    ],
)
def test_a_ring_that_was_written_over_breaks_the_pool_and_is_told(
    place: int, value: int, tmp_path: Path
) -> None:
    """The tasks behind the one that writes are out already: nobody meets the damage by publishing."""
    go = tmp_path / "go"
    with running(1) as pool:
        assert pool.map(square, range(10)) == [x * x for x in range(10)]
        first = pool.apply_async(write, ({place: value}, str(go)))
        others = [pool.apply_async(square, (x,)) for x in range(20)]
        go.touch()
        ends = [end_of(result) for result in (first, *others)]
        assert all(isinstance(end, RuntimeError) for end in ends[1:])
        assert is_broken(pool)
        stats = pool.stats()
        assert stats["damaged"] >= 1
        assert stats["replacements"] == 0, "no storm of workers"
        with pytest.raises(RuntimeError, match="make a new pool"):
            pool.map(square, range(10))
        pool.close()
        pool.join()


def test_a_task_that_nobody_can_see_any_more_is_told_as_damage() -> None:
    """All of the table but its first words is zeroed while a task of each worker runs."""
    with running(2) as pool:
        assert pool.map(square, range(10)) == [x * x for x in range(10)]
        lost = [pool.apply_async(wipe) for _ in range(2)]
        waiting = [pool.apply_async(square, (x,)) for x in range(20)]
        assert all(isinstance(end_of(result), Exception) for result in lost)
        for result in waiting:
            end_of(result)
        assert is_broken(pool)


def wipe() -> None:
    address, length = table()
    with open("/proc/self/mem", "r+b", buffering=0) as memory:
        memory.seek(address + 1024)
        memory.write(bytes(length - 1024))


@pytest.mark.limit_s(by_form(120, 3600))
def test_whatever_a_task_writes_every_task_ends_and_so_does_the_pool(
    capfd: pytest.CaptureFixture[str],
) -> None:
    chance = seeded()
    broken = 0
    for number in range(POOLS):
        seed = chance.getrandbits(32)
        heavy = functools.partial(total, numbers=list(range(5000)))
        with running(2) as pool:
            results: list[Any] = [pool.apply_async(heavy, (x,)) for x in range(5)]
            for step in range(4):
                results.append(pool.apply_async(scribble, (seed + step,)))
                results += [pool.apply_async(square, (x,)) for x in range(10)]
                results.append(pool.apply_async(heavy, (step,)))
                results.append(pool.map_async(square, range(20), 1))
            for result in results:
                end_of(result)
            broken += is_broken(pool)
            if number % 2:
                pool.close()
                pool.join()
    told = capfd.readouterr()
    assert "panicked" not in told.err
    print(told.out, f"{POOLS} pools, {broken} of them broken, all ended")
