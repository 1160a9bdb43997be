"""Rule 5: what can be loaded once per pickling is pickled per task, heavy neighbours or not."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from functools import partial
from multiprocessing import Pipe, resource_sharer
from multiprocessing.connection import Connection
from typing import Any

import pytest
from testkit.oracle import Pool

from exactness.calls import RUNNERS
from exactness.material import Holder, Opaque, ints, sizes
from exactness.twin import same


@pytest.fixture(autouse=True)
def sharer_stopped() -> Iterator[None]:
    """The standard library hands descriptors out from a thread that it starts and keeps."""
    yield
    resource_sharer.stop(timeout=5)


def say(x: int, conn: Any, d: list[int]) -> int:
    conn.send((x, len(d)))
    conn.close()
    return x


def say_by_socket(x: int, sock: socket.socket, d: list[int]) -> int:
    sock.sendall(b"%03d" % x)
    sock.close()
    return len(d)


@sizes
@pytest.mark.parametrize(
    "runner", ["apply", "apply_async", "imap 1", "imap 2", "map 1", "starmap 2"]
)
def test_a_bound_connection_works_in_every_task(runner: str, n: int) -> None:
    """Rule 5: its pickle names a descriptor that is handed out once; in a chunk it is one
    object."""
    tasks = range(3) if runner[-1] != "2" else [0]

    def program(pool: Pool) -> object:
        here, there = Pipe(duplex=False)
        with here, there:
            answers = RUNNERS[runner](pool, partial(say, conn=there, d=ints(n)), tasks)
            return answers, [here.recv() for _ in tasks]

    same(program)


@sizes
def test_a_bound_socket_works_in_every_task(n: int) -> None:
    """Rule 5, for sockets."""

    def program(pool: Pool) -> object:
        here, there = socket.socketpair()
        with here, there:
            answers = list(pool.imap(partial(say_by_socket, sock=there, d=ints(n)), range(3)))
            return answers, [here.recv(3) for _ in range(3)]

    same(program)


def _say_all(x: int, d: dict[str, Any]) -> int:
    return say(x, d["deep"][0].tag, d["heavy"])


@sizes
def test_a_connection_deep_inside_works_in_every_task(n: int) -> None:
    """Rule 5: in an object of the user, in a list, in a dict, in an instance, beside the heavy
    list."""

    def program(pool: Pool) -> object:
        here, there = Pipe(duplex=False)
        with here, there:
            holder = Holder(_say_all, {"deep": [Opaque(there)], "heavy": ints(n)})
            answers = [pool.apply(holder.run, (x,)) for x in range(3)]
            answers += pool.imap(holder, range(3))
            return answers, [here.recv() for _ in range(6)]

    same(program)


@sizes
def test_a_connection_as_argument_works(n: int) -> None:
    """Rule 5, for arguments, with a heavy list bound."""

    def program(pool: Pool) -> object:
        pipes: list[tuple[Any, Any]] = [Pipe(duplex=False) for _ in range(3)]
        try:
            items = [(i, there) for i, (_, there) in enumerate(pipes)]
            answers = pool.starmap(partial(say, d=ints(n)), items, 1)
            return answers, [here.recv() for here, _ in pipes]
        finally:
            for end in (end for pipe in pipes for end in pipe):
                end.close()

    same(program)


def test_a_connection_is_of_its_type_in_the_task() -> None:
    """Rule 5: nothing stands in for it."""

    def program(pool: Pool) -> object:
        here, there = Pipe(duplex=False)
        with here, there:
            return pool.apply(_described, (there,), {"d": ints(50_000)})

    assert same(program) == (True, False, True)


def _described(conn: Connection, d: list[int]) -> tuple[bool, bool, bool]:
    with conn:
        return type(conn) is Connection, conn.readable, conn.writable
