"""Rule 10: names are resolved at each task; errors of pickling keep their types, and tracebacks
their cause."""

from __future__ import annotations

import os
import threading
import types
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.pool import (  # type: ignore[attr-defined]
    MaybeEncodingError,
    RemoteTraceback,
)
from typing import Any

import pytest
from testkit.oracle import Pool

from exactness import renamed
from exactness.calls import RUNNERS, attempt, by_every_call, drain, told
from exactness.material import BINDINGS, HEAVY, ints, mixed, sizes, words
from exactness.twin import same, same_error


def rebind(x: object, d: object = None) -> None:
    """In the worker, `renamed.target` is another function from now on."""
    renamed.target = renamed.replacement


def rebind_by_reload() -> None:
    """As `importlib.reload` does: every name of the module is a new object."""
    fresh = types.ModuleType(renamed.__name__)
    with open(renamed.__file__, encoding="utf-8") as source:
        exec(
            compile(source.read().replace('"first"', '"reloaded"'), renamed.__file__, "exec"),
            fresh.__dict__,
        )
    renamed.__dict__.update(fresh.__dict__)


@sizes
@pytest.mark.parametrize("runner", RUNNERS)
def test_a_function_rebound_by_an_earlier_task_is_the_new_one(runner: str, n: int) -> None:
    """Rule 10: plain, and as the function of a heavy partial that the worker has already seen."""

    def program(pool: Pool) -> object:
        run = RUNNERS[runner]
        heavy = partial(renamed.target, d=ints(n))
        before = run(pool, renamed.target, range(2)), run(pool, heavy, range(2))
        pool.apply(rebind, (0,))
        after = run(pool, renamed.target, range(2)), run(pool, heavy, range(2))
        return before, after

    before, after = same(program)
    assert before[1][0][0] == "first" and after[1][0][0] == "second"


@sizes
@pytest.mark.parametrize("binding", BINDINGS)
def test_it_is_the_new_one_however_it_is_bound(binding: str, n: int) -> None:
    """Rule 10: a name anywhere in the callable, and a reloaded module."""

    def program(pool: Pool) -> object:
        callee = BINDINGS[binding](renamed.target, ints(n))
        seen = [pool.apply(callee, (0,))]
        for change in (rebind_by_reload, partial(rebind, 0)):
            pool.apply(change)
            seen += [pool.apply(callee, (0,)), *pool.imap(callee, range(2))]
        return seen

    same(program)


def type_is_module(x: object, d: list[Any]) -> tuple[bool, str]:
    return type(d[0]) is renamed.Thing, type(d[0]).origin


@sizes
def test_a_class_is_resolved_at_each_task(n: int) -> None:
    """Rule 10: after a reload `type(d[0]) is renamed.Thing` still holds, for the new class."""

    def program(pool: Pool) -> object:
        callee = partial(type_is_module, d=[renamed.Thing(1), *range(n)])
        before = list(pool.imap(callee, range(2)))
        pool.apply(rebind_by_reload)
        return before, list(pool.imap(callee, range(2))), pool.map(callee, range(4), 2)

    assert same(program)[1] == [(True, "reloaded")] * 2


def call_bound(x: object, d: list[Any]) -> object:
    return d[0](x), d[-1].__name__, d[-1] is renamed.target


@sizes
def test_a_function_bound_in_a_heavy_list_is_resolved_at_each_task(n: int) -> None:
    """Rule 10: functions and classes are elements like others."""

    def program(pool: Pool) -> object:
        callee = partial(call_bound, d=[renamed.target, *range(n), renamed.target])
        before = pool.apply(callee, (0,))
        pool.apply(rebind, (0,))
        return before, pool.apply(callee, (0,)), list(pool.imap(callee, range(3)))

    same(program)


def rebinds_itself(x: int, d: Any) -> object:
    if x == 1:
        globals()["rebinds_itself"] = rebound
    return "old", x, len(d)


def rebound(x: int, d: Any) -> object:
    return "new", x, len(d)


@sizes
def test_a_task_rebinds_its_own_function_for_the_next_task_not_for_its_chunk(n: int) -> None:
    """Rules 10 and 12: what is loaded for a chunk stays for the chunk."""

    def program(pool: Pool) -> object:
        callee = partial(rebinds_itself, d=ints(n))
        return pool.map(callee, range(6), 3), list(pool.imap(callee, range(2)))

    assert [name for name, _, _ in same(program)[0]] == ["old"] * 3 + ["new"] * 3


def test_a_name_rebound_in_the_parent_no_longer_pickles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule 10: "it's not the same object as" is an error at each dispatch, cached or not."""

    def program(pool: Pool) -> object:
        original = renamed.target
        callee = partial(original, d=ints(HEAVY))
        seen = [attempt(partial(pool.apply, callee, (0,)))]
        with monkeypatch.context() as patch:
            patch.setattr(renamed, "target", renamed.replacement)
            seen.append(attempt(partial(pool.apply, callee, (0,))))
            seen.append(attempt(partial(pool.apply, original, (0,))))
        seen.append(attempt(partial(pool.apply, callee, (0,))))
        return seen

    same(program)


# --- what does not pickle -----------------------------------------------------------------------


def _nested() -> Callable[[Any], Any]:
    def inner(x: Any) -> Any:
        return x

    return inner


def _deep() -> list[Any]:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    return deep


def _generator() -> Iterator[int]:
    yield 1


module_lambda = lambda x: x

UNPICKLABLE: dict[str, Callable[[], Any]] = {
    "lambda": lambda: lambda x: x,
    "module's lambda": lambda: module_lambda,
    "nested function": _nested,
    "lock": threading.Lock,
    "generator": _generator,
    "open file": lambda: open(os.devnull, encoding="utf-8"),
    "module": lambda: types,
    "local class": lambda: type("Local", (), {})(),
    "raises": lambda: Refuses(),
    "deep": _deep,
}
unpicklable = pytest.mark.parametrize("kind", UNPICKLABLE)


class Refuses:
    def __reduce__(self) -> str:
        raise LookupError("not today")


def length(x: object, d: Any) -> int:
    return len(d)


def closing(parts: list[Any]) -> None:
    for part in parts:
        if hasattr(part, "close"):
            part.close()


@unpicklable
def test_an_unpicklable_callable_raises_what_it_raises(kind: str) -> None:
    """Rule 10: lambdas are refused with cloudpickle installed or not; the pool works on."""

    def program(pool: Pool) -> object:
        bad = UNPICKLABLE[kind]()
        try:
            if not callable(bad):
                bad = partial(length, d=bad)
            return [
                attempt(partial(pool.apply, bad, (1,))),
                attempt(partial(pool.map, bad, range(3))),
                attempt(partial(pool.map, bad, range(3), 1)),
                drain(pool.imap(bad, range(3))),
                attempt(lambda: list(pool.imap(bad, range(3), 2))),
                attempt(partial(pool.starmap, bad, [(1,), (2,)])),
                pool.apply(len, ([1],)),
            ]
        finally:
            closing([bad.keywords["d"]] if isinstance(bad, partial) else [])

    same(program)


@sizes
@unpicklable
def test_an_unpicklable_part_beside_a_heavy_one_raises_what_it_raises(kind: str, n: int) -> None:
    """Rule 10, where the callable is cut into parts; the next task, without it, is done."""

    def program(pool: Pool) -> object:
        bad = UNPICKLABLE[kind]()
        try:
            callee = partial(length, d=[ints(n), bad])
            deep = partial(length, d=[*range(n), [bad]])
            return [
                attempt(partial(pool.apply, callee, (1,))),
                attempt(partial(pool.apply, deep, (1,))),
                drain(pool.imap(callee, range(2))),
                attempt(partial(pool.apply, partial(length, d=ints(n)), (bad,))),
                drain(pool.imap(partial(length, d=ints(n)), [1, bad, 2])),
                drain(pool.imap(partial(length, d=ints(n)), [1, bad, 2, 3])),
                attempt(partial(pool.map, partial(length, d=ints(n)), [1, bad, 2, 3], 1)),
                attempt(partial(pool.map, partial(length, d=ints(n)), [1, bad, 2, 3], 2)),
                pool.apply(partial(length, d=ints(n)), (1,)),
            ]
        finally:
            closing([bad])

    same(program)


def test_a_callable_that_cannot_be_called_is_the_tasks_error() -> None:
    """Rule 10: it travels, and fails there."""

    def program(pool: Pool) -> object:
        return [
            attempt(partial(pool.apply, 5)),  # type: ignore[arg-type]
            attempt(partial(pool.map, None, [1, 2])),  # type: ignore[arg-type]
            attempt(partial(pool.apply, length, (1,))),
            attempt(partial(pool.apply, partial(length, d=5), (1,))),
        ]

    same(program)


# --- errors of tasks ----------------------------------------------------------------------------


class Own(Exception):
    """An exception of the user's with attributes of its own."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.detail = [text, text]


def fail(how: str, d: Any) -> object:
    if how == "chained":
        try:
            return dict[str, int]()[how]
        except KeyError as error:
            raise ValueError(how, len(d)) from error
    if how == "in context":
        try:
            return dict[str, int]()[how]
        except KeyError:
            raise ValueError(how, len(d))
    if how == "own":
        own = Own(how)
        own.detail.append(str(len(d)))
        raise own
    if how == "note":
        noted = ValueError(how)
        noted.add_note("a note")
        raise noted
    if how == "group":
        raise ExceptionGroup(how, [ValueError(1), TypeError(2)])
    if how == "stop":
        raise StopIteration(len(d))
    if how == "system":
        raise OSError(2, "No such thing", "name")
    if how == "unicode":
        b"\xff".decode()
    if how == "with the bound":
        raise ValueError(d, d)
    if how == "assertion":
        assert not d, how
    return 1 / 0


HOWS = [
    "chained",
    "in context",
    "own",
    "note",
    "group",
    "stop",
    "system",
    "unicode",
    "with the bound",
    "assertion",
    "division",
]


@sizes
@pytest.mark.parametrize("how", HOWS)
def test_an_error_of_a_task_arrives_whole(how: str, n: int) -> None:
    """Rule 10: type, arguments, attributes, notes, and `__cause__` a RemoteTraceback."""

    def program(pool: Pool) -> object:
        callee = partial(fail, d=ints(n))
        try:
            pool.apply(callee, (how,))
        except Exception as error:
            cause = error.__cause__
            return error.args, vars(error), type(cause), error.__suppress_context__, type(error)
        return None

    same(program)


@pytest.mark.parametrize("how", HOWS)
def test_every_call_raises_it(how: str) -> None:
    """Rule 10: also StopIteration, which ends a loop over an `imap`."""

    def program(pool: Pool) -> object:
        callee = partial(fail, d=ints(10))
        calls: dict[str, object] = {}
        for name, run in RUNNERS.items():
            calls[name] = attempt(partial(run, pool, callee, [how, how]))
        iterator = pool.imap(callee, [how, "division"])
        calls["next"] = [attempt(lambda: next(iterator)) for _ in range(3)]
        return calls

    same(program)


def own_lines(text: str) -> list[str]:
    """What a remote traceback tells of the user's frames and errors; not the pool's own frames."""
    lines = text.splitlines()
    return [
        line
        for i, line in enumerate(lines)
        if __file__ in line or (i and __file__ in lines[i - 1]) or not line.startswith("  ")
    ]


@sizes
@pytest.mark.parametrize("how", ["chained", "in context", "own", "division"])
def test_the_remote_traceback_shows_where_it_was(how: str, n: int) -> None:
    """Rule 10: text of the worker's traceback, chained errors included, in the standard library's
    form."""

    def program(pool: Pool) -> object:
        seen = []
        for run in ("apply", "map 1", "imap 1", "starmap 1"):
            try:
                RUNNERS[run](pool, partial(fail, d=ints(n)), [how])
            except Exception as error:
                assert isinstance(error.__cause__, RemoteTraceback)
                seen.append((own_lines(str(error.__cause__)), error.__cause__.tb[:4]))
        return seen

    assert "in fail" in str(same(program))


def give_unpicklable(x: int, d: Any) -> object:
    if x == 1:
        return [len(d), lambda: x]
    if x == 2:
        raise ValueError("with a lock", threading.Lock())
    if x == 3:
        return Refuses()
    return x


@sizes
def test_a_result_that_does_not_pickle_is_a_maybe_encoding_error(n: int) -> None:
    """Rule 10: its texts are the standard library's, for values, errors, and chunks."""

    def program(pool: Pool) -> object:
        callee = partial(give_unpicklable, d=ints(n))
        return [
            [attempt(partial(pool.apply, callee, (x,))) for x in range(4)],
            drain(pool.imap(callee, range(5))),
            attempt(partial(pool.map, callee, range(4), 1)),
            attempt(lambda: list(pool.imap(callee, range(4), 2))),
            pool.apply(callee, (0,)),
        ]

    same(program)


def test_maybe_encoding_error_is_the_standard_librarys_class() -> None:
    """Rule 10: it can be caught by the name that programs import."""

    def program(pool: Pool) -> object:
        try:
            return pool.apply(give_unpicklable, (1, [])) and None
        except MaybeEncodingError as error:
            return str(error)[:24], hasattr(error, "exc"), hasattr(error, "value")

    assert same(program)[1:] == (True, True)


def test_an_error_tells_by_type_and_cause() -> None:
    """Rule 10, by the oracle itself: the failure of a whole program."""
    failure = same_error(lambda pool: pool.map(partial(fail, d=[]), ["division"]))
    assert (failure.kind, failure.cause) == (ZeroDivisionError, RemoteTraceback)


def callback_told(pool: Pool, callee: Callable[..., Any], *args: Any) -> list[object]:
    """What the error callback gets, and that it is what `get` raises."""
    errors: list[BaseException] = []
    result = pool.apply_async(callee, args, error_callback=errors.append)
    try:
        result.get()
    except Exception as error:
        return [told(error), [one is error for one in errors], result.successful()]
    return [errors]


@sizes
def test_an_error_callback_gets_the_very_error(n: int) -> None:
    """Rules 10 and 11: one object for callback and caller."""

    def program(pool: Pool) -> object:
        callee = partial(fail, d=mixed(n))
        return [
            callback_told(pool, callee, "own"),
            callback_told(pool, callee, "with the bound")[1:],
            callback_told(pool, lambda: 0),
            callback_told(pool, partial(give_unpicklable, d=words(n)), 2),
        ]

    same(program)


def test_names_are_resolved_in_spawned_workers_too() -> None:
    """Rule 10, where the worker imports the module itself."""

    def program(pool: Pool) -> object:
        heavy = partial(renamed.target, d=ints(HEAVY))
        before = by_every_call(pool, heavy, range(2), ["apply", "imap 1"])
        pool.apply(rebind, (0,))
        return before, by_every_call(pool, heavy, range(2), ["apply", "imap 1", "map 2"])

    same(program, start_method="spawn")
