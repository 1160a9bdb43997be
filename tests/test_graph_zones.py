"""Times with a time zone that has a name: the zone belongs to the process, not to the graph."""

from __future__ import annotations

import copyreg
import datetime
import functools
import multiprocessing
import pickle
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import millpond
import pytest
from exactness.graph_material import Proof, assert_changed, assert_holds, sides

try:
    PARIS = ZoneInfo("Europe/Paris")
except ZoneInfoNotFoundError:  # pragma: no cover
    pytest.skip("the system has no time zones", allow_module_level=True)

TASKS = 4


class MyZone(ZoneInfo):
    """One whose pickling the standard library does not answer for."""


def times(zone: Any, count: int = 3) -> list[Any]:
    return [[datetime.datetime(2026, 1, 1, hour=x % 24, tzinfo=zone), x] for x in range(count)]


@sides
def test_times_with_a_named_zone_are_atoms(is_worker: bool) -> None:
    root = [pickle.loads(pickle.dumps([times(PARIS), {PARIS: 1}, datetime.time(tzinfo=PARIS)]))]
    proof = Proof.take(root, is_worker)
    assert_holds(proof, root)
    root[0][0][0][0] = root[0][0][0][0].replace(tzinfo=ZoneInfo("Asia/Tokyo"))
    assert_changed(proof, root)


@pytest.mark.parametrize(
    "zone", [ZoneInfo.no_cache("Europe/Paris"), MyZone("Europe/Paris")], ids=["new", "a class's"]
)
def test_zones_that_are_not_found_by_name_are_opaque(zone: Any) -> None:
    for root in (times(zone), [zone]):
        with pytest.raises(TypeError):
            Proof.take([root], False)


def test_a_reducer_that_is_registered_later_is_noticed() -> None:
    root = [times(PARIS)]
    proof = Proof.take(root, False)
    copyreg.pickle(ZoneInfo, lambda zone: (ZoneInfo, (zone.key,)))
    try:
        assert_changed(proof, root)
    finally:
        del copyreg.dispatch_table[ZoneInfo]
    assert_holds(proof, root)


SEEN: list[Any] = []


def look(x: int, data: Any, clears: bool = False) -> Any:
    """What a task sees of its zone, and of that of the task before."""
    zone = data[0][0].tzinfo
    is_last = bool(SEEN) and SEEN[-1] is zone
    SEEN.append(zone)
    seen = (x, zone is ZoneInfo("Europe/Paris"), is_last, str(data[x]))
    if clears:
        ZoneInfo.clear_cache()
    return seen


@pytest.mark.parametrize("clears", [False, True], ids=["kept", "cleared"])
def test_each_task_has_the_zones_that_unpickling_would_find(clears: bool) -> None:
    data = times(PARIS, 3000)
    answers = []
    for make in (multiprocessing.Pool, millpond.Pool):
        with make(1) as pool:
            call = functools.partial(look, data=data, clears=clears)
            answers.append([pool.apply(call, (x,)) for x in range(TASKS)])
            pool.close()
            pool.join()
            if isinstance(pool, millpond.Pool):
                loads = pool.stats()["heavy_parts_loaded"]
    assert answers[0] == answers[1]
    assert loads == (TASKS if clears else 1)
