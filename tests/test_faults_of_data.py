"""What cannot be pickled or unpickled, on any of the four ways, is an error of its task alone.

The standard library hangs in half of these cells: an exception in a worker outside the task kills
the worker, and nobody tells. Where it answers, the answer must be the same.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from multiprocessing.pool import MaybeEncodingError, RemoteTraceback  # type: ignore[attr-defined]
from typing import Any, NoReturn

import pytest
from testkit import oracle
from testkit.pools import running
from testkit.work import identity, keywords, pid_of_worker, square


class Refusal(Exception):
    """What our objects raise when they are pickled or unpickled."""


def refuse(where: str) -> NoReturn:
    raise Refusal(where)


class CannotPickle:
    def __reduce__(self) -> NoReturn:
        raise Refusal("pickle")


class CannotUnpickle:
    """Pickles well; raises when it is loaded, in whichever process that is."""

    def __reduce__(self) -> tuple[Callable[[str], NoReturn], tuple[str]]:
        return refuse, ("unpickle",)

    def __call__(self, x: int) -> int:
        return x


class ExitsOnUnpickle:
    def __reduce__(self) -> tuple[Callable[[int], None], tuple[int]]:
        return sys.exit, (4,)


class CannotUnpickleError(Exception):
    """The usual mistake: a constructor that needs more than `args` holds."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def return_unpicklable(_: int) -> object:
    return lambda: None


def return_refusing(_: int) -> object:
    return CannotPickle()


class NeitherPickledNorShown:
    def __reduce__(self) -> NoReturn:
        raise Refusal("pickle")

    def __repr__(self) -> str:
        raise Refusal("repr")


def return_neither(_: int) -> object:
    return NeitherPickledNorShown()


def return_not_loadable(_: int) -> object:
    return CannotUnpickle()


def raise_unpicklable(_: int) -> NoReturn:
    raise ValueError(lambda: None)


def raise_not_loadable(_: int) -> NoReturn:
    raise CannotUnpickleError(1, "text")


def raise_exit(_: int) -> NoReturn:
    sys.exit(5)


def raise_interrupt(_: int) -> NoReturn:
    raise KeyboardInterrupt("by the task")


class OwnBase(BaseException):
    pass


def raise_base(_: int) -> NoReturn:
    raise OwnBase("base")


WAYS: dict[str, Callable[[Any, Any, Any], object]] = {
    "apply": lambda pool, function, x: pool.apply(function, (x,)),
    "map": lambda pool, function, x: pool.map(function, [x]),
    "imap": lambda pool, function, x: next(pool.imap(function, [x])),
    "imap_unordered": lambda pool, function, x: next(pool.imap_unordered(function, [x])),
    "imap in chunks": lambda pool, function, x: next(pool.imap(function, [x, x], 2)),
}

CELLS: dict[str, tuple[Any, Any, type[BaseException]]] = {
    "argument that does not unpickle": (identity, CannotUnpickle(), Refusal),
    "argument that exits when unpickled": (identity, ExitsOnUnpickle(), SystemExit),
    "callable that does not unpickle": (CannotUnpickle(), 1, Refusal),
    "callable with a part that does not unpickle": (
        partial(keywords, CannotUnpickle()),
        1,
        Refusal,
    ),
    "result that does not unpickle": (return_not_loadable, 1, Refusal),
    "result that can neither be pickled nor shown": (return_neither, 1, MaybeEncodingError),
    "exception that does not pickle": (
        raise_unpicklable,
        1,
        MaybeEncodingError,
    ),
    "exception that does not unpickle": (raise_not_loadable, 1, TypeError),
    "exit": (raise_exit, 1, SystemExit),
    "interrupt": (raise_interrupt, 1, KeyboardInterrupt),
    "base exception": (raise_base, 1, OwnBase),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("cell", CELLS)
def test_what_the_standard_library_hangs_on_is_an_error_of_its_task(cell: str, way: str) -> None:
    function, argument, error = CELLS[cell]
    with running(1) as pool:
        worker = pool.apply(pid_of_worker)
        for _ in range(2):
            with pytest.raises(error):
                WAYS[way](pool, function, argument)
        assert pool.apply(pid_of_worker) == worker, "nobody died of it"


@pytest.mark.parametrize("start_method", ["spawn", "forkserver"])
@pytest.mark.parametrize("cell", CELLS)
def test_the_same_under_spawn_and_forkserver(cell: str, start_method: str) -> None:
    function, argument, error = CELLS[cell]
    with running(1, start_method) as pool:
        with pytest.raises(error):
            WAYS["apply"](pool, function, argument)
        assert pool.apply(square, (3,)) == 9


def test_a_result_that_can_neither_be_pickled_nor_shown_is_told_in_words() -> None:
    with running(1) as pool, pytest.raises(MaybeEncodingError) as raised:
        pool.apply(return_neither, (1,))
    assert raised.value.exc == repr(Refusal("pickle"))
    assert "NeitherPickledNorShown whose repr raised Refusal('repr')" in raised.value.value


def test_exit_and_interrupt_keep_their_arguments_and_tell_where_they_were_raised() -> None:
    with running(1) as pool:
        with pytest.raises(SystemExit) as exited:
            pool.apply(raise_exit, (1,))
        assert exited.value.code == 5
        assert isinstance(exited.value.__cause__, RemoteTraceback)
        assert "raise_exit" in str(exited.value.__cause__)
        with pytest.raises(KeyboardInterrupt, match="by the task"):
            pool.apply(raise_interrupt, (1,))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("function", "argument"),
    [
        (return_unpicklable, 1),
        (return_refusing, 1),
        (identity, CannotPickle()),
        (identity, lambda: None),
        (CannotPickle(), 1),
        (lambda x: x, 1),
    ],
    ids=["lambda back", "refusal back", "refusal out", "lambda out", "callable", "lambda"],
)
def test_what_the_standard_library_answers_is_answered_alike(
    function: Any, argument: Any, way: str
) -> None:
    outcome = oracle.assert_same(lambda pool: WAYS[way](pool, function, argument), processes=1)
    assert outcome.failure is not None


def test_a_bad_task_among_good_ones_harms_only_itself() -> None:
    with running(2) as pool:
        results = pool.imap(identity, [1, CannotPickle(), 2, CannotUnpickle(), 3])
        outcomes: list[object] = []
        for _ in range(5):
            try:
                outcomes.append(next(results))
            except Refusal as error:
                outcomes.append(str(error))
        assert outcomes == [1, "pickle", 2, "unpickle", 3]
        with pytest.raises(StopIteration):
            next(results)


class Deep:
    """Pickling recurses until Python gives up: a RecursionError, not an overflow of the C stack."""

    def __init__(self, depth: int) -> None:
        inner: object = None
        for _ in range(depth):
            inner = [inner]
        self.inner = inner


def test_too_deep_an_argument_is_a_RecursionError_as_in_the_standard_library() -> None:
    deep = Deep(100_000)
    outcome = oracle.assert_same(lambda pool: type_of_error(lambda: pool.apply(identity, (deep,))))
    assert outcome.value is RecursionError
    while deep.inner is not None:  # taken apart by hand: freeing it would recurse as well
        deep.inner = deep.inner[0]  # type: ignore[index]


def type_of_error(call: Callable[[], object]) -> type[BaseException] | None:
    try:
        call()
    except Exception as error:
        return type(error)
    return None


def test_a_task_may_close_descriptors_that_are_not_the_pools() -> None:
    """Standard streams are the program's to close, and workers go on."""
    with running(1) as pool:
        pool.apply(os.close, (0,))
        assert pool.map(square, range(10)) == [x * x for x in range(10)]
