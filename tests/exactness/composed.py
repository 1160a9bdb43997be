"""Programs put together by Hypothesis: structures, callables, and what parent and worker do to
them.

A case is a plain description. It is built anew for each pool, with the same aliasing, and every
answer is a portrait: types, values, and which places hold one object.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from hypothesis import strategies as st
from testkit.oracle import Pool

from exactness.actions import ACTIONS, lists_in
from exactness.calls import attempt, told
from exactness.portrait import clip, portrait
from exactness.structures import Builder, containers, structures
from exactness.tasks import CALLABLES, RESULTS, RETENTIONS, Doing, forget, named, nothing

CALLS = [
    "apply",
    "apply_async",
    "apply by name",
    "plain apply",
    "map",
    "map_async",
    "imap",
    "imap_unordered",
    "starmap",
]


@dataclass(frozen=True)
class Case:
    """One program."""

    callable: str
    call: str
    chunksize: int
    first: Any
    second: Any
    items: tuple[Any, ...]
    doing: Doing
    parent_action: str
    parent_where: int
    rounds: int


cases = st.builds(
    Case,
    callable=st.sampled_from(sorted(CALLABLES)),
    call=st.sampled_from(CALLS),
    chunksize=st.integers(1, 3),
    first=containers,
    second=structures,
    items=st.lists(structures, min_size=1, max_size=4).map(tuple),
    doing=st.builds(
        Doing,
        action=st.sampled_from(sorted(ACTIONS)),
        where=st.integers(0, 5),
        retention=st.sampled_from(RETENTIONS),
        result=st.sampled_from(RESULTS),
    ),
    parent_action=st.sampled_from(sorted(ACTIONS)),
    parent_where=st.integers(0, 5),
    rounds=st.integers(1, 2),
)


def run_case(pool: Pool, case: Case) -> list[str]:
    """All that the program sees, as portraits."""
    pool.apply(forget)
    build = Builder()
    first, second = build(case.first), build(case.second)
    items = tuple(build(item) for item in case.items)
    callee = CALLABLES[case.callable](case.doing, first, second)

    def change() -> None:
        lists = lists_in([first, second, items])
        attempt(lambda: ACTIONS[case.parent_action](lists[case.parent_where % len(lists)]))

    def changing(drawn: threading.Event) -> Iterator[Any]:
        for item in items:
            change()
            yield item
        drawn.set()

    seen = []
    for _ in range(case.rounds):
        drawn = threading.Event()
        try:
            answers = _call(pool, case, callee, first, second, items, change, changing(drawn))
        except Exception as error:
            answers = [told(error)]
        if case.call.startswith("imap"):
            # After an error the rest is drawn all the same, by another thread.
            assert drawn.wait(30), "the iterable was not drawn to its end"
            pool.apply(nothing)
        seen.append(clip(portrait(answers)))
        seen += [clip(portrait(answer, atoms=True)) for answer in answers if case.chunksize == 1]
        change()
    return [*seen, clip(portrait([first, second, items], atoms=True))]


def _call(
    pool: Pool,
    case: Case,
    callee: Callable[[Any], Any],
    first: Any,
    second: Any,
    items: tuple[Any, ...],
    change: Callable[[], None],
    changing: Iterator[Any],
) -> list[Any]:
    answers = []
    match case.call:
        case "apply" | "apply by name" | "plain apply":
            for item in items:
                if case.call == "apply":
                    answers.append(attempt(partial(pool.apply, callee, (item,))))
                elif case.call == "apply by name":
                    answers.append(attempt(partial(pool.apply, callee, (), {"x": item})))
                else:
                    kwds = {"doing": case.doing, "first": first, "second": second}
                    answers.append(attempt(partial(pool.apply, named, (item,), kwds)))
                change()
        case "apply_async":
            answers = [attempt(pool.apply_async(callee, (item,)).get) for item in changing]
        case "map":
            answers = pool.map(callee, items, case.chunksize)
        case "map_async":
            answers = pool.map_async(callee, changing, case.chunksize).get()
        case "starmap":
            answers = pool.starmap(callee, [(item,) for item in items], case.chunksize)
        case "imap":
            answers = list(pool.imap(callee, changing, case.chunksize))
        case "imap_unordered":
            answers = list(pool.imap_unordered(callee, changing, case.chunksize))
    return answers
