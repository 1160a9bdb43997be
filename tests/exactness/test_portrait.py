"""The judge of the composed programs: its columns tell apart what a walk from node to node does."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exactness.actions import ACTIONS, lists_in
from exactness.bulks import BULKS
from exactness.calls import attempt
from exactness.portrait import MANY, portrait
from exactness.structures import Builder, containers

NEVER = 10**9
COUNT = 3 * MANY

Change = tuple[str, int]
"""An action, and the number of the list that it is done to."""


def changed(spec: Any, change: Change) -> Any:
    value = Builder()(spec)
    lists = lists_in(value)
    if lists:
        attempt(lambda: ACTIONS[change[0]](lists[change[1] % len(lists)]))
    return value


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(
    spec=containers,
    changes=st.tuples(*2 * [st.tuples(st.sampled_from(sorted(ACTIONS)), st.integers(0, 9))]),
    atoms=st.booleans(),
)
def test_columns_differ_where_a_walk_from_node_to_node_does(
    spec: Any, changes: tuple[Change, Change], atoms: bool
) -> None:
    one, other = (changed(spec, change) for change in changes)
    by_walk = portrait(one, atoms=atoms, many=NEVER) == portrait(other, atoms=atoms, many=NEVER)
    # Two columns in one are seen in small values too.
    for many in (2, MANY):
        by_columns = portrait(one, atoms=atoms, many=many) == portrait(
            other, atoms=atoms, many=many
        )
        assert by_columns == by_walk


SINGLE = {"bools", "nones", "members", "small ints", "mixed", "one list inside"}
"""There is one object of each value, of the first of them at least."""


@pytest.mark.parametrize("kind", sorted(BULKS.keys() - SINGLE))
def test_what_is_one_object_or_two_is_seen_in_columns(kind: str) -> None:
    """Equal values of which one is at two places, or at one and a copy of it at the other."""
    bulk = BULKS[kind](50 * COUNT)
    bulk[1] = copy.deepcopy([bulk[0]])[0]
    if bulk[1] is bulk[0]:  # an atom
        bulk[1] = another(bulk[0])
    two = portrait(bulk, atoms=True)
    bulk[1] = bulk[0]
    assert portrait(bulk, atoms=True) != two


def another(atom: Any) -> Any:
    """An equal atom at another address."""
    match atom:
        case bytes():
            return b"".join([atom[:1], atom[1:]])
        case str():
            return "".join([atom[:1], atom[1:]])
        case np.generic():
            return pickle.loads(pickle.dumps(atom))
    return type(atom)(repr(atom))


@pytest.mark.parametrize("kind", sorted(BULKS))
@pytest.mark.parametrize("place", [0, COUNT // 2, -1])
@pytest.mark.parametrize("atoms", [False, True])
def test_another_type_at_one_place_is_seen_in_columns(kind: str, place: int, atoms: bool) -> None:
    bulk = BULKS[kind](COUNT)
    before = portrait(bulk, atoms=atoms)
    place = min(place, len(bulk) - 1)
    for stranger in (object, [bulk[place]], (bulk[place],), str(bulk[place]), 2.5, b"2", True):
        if stranger is not bulk[place]:
            other = list(bulk)
            other[place] = stranger
            assert portrait(other, atoms=atoms) != before
