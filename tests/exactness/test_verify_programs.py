"""The fourteen programs of `field/exactness.md` 6, and their kin: each shows a state that a check
can miss.

A pool that keeps one loaded copy and checks it after each task has to look at all of this, or to
pickle such objects anew for each task.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from testkit.oracle import Pool

from exactness import verify_types as types
from exactness.calls import by_every_call
from exactness.material import all_sizes
from exactness.twin import both_allowed, same


@dataclass(frozen=True)
class VerifyProgram:
    task: Callable[..., Any]
    element: Callable[[], Any]
    expected: list[Any] | None = None
    """What four tasks of an `imap` answer, where it is worth being seen."""


PROGRAMS = {
    "weak reference to an element": VerifyProgram(types.weak_reference, types.Plain),
    "weak reference with a callback": VerifyProgram(types.weak_callback, types.Plain),
    "__del__ that counts": VerifyProgram(
        types.told_counts, types.WithDel, [{**types.counts, "del": i} for i in range(4)]
    ),
    "__new__ that counts": VerifyProgram(types.told_counts, types.WithNew),
    "__hash__ that counts": VerifyProgram(
        types.told_counts, lambda: {types.WithHash(): 1, types.WithHash(): 2}
    ),
    "__setstate__ that counts": VerifyProgram(types.told_counts, lambda: types.WithSetState([1])),
    "__setattr__ that counts": VerifyProgram(types.told_counts, types.WithSetAttr),
    "order of a set": VerifyProgram(types.set_order, lambda: {5, 100_000, 64, 33, 7}),
    "order of a set of texts": VerifyProgram(types.set_order, lambda: {"e", "d", "c", "b"}),
    "order and size of a dict": VerifyProgram(types.dict_order, lambda: {"a": 1, "b": 2, "c": 3}),
    "allocated size of the list": VerifyProgram(types.append_then_pop, lambda: 0),
    "class rebound by name": VerifyProgram(types.rebind_class, types.Plain, [(True, "Plain")] * 4),
    "kept tuple that holds a list": VerifyProgram(types.keep_tuple, lambda: ([],), [0, 0, 0, 0]),
    "kept frozenset that holds an instance": VerifyProgram(
        types.keep_frozenset, types.make_frozenset, [1] * 4
    ),
    "__class__ changed": VerifyProgram(types.change_class, types.Plain, ["Plain"] * 4),
    "OrderedDict.move_to_end": VerifyProgram(types.move_to_end, types.make_ordered),
    "defaultdict.default_factory": VerifyProgram(
        types.default_factory, types.make_default, [(list, [])] * 4
    ),
    "deque rotated": VerifyProgram(types.rotate, types.make_deque),
    "kept vars()": VerifyProgram(types.keep_vars, lambda: types.Plain(1), [1, 1, 1, 1]),
    "kept method of an attribute": VerifyProgram(
        types.keep_method, lambda: types.Plain([]), [[]] * 4
    ),
    "attribute of a list subclass": VerifyProgram(
        types.attribute_of_subclass, lambda: types.SubList([1])
    ),
    "attribute of a dict subclass": VerifyProgram(
        types.attribute_of_subclass, lambda: types.SubDict(a=1)
    ),
    "slot changed": VerifyProgram(types.slot_changed, lambda: types.Slotted("own"), ["own"] * 4),
    "slot deleted": VerifyProgram(types.slot_deleted, types.Slotted, [True] * 4),
    "attribute deleted": VerifyProgram(types.attribute_deleted, types.Plain, [["value"]] * 4),
    "__dict__ replaced": VerifyProgram(types.dict_replaced, types.Plain, [[("value", 0)]] * 4),
    "cycle made": VerifyProgram(types.cycle, types.Plain),
    "attribute of a class": VerifyProgram(types.class_attribute, types.Plain, [None, 0, 1, 2]),
    "two references made one each": VerifyProgram(
        types.two_references, types.make_shared, [True] * 4
    ),
}


@all_sizes
@pytest.mark.parametrize("name", PROGRAMS)
def test_no_state_is_missed(name: str, n: int) -> None:
    """Rules 1, 6, 8, 9: four tasks each, bound in a list, light and heavy."""
    case = PROGRAMS[name]

    def program(pool: Pool) -> object:
        pool.apply(types.reset, (0,))
        return list(pool.imap(partial(case.task, d=[case.element(), *range(n)]), range(4)))

    answers = same(program)
    assert case.expected is None or answers == case.expected


@pytest.mark.parametrize("name", PROGRAMS)
def test_no_state_is_missed_by_any_call(name: str) -> None:
    """The same, beside a heavy list that is a part of its own, by every call and chunksize."""
    case = PROGRAMS[name]

    def program(pool: Pool) -> object:
        pool.apply(types.reset, (0,))
        callee = partial(case.task, d=[case.element(), list(range(30_000))])
        return by_every_call(pool, callee, range(3), ["apply", "map 1", "map 2", "imap 2", "map 4"])

    same(program)


def _keeps_text(x: object, d: list[str]) -> bool:
    return types.keep_text(x, d)


@all_sizes
def test_a_kept_text_may_be_the_next_tasks_or_not(n: int) -> None:
    """Identity of immutable atoms between tasks is not part of an answer; all else of it is."""

    def program(pool: Pool) -> object:
        bound = [f"text {i}" for i in range(n)]
        return list(pool.imap(partial(_keeps_text, d=bound), range(4)))

    both_allowed(program, lambda told: len(told) == 4 and told[0] is False)
