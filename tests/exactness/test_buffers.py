"""Arrays, whose bytes cross without a copy: the same answers with write tracking and without."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from testkit.oracle import Pool, assert_same
from testkit.pools import running

from exactness.arrays import ARRAYS, EVERYTHING, HOLDERS, LENGTH, Holder, digest, look, spoil
from exactness.twin import same

MODES = ["tracked", "compared"]

TRACKED = 300_000
"""Items of an array that is long enough to be tracked."""


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MILLPOND_WRITE_TRACKING", "0" if request.param == "compared" else "1")
    return str(request.param)


def looks(*args: Any, **kwds: Any) -> Any:
    """Look at everything, then write into it."""
    seen = [look(arg) for arg in args], {key: look(value) for key, value in kwds.items()}
    for value in (*args, *kwds.values()):
        spoil(value)
    return seen, [look(arg) for arg in args]


def send_back(value: Any) -> Any:
    return value


@pytest.mark.parametrize("kind", EVERYTHING)
def test_each_task_sees_it_as_it_is_and_has_one_of_its_own(kind: str) -> None:
    def program(pool: Pool) -> object:
        value = EVERYTHING[kind]()
        return [
            list(pool.imap(functools.partial(looks, value), range(3))),
            [pool.apply(looks, (x, value), {"k": value}) for x in range(3)],
            pool.map(functools.partial(looks, data=value), range(4), chunksize=2),
            pool.starmap(looks, [(value, value) for _ in range(3)], chunksize=2),
            look(value),
        ]

    same(program)


@pytest.mark.parametrize("kind", EVERYTHING)
def test_what_comes_back_is_what_the_standard_library_gives(kind: str) -> None:
    def program(pool: Pool) -> object:
        value = EVERYTHING[kind]()
        results = [pool.apply(send_back, (value,)) for _ in range(2)]
        results += pool.map(send_back, [value, [value, value], value], chunksize=2)
        before = [look(result) for result in results]
        for result in results[:2]:
            spoil(result)
        return before, [look(result) for result in results], results[3][0] is results[3][1]

    same(program)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_the_start_method_makes_no_difference(method: str) -> None:
    def program(pool: Pool) -> object:
        value = {"a": ARRAYS["float64"](), "b": HOLDERS["frame"]()}
        bound = functools.partial(looks, value)
        return list(pool.imap(bound, range(3))), look(pool.apply(send_back, (value,)))

    same(program, start_method=method)


CHANGES: dict[str, Callable[[Any], object]] = {
    "nothing": lambda data: None,
    "first": lambda data: data.__setitem__(0, -1),
    "last": lambda data: data.__setitem__(-1, -1),
    "middle": lambda data: data.__setitem__(TRACKED // 2, -1),
    "back and forth": lambda data: (data.__setitem__(7, -1), data.__setitem__(7, 7.0)),
    "all": lambda data: data.__imul__(2),
    "through a view": lambda data: data[100:200].__setitem__(3, -1),
    "through bytes": lambda data: data.data.cast("B").__setitem__(800_000, 1),
    "sorted": lambda data: data[::-1].sort(),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("rounds", [1, 4])
def test_what_the_parent_writes_is_seen_by_the_next_task(
    mode: str, change: str, rounds: int
) -> None:
    def program(pool: Pool) -> object:
        data = np.arange(float(TRACKED))
        bound = functools.partial(looks, data)
        seen = []
        for _ in range(3):
            seen += [pool.apply(bound, (0,)) for _ in range(rounds)]
            CHANGES[change](data)
            seen.append(pool.apply(looks, (data,)))
        return seen

    same(program)


def test_what_the_kernel_writes_is_seen_by_the_next_task(mode: str, tmp_path: Any) -> None:
    path = tmp_path / "data"
    path.write_bytes(os.urandom(8 * TRACKED))
    content = path.read_bytes()

    def program(pool: Pool) -> object:
        data = np.zeros(TRACKED)
        bound = functools.partial(looks, data)
        seen = [pool.apply(bound) for _ in range(3)]
        with open(path, "rb", buffering=0) as file:
            file.readinto(data.data.cast("B"))
        seen += [pool.apply(bound) for _ in range(3)]
        path.write_bytes(content)
        return seen

    same(program)


def test_what_another_thread_writes_is_seen_by_the_next_task(mode: str) -> None:
    def program(pool: Pool) -> object:
        data = np.arange(float(TRACKED))
        bound = functools.partial(looks, data)
        seen = []
        for x in range(4):
            seen.append(pool.apply(bound))
            seen.append(pool.apply(bound))
            writer = threading.Thread(target=data.__setitem__, args=(1000 * x, -1))
            writer.start()
            writer.join()
        return seen

    same(program)


def test_memory_that_another_process_writes_is_compared(mode: str) -> None:
    def program(pool: Pool) -> object:
        from multiprocessing import shared_memory

        memory = shared_memory.SharedMemory(create=True, size=8 * TRACKED)
        try:
            data = np.ndarray(TRACKED, buffer=memory.buf)
            data[:] = np.arange(TRACKED)
            bound = functools.partial(looks, data)
            seen = [pool.apply(bound) for _ in range(3)]
            for x in range(2):
                pid = os.fork()
                if pid == 0:
                    other = shared_memory.SharedMemory(memory.name)
                    np.ndarray(TRACKED, buffer=other.buf)[1000 + x] = -1
                    os._exit(0)
                os.waitpid(pid, 0)
                seen += [pool.apply(bound) for _ in range(2)]
            del data, bound
            return seen
        finally:
            memory.close()
            memory.unlink()

    same(program)


def test_a_mapped_file_that_changes_is_compared(mode: str, tmp_path: Any) -> None:
    path = tmp_path / "data"

    def program(pool: Pool) -> object:
        np.arange(float(TRACKED)).tofile(path)
        data = np.asarray(np.memmap(path, "f8", mode="c"))
        data = data.view(np.ndarray)
        bound = functools.partial(looks, data)
        seen = [pool.apply(bound) for _ in range(3)]
        with open(path, "r+b", buffering=0) as file:
            file.seek(80_000)
            file.write(np.full(10, -1.0).tobytes())
        return seen + [pool.apply(bound) for _ in range(3)]

    same(program)


def test_an_array_in_the_place_of_another_is_not_taken_for_it(mode: str) -> None:
    def program(pool: Pool) -> object:
        seen = []
        for x in range(12):
            # As a rule the allocator gives each the memory of the one before.
            data = np.full(TRACKED, float(x))
            seen.append(pool.apply(looks, (data,)))
            del data
        return seen

    same(program)


def test_one_array_is_one_object_in_its_task_and_equal_ones_are_two() -> None:
    def program(pool: Pool) -> object:
        data = np.arange(float(LENGTH))
        func = functools.partial(identities, data, [data, data[:], data.copy()])
        return [
            list(pool.imap(func, [data, data.copy()])),
            pool.map(func, [data] * 4, chunksize=2),
            pool.apply(identities, (data, [data, data.T], {"a": data})),
        ]

    same(program)


def identities(*values: Any) -> Any:
    flat: list[Any] = []
    for value in values:
        inner = value.values() if isinstance(value, dict) else value
        flat.extend([value] if isinstance(value, np.ndarray) else inner)
    flat[0][3] = -7
    shared = [[a is b or np.shares_memory(a, b) for b in flat] for a in flat]
    return shared, [a is b for a in flat for b in flat], [float(a[3]) for a in flat]


def test_the_dtype_of_two_arrays_is_one_object_as_it_was() -> None:
    def program(pool: Pool) -> object:
        dtype = np.dtype([("a", "f8"), ("b", "i4")])
        one, two = np.zeros(LENGTH, dtype), np.zeros(LENGTH, dtype)
        other = np.zeros(LENGTH, np.dtype([("a", "f8"), ("b", "i4")]))
        return [
            pool.apply(functools.partial(dtypes, one, two), (other,)),
            look_at_dtypes(*pool.apply(send_back, ((one, two, other),))),
        ]

    same(program)


def dtypes(*arrays: Any) -> Any:
    return look_at_dtypes(*arrays)


def look_at_dtypes(*arrays: Any) -> Any:
    return [[a.dtype is b.dtype for b in arrays] for a in arrays]


kept: list[Any] = []


def keep(value: Any, write: float) -> Any:
    kept.append(value)
    value[1] = write
    return len(kept)


def look_at_kept() -> Any:
    return [look(value) for value in kept]


def write_kept(x: float) -> Any:
    for value in kept:
        value[2] = x
    return look_at_kept()


def test_a_task_may_keep_its_array_and_later_tasks_get_their_own(mode: str) -> None:
    def program(pool: Pool) -> object:
        data = np.arange(float(TRACKED))
        seen: list[Any] = [pool.apply(keep, (data, -float(x))) for x in range(4)]
        data[3] = 99
        seen += [pool.apply(keep, (data, -9.0)), pool.apply(look_at_kept)]
        del data
        for x in range(3):
            seen.append(pool.apply(looks, (np.full(TRACKED, float(x)),)))
        return [*seen, pool.apply(write_kept, (5.0,)), pool.apply(look_at_kept)]

    same(program)


def test_a_task_may_keep_a_view_or_the_bytes_behind(mode: str) -> None:
    def program(pool: Pool) -> object:
        data = np.arange(float(TRACKED))
        counts = [pool.apply(keep_inside, (data, how)) for how in ("view", "base", "memoryview")]
        data[:] = -1
        other = [pool.apply(looks, (data,)) for _ in range(2)]
        return counts, other, pool.apply(look_inside)

    same(program)


kept_inside: list[Any] = []


def keep_inside(data: Any, how: str) -> int:
    views = {"view": data[10:20], "base": data.base, "memoryview": memoryview(data.base)}
    kept_inside.append(views[how])
    return len(kept_inside)


def look_inside() -> Any:
    return [digest(bytes(value)) for value in kept_inside]


def test_more_arrays_than_can_be_mapped_at_a_time() -> None:
    def program(pool: Pool) -> object:
        arrays = [np.full(LENGTH, float(x)) for x in range(150)]
        seen = [pool.apply(sums, (arrays,)) for _ in range(2)]
        results = pool.apply(send_back, (arrays,))
        return seen, [float(a.sum()) for a in results], look(results[-1])

    same(program)


def sums(arrays: Any) -> Any:
    found = [float(array.sum()) for array in arrays]
    for array in arrays:
        array[:] = 0
    return found


class Meddler:
    """When it is pickled it writes into an array."""

    def __init__(self, target: Any) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        self.target[5] += 1
        return Meddler, (None,)


@pytest.mark.parametrize("first", [True, False])
def test_an_array_is_sent_as_it_is_when_its_turn_comes(mode: str, first: bool) -> None:
    def program(pool: Pool) -> object:
        data = np.zeros(TRACKED)
        meddler = Meddler(data)
        args = (meddler, data) if first else (data, meddler)
        return [pool.apply(second_look, args) for _ in range(4)], look(data)

    same(program)


def second_look(*args: Any) -> Any:
    return [look(arg) for arg in args if isinstance(arg, np.ndarray)]


def test_a_registered_reducer_is_asked() -> None:
    def program(pool: Pool) -> object:
        import copyreg

        data = np.arange(float(LENGTH))
        before = pool.apply(looks, (data,))
        copyreg.pickle(np.ndarray, reduce_to_sum)
        try:
            return before, pool.apply(send_back, (data,)), pool.apply(repr, ([data],))
        finally:
            del copyreg.dispatch_table[np.ndarray]

    same(program)


def reduce_to_sum(array: Any) -> Any:
    return float, (float(array.sum()),)


def test_an_error_beside_an_array_is_the_same_error() -> None:
    def program(pool: Pool) -> object:
        return pool.apply(send_back, ([np.arange(float(LENGTH)), lambda: 1],))

    assert assert_same(program, processes=1).failure is not None

    def back(pool: Pool) -> object:
        return pool.apply(with_lambda)

    assert assert_same(back, processes=1).failure is not None

    def raises(pool: Pool) -> object:
        return pool.apply(raise_with_array)

    assert assert_same(raises, processes=1).failure is not None


def with_lambda() -> Any:
    return [np.arange(float(LENGTH)), lambda: 1]


def raise_with_array() -> Any:
    raise ValueError("an array", Holder(np.arange(float(LENGTH))).name)


def test_an_unchanged_array_is_stored_once(mode: str) -> None:
    data = np.arange(float(TRACKED))
    with running(1) as pool:
        for _ in range(20):
            pool.apply(total, (data,))
        list(pool.imap(functools.partial(total, data), range(20)))
        (part,) = [part for part in pool.stats().parts if "buffer" in part.place]
        assert (part.pickled, part.sent, part.loaded) == (1, 40, 1)
        assert part.bytes == 8 * TRACKED
        assert pool.stats()["bytes_pickled"] < 8 * TRACKED + 40_000


def total(data: Any, *_: Any) -> float:
    return float(data.sum())


class Silent:
    """In a dtype's metadata: when it is pickled it changes a list."""

    def __init__(self, target: Any) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        if self.target is not None:
            self.target[1] = "changed meanwhile"
        return Silent, (None,)


def test_what_a_dtype_brings_along_may_run_code_too() -> None:
    def program(pool: Pool) -> object:
        words = [f"word {x}" for x in range(5000)]
        array = np.zeros(3, np.dtype("f8", metadata={"k": Silent(words)}))
        func = functools.partial(firsts, array, words)
        before = [pool.apply(func) for _ in range(2)]
        words[1] = "back"
        return before, [pool.apply(func) for _ in range(2)]

    same(program)


def firsts(_array: Any, words: Any) -> Any:
    return words[:3]
