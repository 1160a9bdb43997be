"""Other pools, where they are installed, behind the few methods that the workloads call."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from millpond.bench.workload import PROCESSES, START_METHOD


class Peer:
    """A pool with the standard library's names; each subclass says which package is behind it."""

    package: str

    def imap(self, func: Callable[..., Any], items: Iterable[Any]) -> Iterator[Any]:
        raise NotImplementedError

    def apply(self, func: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        raise NotImplementedError

    def end(self) -> None:
        raise NotImplementedError

    def map(self, func: Callable[..., Any], items: Iterable[Any], chunksize: int = 1) -> list[Any]:
        return list(self.imap(func, items))

    def close(self) -> None:
        """Nothing to say before the end."""

    def terminate(self) -> None:
        """As at the end."""

    def join(self) -> None:
        self.end()


class Mpire(Peer):
    """`mpire.WorkerPool`, which keeps its workers and sends a function once for each call of map."""

    package = "mpire"

    def __init__(self) -> None:
        import mpire

        self._pool: Any = mpire.WorkerPool(PROCESSES, start_method=START_METHOD, keep_alive=True)

    def imap(self, func: Callable[..., Any], items: Iterable[Any]) -> Iterator[Any]:
        # A tuple around each: mpire takes an item that is one for the arguments.
        pairs = [(item,) for item in items]
        found: Iterator[Any] = self._pool.imap(func, pairs, chunk_size=1)
        return found

    def apply(self, func: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        return self._pool.apply(func, args)

    def end(self) -> None:
        self._pool.stop_and_join()


class Joblib(Peer):
    """`joblib.Parallel` with its default backend, loky, which maps large arrays from files."""

    package = "joblib"

    def __init__(self) -> None:
        import joblib

        self._joblib: Any = joblib
        self._parallel: Any = joblib.Parallel(n_jobs=PROCESSES, return_as="generator", batch_size=1)

    def imap(self, func: Callable[..., Any], items: Iterable[Any]) -> Iterator[Any]:
        call = self._joblib.delayed(func)
        found: Iterator[Any] = self._parallel(call(item) for item in items)
        return found

    def apply(self, func: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        (found,) = self._parallel([self._joblib.delayed(func)(*args)])
        return found

    def end(self) -> None:
        self._joblib.externals.loky.get_reusable_executor().shutdown(wait=True)


class Ray(Peer):
    """`ray.util.multiprocessing.Pool`."""

    package = "ray"

    def __init__(self) -> None:
        import ray
        from ray.util.multiprocessing import Pool

        self._ray: Any = ray
        ray.init(num_cpus=PROCESSES, include_dashboard=False, log_to_driver=False)
        self._pool: Any = Pool(PROCESSES)

    def imap(self, func: Callable[..., Any], items: Iterable[Any]) -> Iterator[Any]:
        found: Iterator[Any] = self._pool.imap(func, items, chunksize=1)
        return found

    def apply(self, func: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        return self._pool.apply(func, args)

    def end(self) -> None:
        self._pool.terminate()
        self._ray.shutdown()


PEERS: tuple[type[Peer], ...] = (Mpire, Joblib, Ray)


def installed() -> dict[str, type[Peer]]:
    """The peers whose packages are here, by name."""
    return {peer.package: peer for peer in PEERS if importlib.util.find_spec(peer.package)}
