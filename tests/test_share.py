"""`millpond.share`: once for each pool and worker, and kept there."""

from __future__ import annotations

import functools
import gc
import multiprocessing
import pickle
import weakref
from typing import Any

import millpond
import pytest
from testkit.pools import pids_of, running


def add(x: Any, data: Any) -> int:
    """Change what is shared, and tell how often that has been done here."""
    data.append(x)
    return len(data)


def seen(*args: Any, **kwds: Any) -> Any:
    return [type(a).__name__ for a in args], {k: type(v).__name__ for k, v in kwds.items()}


def deep(holder: Any) -> Any:
    return type(holder["in"][0].inner).__name__, len(holder["in"][0].inner)


class Holder:
    def __init__(self, inner: Any) -> None:
        self.inner = inner


class Hidden:
    """It has a pickler of its own, with the handle in it."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __reduce__(self) -> Any:
        return (Hidden, (self.inner,))


class Counting:
    """Counts how often it is pickled here, and loaded there."""

    pickled = 0
    loaded = 0

    def __getstate__(self) -> Any:
        Counting.pickled += 1
        return {"x": 1}

    def __setstate__(self, state: Any) -> None:
        Counting.loaded += 1

    def append(self, _x: Any) -> None:
        pass

    def __len__(self) -> int:
        return Counting.loaded


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_change_of_a_task_is_there_for_the_next_of_its_worker(method: str) -> None:
    with running(1, method) as pool:
        handle = millpond.share([1, 2])
        assert pool.map(functools.partial(add, data=handle), range(4), chunksize=1) == [3, 4, 5, 6]
        assert [pool.apply(add, (x, handle)) for x in range(2)] == [7, 8]
        assert pool.starmap(add, [(x, handle) for x in range(2)], chunksize=2) == [9, 10]
    assert handle.value == [1, 2]


def test_it_is_pickled_once_and_loaded_once_by_each_worker() -> None:
    Counting.pickled = 0
    with running(2) as pool:
        handle = millpond.share(Counting())
        counts = pool.map(functools.partial(add, data=handle), range(40), chunksize=1)
        assert set(counts) == {1}
        assert Counting.pickled == 1
        (part,) = pool.stats().parts
        assert (part.rung, part.pickled) == ("shared", 1)
        assert 1 <= part.loaded <= 2


def test_a_handle_may_stand_anywhere() -> None:
    with running(1) as pool:
        handle = millpond.share([1])
        assert pool.apply(seen, (handle, 1), {"k": handle}) == (["list", "int"], {"k": "list"})
        for kind in (Holder, Hidden):
            holder = {"in": [kind(handle)]}
            assert pool.apply(deep, (holder,)) == ("list", 1)
            assert pool.apply(functools.partial(deep, holder)) == ("list", 1)
        assert list(pool.imap(length, [handle, handle])) == [1, 1]


def length(data: Any) -> int:
    return len(data)


def are_one(a: Any, b: Any) -> bool:
    return a is b


def test_one_handle_is_one_object_and_two_handles_are_two() -> None:
    value = [1]
    with running(1) as pool:
        one, other = millpond.share(value), millpond.share(value)
        assert pool.apply(are_one, (one, one))
        assert not pool.apply(are_one, (one, other))
        assert pool.apply(add, (0, one)) == 2
        assert pool.apply(len, (other,)) == 1


def test_its_memory_is_given_back_with_the_handle() -> None:
    with running(1) as pool:
        handle = millpond.share(b"x" * 100_000)
        assert pool.apply(len, (handle,)) == 100_000
        assert pool.stats()["stored_bytes"] >= 100_000
        del handle
        assert pool.stats()["stored_bytes"] == 0


def test_a_handle_may_serve_one_pool_after_the_other_and_its_value_goes_with_it() -> None:
    value = Appendable([1])
    is_alive = weakref.ref(value)
    handle = millpond.share(value)
    del value
    for _ in range(2):
        with running(1) as pool:
            assert pool.apply(add, (0, handle)) == 2
            assert is_alive() is not None
    del handle
    gc.collect()
    assert is_alive() is None


class Appendable(list[int]):
    """A list that can be weakly referenced."""


def test_a_replaced_worker_gets_it_anew() -> None:
    with running(1, maxtasksperchild=2) as pool:
        handle = millpond.share([0])
        counts = pool.map(functools.partial(add, data=handle), range(6), chunksize=1)
        assert counts == [2, 3, 2, 3, 2, 3]


def test_a_value_that_cannot_be_pickled_is_an_error_of_its_task() -> None:
    with running(1) as pool:
        handle = millpond.share(lambda: 1)
        with pytest.raises((pickle.PicklingError, AttributeError)):
            pool.apply(seen, (handle,))
        assert pool.apply(abs, (-1,)) == 1
        assert len(pids_of(pool)) == 1


def test_elsewhere_a_handle_is_pickled_as_its_value() -> None:
    handle = millpond.share({"a": [1]})
    assert pickle.loads(pickle.dumps(handle)) == {"a": [1]}
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(len, (handle,)) == 1
    pool.join()
    assert "share" in repr(handle)


def give_back(data: Any) -> Any:
    return data


def test_what_a_task_returns_is_the_value() -> None:
    with running(1) as pool:
        handle = millpond.share([1, 2])
        assert pool.apply(give_back, (handle,)) == [1, 2]


def test_an_array_is_shared_too_and_is_another_than_the_same_one_beside_it() -> None:
    np = pytest.importorskip("numpy")
    array = np.arange(100_000.0)
    with running(1) as pool:
        one, other = millpond.share([array, array[:]]), millpond.share(array)
        seen = [pool.apply(write_all, (one, other, array, x)) for x in range(3)]
        # What was shared keeps what earlier tasks have written; an argument does not.
        assert seen == [
            [[0.0, 0.0, 0.0, 0.0], 100_000],
            [[0.0, 10.0, 20.0, 0.0], 100_000],
            [[1.0, 11.0, 21.0, 0.0], 100_000],
        ]
        assert pool.apply(write_all, (one, one.value[0], other, 9))[0] == [2.0, 12.0, 0.0, 22.0]
        del one, other
        # The watchdog ends what never is so: the worker lets go when it is idle.
        while pool.stats()["stored_bytes"] > 2 * array.nbytes:
            pool.apply(abs, (1,))
    assert float(array[0]) == 0.0


def write_all(pair: Any, alone: Any, argument: Any, x: int) -> Any:
    """Look at the first number of each array, then write another one to each."""
    arrays = [*pair, alone, argument]
    seen = [float(array[0]) for array in arrays]
    for at, array in enumerate(arrays):
        array[0] = x + 10.0 * at
    return [seen, len(argument)]
