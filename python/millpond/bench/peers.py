"""Other pools, where they are installed, behind the few methods that the workloads call."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any


class Peer:
    """A pool with the standard library's names; each subclass says which package is behind it."""

    package: str

    def __init__(self, processes: int, start_method: str) -> None:
        self._processes = processes
        self._start_method = start_method
        self.start()

    def start(self) -> None:
        raise NotImplementedError

    def imap(
        self, func: Callable[..., Any], items: Iterable[Any], chunksize: int = 1
    ) -> Iterator[Any]:
        raise NotImplementedError

    def apply(self, func: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        raise NotImplementedError

    def end(self) -> None:
        raise NotImplementedError

    def map(
        self, func: Callable[..., Any], items: Sequence[Any], chunksize: int | None = None
    ) -> list[Any]:
        """In chunks of the size that the standard library takes by default."""
        by_default = -(-len(items) // (4 * self._processes))
        return list(self.imap(func, items, chunksize or by_default))

    def close(self) -> None:
        """Nothing to say before the end."""

    def terminate(self) -> None:
        """As at the end."""

    def join(self) -> None:
        self.end()


class Awaited:
    """A future with the standard library's word for its result."""

    __slots__ = ("_future",)

    def __init__(self, future: Any) -> None:
        self._future = future

    def get(self) -> Any:
        return self._future.result()


class Executor(Peer):
    """`concurrent.futures.ProcessPoolExecutor`."""

    package = "concurrent.futures"

    def start(self) -> None:
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor

        context = multiprocessing.get_context(self._start_method)
        self._executor: Any = ProcessPoolExecutor(self._processes, mp_context=context)

    def imap(
        self, func: Callable[..., Any], items: Iterable[Any], chunksize: int = 1
    ) -> Iterator[Any]:
        found: Iterator[Any] = self._executor.map(func, items, chunksize=chunksize)
        return found

    def apply(self, func: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        return self._executor.submit(func, *args).result()

    def apply_async(self, func: Callable[..., Any], args: tuple[Any, ...]) -> Awaited:
        return Awaited(self._executor.submit(func, *args))

    def end(self) -> None:
        self._executor.shutdown(wait=True)


class Loky(Executor):
    """`loky.ProcessPoolExecutor`, which starts its workers in its own way, whatever is asked for."""

    package = "loky"

    def start(self) -> None:
        import loky

        self._executor = loky.ProcessPoolExecutor(self._processes)


class Mpire(Peer):
    """`mpire.WorkerPool`, which keeps its workers and sends a function once for each call of map."""

    package = "mpire"

    def start(self) -> None:
        import mpire

        self._pool: Any = mpire.WorkerPool(
            self._processes, start_method=self._start_method, keep_alive=True
        )

    def imap(
        self, func: Callable[..., Any], items: Iterable[Any], chunksize: int = 1
    ) -> Iterator[Any]:
        # A tuple around each: mpire takes an item that is one for the arguments.
        pairs = [(item,) for item in items]
        found: Iterator[Any] = self._pool.imap(func, pairs, chunk_size=chunksize)
        return found

    def apply(self, func: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        return self._pool.apply(func, args)

    def end(self) -> None:
        self._pool.stop_and_join()


class Joblib(Peer):
    """`joblib.Parallel` with its default backend, loky, which maps large arrays from files."""

    package = "joblib"

    def start(self) -> None:
        import joblib

        self._joblib: Any = joblib

    def imap(
        self, func: Callable[..., Any], items: Iterable[Any], chunksize: int = 1
    ) -> Iterator[Any]:
        call = self._joblib.delayed(func)
        parallel = self._joblib.Parallel(
            n_jobs=self._processes, return_as="generator", batch_size=chunksize
        )
        found: Iterator[Any] = parallel(call(item) for item in items)
        return found

    def apply(self, func: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        parallel = self._joblib.Parallel(n_jobs=self._processes, batch_size=1)
        (found,) = parallel([self._joblib.delayed(func)(*args)])
        return found

    def end(self) -> None:
        self._joblib.externals.loky.get_reusable_executor().shutdown(wait=True)


class Ray(Peer):
    """`ray.util.multiprocessing.Pool`. Ray itself is started once, and ends with the process."""

    package = "ray"

    def start(self) -> None:
        import ray
        from ray.util.multiprocessing import Pool

        if not ray.is_initialized():
            ray.init(
                num_cpus=self._processes,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        self._pool: Any = Pool(self._processes)

    def imap(
        self, func: Callable[..., Any], items: Iterable[Any], chunksize: int = 1
    ) -> Iterator[Any]:
        found: Iterator[Any] = self._pool.imap(func, items, chunksize=chunksize)
        return found

    def apply(self, func: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        return self._pool.apply(func, args)

    def end(self) -> None:
        self._pool.terminate()
        self._pool.join()


class Processes(Peer):
    """No pool at all: as many processes as it would have workers, which do nothing."""

    package = "multiprocessing.process"

    def start(self) -> None:
        import multiprocessing

        context = multiprocessing.get_context(self._start_method)
        self._started: list[Any] = [
            context.Process(target=int)  # type: ignore[attr-defined]
            for _ in range(self._processes)
        ]
        for process in self._started:
            process.start()

    def apply(self, func: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        return func(*args)

    def end(self) -> None:
        for process in self._started:
            process.join()


POOLS: tuple[type[Peer], ...] = (Executor, Loky, Mpire, Joblib, Ray)
PEERS: tuple[type[Peer], ...] = (*POOLS, Processes)
EXECUTOR = Executor.package
FLOOR = Processes.package
"""What starting and ending the workers takes by itself."""
NOT_QUICK = Ray.package
"""Its start takes longer than most workloads, so a quick run leaves it out."""
ALL_PEERS = tuple(peer.package for peer in POOLS)
DATA_PEERS = ("mpire", "joblib", "ray")
"""Those that have a way of their own with large data; the others pickle it into pipes."""

CAVEATS = {
    Processes.package: "is no pool: its processes do nothing, and show what starting and ending them "
    "takes by itself",
    Mpire.package: "does not send a function again that it has sent, even if what is bound in it has "
    "changed since: tasks then get the old value",
}
"""What a reader should know where such a pool wins."""


def installed() -> dict[str, type[Peer]]:
    """The peers whose packages are here, by name."""
    return {peer.package: peer for peer in PEERS if importlib.util.find_spec(peer.package)}
