"""Arrays that cross both ways, kept, changed and dropped, for a run under valgrind: see
`tools/memcheck.sh`. Workers are forked, so valgrind follows them."""

from __future__ import annotations

import functools
import gc
from typing import Any

import millpond
import numpy as np

LENGTH = 40_000
kept: list[Any] = []


def spoil(x: int, array: Any) -> float:
    seen = float(array[0]) + float(array[-1])
    array[0] = array[-1] = x
    return seen


def keep(array: Any) -> int:
    array[1] = -1
    kept.append(array[1:])
    return len(kept)


def forget() -> float:
    found = sum(float(part[0]) for part in kept)
    kept.clear()
    return found


def double(array: Any) -> Any:
    return [array * 2, {"again": array}]


def main() -> None:
    wanted = LENGTH - 1.0
    with millpond.Pool(1) as pool:
        array = np.arange(float(LENGTH))
        bound = functools.partial(spoil, array=array)
        assert list(pool.imap(bound, range(4))) == [wanted] * 4
        assert [pool.apply(keep, (array,)) for _ in range(3)] == [1, 2, 3]
        array[0] = 5
        assert pool.apply(bound, (1,)) == wanted + 5
        assert pool.apply(forget) == -3
        results = [pool.apply(double, (array,)) for _ in range(3)]
        view = results[0][0][10:20]
        del results[1:]
        gc.collect()
        results.extend(pool.apply(double, (array,)) for _ in range(3))
        handle = millpond.share(array)
        assert pool.apply(spoil, (1, handle)) == wanted + 5
        del handle
        # In order: valgrind tells where a process was that a signal has ended.
        pool.close()
        pool.join()
    assert view[0] == 20 and results[-1][1]["again"][0] == 5
    results.clear()
    del view
    gc.collect()
    print("lent all")


if __name__ == "__main__":
    main()
