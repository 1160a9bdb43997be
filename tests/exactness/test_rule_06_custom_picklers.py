"""Rule 6: an object with a pickler of its own is asked as often as the standard library asks it."""

from __future__ import annotations

import copyreg
import itertools
import json
import multiprocessing.queues
import pickle
import random
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, Self

import pytest
from testkit.oracle import Pool
from testkit.scripts import run_script

from exactness.calls import attempt, by_every_call
from exactness.material import BINDINGS, HEAVY, ints, sizes, words
from exactness.twin import same

asked: list[object] = []
"""Who was asked in the parent, and with what."""


@pytest.fixture(autouse=True)
def nobody_asked() -> Iterator[None]:
    yield
    asked.clear()


class Made:
    """What the objects below arrive as: it tells how often its source was asked before."""

    loads = 0

    def __init__(self, count: int) -> None:
        self.count = count
        Made.loads += 1


class ByReduce:
    def __reduce__(self) -> tuple[type[Made], tuple[int]]:
        asked.append("reduce")
        return Made, (len(asked),)


class ByReduceEx:
    def __reduce_ex__(self, protocol: Any) -> tuple[type[Made], tuple[int]]:
        asked.append(protocol)
        return Made, (int(protocol) * 1000 + len(asked),)


class ByState:
    count = 0

    def __getstate__(self) -> dict[str, int]:
        asked.append("state")
        return {"count": len(asked)}


class ByNewArgs:
    def __new__(cls, count: int = 0) -> Self:
        self = super().__new__(cls)
        self.count = count
        return self

    count: int

    def __getnewargs__(self) -> tuple[int]:
        asked.append("new arguments")
        return (len(asked),)

    def __getstate__(self) -> None:
        return None


class Registered:
    pass


def reduce_registered(_: Registered) -> tuple[type[Made], tuple[int]]:
    asked.append("registered")
    return Made, (len(asked),)


class ListByReduce(list[Any]):
    """A container of the standard library's, with its own pickler."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        asked.append("list")
        return Made, (len(asked) + len(self),)


SOURCES: dict[str, Callable[[], Any]] = {
    "reduce": ByReduce,
    "reduce_ex": ByReduceEx,
    "getstate": ByState,
    "getnewargs": ByNewArgs,
    "list subclass": lambda: ListByReduce(ints(10)),
}
sources = pytest.mark.parametrize("source", SOURCES)


def bound_source(source: str, n: int) -> list[Any]:
    return [ints(n), SOURCES[source](), words(n)]


def counts(x: Any, d: Any) -> list[Any]:
    """What the bound source and the item told, with the heavy part's length."""
    return [d[1].count, len(d[0]), getattr(x, "count", None) if not isinstance(x, int) else x]


@sizes
@sources
def test_a_bound_object_is_asked_once_for_each_task(source: str, n: int) -> None:
    """Rule 6: per task, per chunk; what it answers may differ each time."""

    def program(pool: Pool) -> object:
        asked.clear()
        callee = partial(counts, d=bound_source(source, n))
        answers = by_every_call(pool, callee, range(5))
        return answers, list(asked)

    answers, _ = same(program)
    numbers = [count % 1000 for count, _, _ in answers["apply"]]
    assert numbers == sorted(set(numbers))


@sizes
@sources
@pytest.mark.parametrize("binding", BINDINGS)
def test_it_is_asked_however_it_is_bound(source: str, binding: str, n: int) -> None:
    """Rule 6, through every binding."""

    def program(pool: Pool) -> object:
        asked.clear()
        callee = BINDINGS[binding](counts, bound_source(source, n))
        answers = by_every_call(pool, callee, range(3), ["apply", "imap 1", "map 2"])
        return answers, list(asked)

    same(program)


@sizes
@sources
def test_an_argument_is_asked_once_for_each_task(source: str, n: int) -> None:
    """Rule 6 for items: once in a chunk, however often it stands there."""

    def program(pool: Pool) -> object:
        asked.clear()
        item = SOURCES[source]()
        callee = partial(counts, d=bound_source(source, n))
        answers = by_every_call(pool, callee, [item, item, SOURCES[source]()])
        return answers, list(asked)

    same(program)


@sizes
def test_the_protocol_is_the_interpreters_default(n: int) -> None:
    """Rule 6: `__reduce_ex__` sees the default protocol, not 5 for the sake of buffers."""

    def program(pool: Pool) -> object:
        asked.clear()
        pool.apply(partial(counts, d=bound_source("reduce_ex", n)), (ByReduceEx(),))
        return list(asked)

    assert same(program) == [pickle.DEFAULT_PROTOCOL] * 2


def length(x: Any) -> int:
    return len(x)


@sizes
def test_a_buffer_in_the_arguments_is_treated_as_by_that_protocol(n: int) -> None:
    """Rule 6: a PickleBuffer raises below protocol 5."""

    def program(pool: Pool) -> object:
        part = bytearray(n)
        return [
            attempt(lambda: bytes(pool.apply(bytes, (pickle.PickleBuffer(part),))) == part),
            attempt(lambda: pool.apply(partial(length, pickle.PickleBuffer(part)))),
            attempt(lambda: pool.map(length, [[1], pickle.PickleBuffer(part)], 1)),
            attempt(lambda: pool.apply(length, (part,))),
        ]

    same(program)


@pytest.fixture
def in_copyreg() -> Iterator[None]:
    copyreg.pickle(Registered, reduce_registered)  # type: ignore[arg-type]
    yield
    del copyreg.dispatch_table[Registered]


@pytest.fixture
def in_forking_pickler() -> Iterator[None]:
    ForkingPickler.register(Registered, reduce_registered)
    yield
    del ForkingPickler._extra_reducers[Registered]  # type: ignore[attr-defined]


@sizes
@pytest.mark.parametrize("where", ["in_copyreg", "in_forking_pickler"])
def test_a_registered_reducer_is_asked_once_for_each_task(
    where: str, n: int, request: pytest.FixtureRequest
) -> None:
    """Rule 6: whether registered with copyreg or with multiprocessing."""
    request.getfixturevalue(where)

    def program(pool: Pool) -> object:
        asked.clear()
        callee = partial(counts, d=[ints(n), Registered(), 0])
        answers = by_every_call(pool, callee, [Registered(), Registered(), 0])
        return answers, list(asked)

    same(program)


@sizes
def test_a_reducer_registered_between_two_calls_is_used(n: int) -> None:
    """Rule 6: the table is looked at for each pickling, not when the pool is made."""

    def program(pool: Pool) -> object:
        asked.clear()
        callee = partial(_type_of_second, d=[ints(n), Registered()])
        seen = [pool.apply(callee, (0,))]
        ForkingPickler.register(Registered, reduce_registered)
        seen += [pool.apply(callee, (0,)), *pool.imap(callee, range(2))]
        del ForkingPickler._extra_reducers[Registered]  # type: ignore[attr-defined]
        seen.append(pool.apply(callee, (0,)))
        return seen, list(asked)

    assert same(program)[0] == ["Registered", "Made", "Made", "Made", "Registered"]


def _type_of_second(x: object, d: list[Any]) -> str:
    return type(d[1]).__name__


class Noting(ForkingPickler):
    """A pickler that notes what it pickles, and answers for one type."""

    def reducer_override(self, obj: object) -> Any:
        if isinstance(obj, Registered):
            asked.append("override")
            return Made, (len(asked),)
        return NotImplemented


@sizes
def test_the_pickler_in_use_at_that_moment_is_honoured(
    n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rule 6: `multiprocessing.queues` and `.connection` name the class; it may be replaced."""

    def program(pool: Pool) -> object:
        asked.clear()
        callee = partial(_type_of_second, d=[ints(n), Registered()])
        seen = [pool.apply(callee, (0,))]
        with monkeypatch.context() as patch:
            patch.setattr("multiprocessing.queues._ForkingPickler", Noting)
            patch.setattr("multiprocessing.connection._ForkingPickler", Noting)
            seen += [pool.apply(callee, (0,)), *pool.imap(callee, range(2))]
        seen.append(pool.apply(callee, (0,)))
        return seen, list(asked)

    assert same(program)[0] == ["Registered", "Made", "Made", "Made", "Registered"]


RECIPE = """
import io, json, multiprocessing, pickle, sys
from functools import partial
from multiprocessing.context import AbstractReducer  # as in the recipe found on the net
from multiprocessing.reduction import AbstractReducer, ForkingPickler, register

class ForkingPickler2(ForkingPickler):
    def __init__(self, *args):
        args = list(args)
        if len(args) > 1:
            args[1] = 2
        else:
            args.append(2)
        super().__init__(*args)

    @classmethod
    def dumps(cls, obj, protocol=2):
        buf = io.BytesIO()
        cls(buf, protocol).dump(obj)
        return buf.getbuffer()

def dump(obj, file, protocol=2):
    ForkingPickler2(file, protocol).dump(obj)

class Reducer2(AbstractReducer):
    ForkingPickler = ForkingPickler2
    register = register
    dump = dump

class Protocol:
    def __reduce_ex__(self, protocol):
        return int, (protocol,)

def told(x, d):
    return d[0], x

if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    context.reducer = Reducer2()
    if sys.argv[1] == "millpond":
        from millpond import Pool
        pool = Pool(1, context=context)
    else:
        pool = context.Pool(1)
    n = int(sys.argv[2])
    with pool:
        callee = partial(told, d=[Protocol(), list(range(n))])
        answers = [pool.apply(callee, (Protocol(),)), list(pool.imap(callee, [Protocol()] * 2))]
        print(json.dumps(answers))
    pool.join()
"""


@sizes
def test_a_replaced_reducer_of_the_context_is_honoured(n: int, tmp_path: Path) -> None:
    """Rule 6: the known recipe `context.reducer = ...`; it has to come first in the process."""
    source = RECIPE.replace("from multiprocessing.context import AbstractReducer", "#")
    runs = [run_script(source, tmp_path, pool, str(n)) for pool in ("stdlib", "millpond")]
    assert [run.returncode for run in runs] == [0, 0], [run.stderr for run in runs]
    expected, found = (json.loads(run.stdout) for run in runs)
    assert found == expected == [[2, 2], [[2, 2], [2, 2]]]


# --- the other side -----------------------------------------------------------------------------


def loads_so_far(x: object, d: Any = None) -> int:
    return Made.loads


@sizes
def test_it_is_loaded_once_for_each_task(n: int) -> None:
    """Rule 6 in the worker: constructors and `__setstate__` run for each task, each chunk once."""

    def program(pool: Pool) -> object:
        start = pool.apply(loads_so_far, (0,))
        callee = partial(loads_so_far, d=[ByReduce(), ints(n)])
        answers = by_every_call(pool, callee, range(4))
        return {name: [count - start for count in seen] for name, seen in answers.items()}

    assert same(program)["apply"] == [1, 2, 3, 4]


def give_source(x: int, d: Any) -> Any:
    return [d, ByReduce()] if x % 2 else ByReduceEx()


@sizes
def test_a_result_is_asked_once(n: int) -> None:
    """Rule 6 for results: in the worker, once for each task or chunk."""

    def program(pool: Pool) -> object:
        pool.apply(asked.clear)
        answers = by_every_call(
            pool, partial(give_source, d=ints(n)), range(4), ["apply", "map 2", "imap 1"]
        )
        return [
            [part.count if isinstance(part, Made) else part[1].count for part in seen]
            for seen in answers.values()
        ], len(pool.apply(_asked_there))

    same(program)


def _asked_there() -> list[object]:
    return asked


# --- things of the standard library with a state of their own -------------------------------------


def advance(x: object, d: list[Any]) -> object:
    return next(d[0])


def draw(x: object, d: list[Any]) -> float:
    return float(d[0].random())


@sizes
def test_bound_iterators_and_generators_of_numbers_start_afresh(n: int) -> None:
    """Rules 1 and 6: an iterator over a heavy list, `random.Random`, `itertools.chain`."""

    def program(pool: Pool) -> object:
        iterator, chance = iter(ints(n)), random.Random(7)
        names = ["apply", "map 2", "imap 1"]
        seen = [by_every_call(pool, partial(advance, d=[iterator]), range(4), names)]
        next(iterator)
        seen.append(by_every_call(pool, partial(advance, d=[iterator, ints(n)]), range(4), names))
        seen.append(by_every_call(pool, partial(draw, d=[chance, ints(n)]), range(4), names))
        return seen, next(iterator), chance.random()

    same(program)


@pytest.mark.filterwarnings("ignore:Pickle, copy, and deepcopy:DeprecationWarning")
def test_a_bound_count_starts_afresh() -> None:
    """Rule 6: picklable before 3.14, with a warning after 3.12; then an error of one kind."""

    def program(pool: Pool) -> object:
        bound = [itertools.count(5), ints(HEAVY)]
        return [attempt(partial(pool.apply, partial(advance, d=bound), (0,))) for _ in range(3)]

    same(program)


def test_the_tests_pickler_is_the_standard_librarys() -> None:
    """If CPython moves the name that this file replaces, the file must follow."""
    assert multiprocessing.queues._ForkingPickler is ForkingPickler  # type: ignore[attr-defined]


class Renamed:
    """What a pickler that a task has changed makes of a function."""


def _as_text(_: Any, value: Any) -> Any:
    return (str, ("changed",)) if value is an_answer else NotImplemented


def change_results(how: str) -> None:
    """Change, in the worker, the class that pickles the results of the tasks to come."""
    if how == "override":
        ForkingPickler.reducer_override = _as_text  # type: ignore[method-assign]
    elif how == "class":
        body = {"reducer_override": _as_text}
        other = type("Other", (ForkingPickler,), body)
        multiprocessing.queues._ForkingPickler = other  # type: ignore[attr-defined]
    elif how == "register":
        ForkingPickler.register(Renamed, lambda value: (str, ("changed",)))
    elif how == "undo":
        del ForkingPickler.reducer_override


def an_answer(kind: str) -> Any:
    return {"function": an_answer, "class": Renamed, "instance": Renamed(), "int": 7}[kind]


@pytest.mark.parametrize("how", ["override", "class", "register"])
def test_a_task_may_change_the_pickler_of_the_results_to_come(how: str) -> None:
    def program(pool: Pool) -> object:
        kinds = ["function", "class", "instance", "int"]
        before = pool.map(an_answer, kinds, chunksize=1)
        pool.apply(change_results, (how,))
        after = [repr(pool.apply(an_answer, (kind,))) for kind in kinds if kind != "instance"]
        after.append(type(pool.apply(an_answer, ("instance",))).__name__)
        if how == "override":
            pool.apply(change_results, ("undo",))
            after += [repr(x) for x in pool.map(an_answer, kinds[:2], chunksize=1)]
        return [type(x).__name__ for x in before], after

    same(program)
