"""What runs in a worker process."""

from __future__ import annotations

import contextlib
import os
import signal
from multiprocessing import context, process, queues, util
from multiprocessing.pool import ExceptionWithTraceback, MaybeEncodingError

from millpond import _native

# That of the typing module would cost a new interpreter a third of its start as a worker.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

__all__ = ["WorkerStart", "encode_error", "encode_unsendable", "spread", "work"]


class WorkerStart:
    """What a worker is handed at its start: descriptors, and numbers.

    A forked worker has the parent's descriptors under their own numbers. For ``spawn`` and
    ``forkserver`` the object is pickled while the process is started, and the descriptors are
    passed by the start method's own means.

    Args:
        descriptors: Of table, arguments, results and parent; -1 for one that is not there.
        numbers: As ``_native.Engine.take_seat`` gives them.
    """

    def __init__(self, descriptors: list[int], numbers: list[int]) -> None:
        self._descriptors = descriptors
        self._numbers = numbers
        self._dups: list[Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        context.assert_spawning(self)  # type: ignore[attr-defined]
        from multiprocessing.reduction import DupFd

        dups = [DupFd(fd) if fd >= 0 else None for fd in self._descriptors]  # type: ignore[no-untyped-call]
        return {"_dups": dups, "_numbers": self._numbers, "_descriptors": []}

    @property
    def numbers(self) -> list[int]:
        """The numbers."""
        return self._numbers

    @contextlib.contextmanager
    def descriptors(self) -> Any:
        """Give the descriptors, as numbers of this process, for as long as the block lasts."""
        if self._dups is None:
            yield self._descriptors
            return
        passed = [dup.detach() if dup is not None else -1 for dup in self._dups]
        for descriptor in passed:
            if descriptor >= 0:
                # No program that a task starts shall have the pool's memory.
                os.set_inheritable(descriptor, False)
        yield passed


def work(
    start: WorkerStart,
    initializer: Callable[..., object] | None,
    initargs: Iterable[Any],
    task_count_max: int | None,
    finalizer: Callable[..., object] | None,
    finalargs: Iterable[Any],
) -> None:
    """Run a worker: the target of its process.

    An orderly worker returns from here, so that exit handlers run where the standard library runs
    them.
    """
    _let_children_live()

    def initialize() -> None:
        if initializer is not None:
            initializer(*initargs)

    with start.descriptors() as descriptors:
        in_order = _native.serve(descriptors, start.numbers, task_count_max, initialize, _helpers)
    if in_order and finalizer is not None:
        finalizer(*finalargs)
    util.debug("worker exiting")  # type: ignore[attr-defined]


def _let_children_live() -> None:
    """Let tasks start processes and pools of their own, though ``daemon`` goes on to read True.

    Libraries branch on ``current_process().daemon``, so that must be what it is in the standard
    library; only the assertion in ``Process.start`` is lifted, which reads the configuration.
    """
    me = process.current_process()
    config = getattr(me, "_config", {})
    if not config.get("daemon"):
        return
    kind = type(me)
    body = {"daemon": property(lambda _self: True), "__module__": kind.__module__}
    with contextlib.suppress(TypeError):
        me.__class__ = type(kind.__name__, (kind,), body)
        config["daemon"] = False


def spread(func: Callable[..., Any], args: Iterable[Any], kwds: Mapping[str, Any]) -> Any:
    """Call with whatever ``*`` and ``**`` accept, and raise what they raise."""
    return func(*args, **kwds)


def encode_error(error: BaseException, wrap: bool) -> tuple[bytes, bytes]:
    """Pickle what a task raised.

    Args:
        error: What was raised.
        wrap: Whether it gets its traceback as its cause; the error of an iterable does not.

    Returns:
        The traceback's text, for the case that the error does not load, and the pickle.
    """
    sent: object = error
    note = ""
    if wrap:
        try:
            sent = ExceptionWithTraceback(error, error.__traceback__)
            note = sent.tb
        except Exception:
            sent = error
    try:
        return note.encode("utf-8", "backslashreplace"), _dumps(sent)
    except Exception as reason:
        return encode_unsendable(reason, sent)


def encode_unsendable(reason: BaseException, value: object) -> tuple[bytes, bytes]:
    """Pickle the error that a result cannot be sent.

    Args:
        reason: What was raised when the result was pickled.
        value: The result.
    """
    if not isinstance(reason, Exception):
        # A signal handler raised while the result was pickled.
        return encode_error(reason, wrap=True)
    try:
        wrapped = MaybeEncodingError(reason, value)
    except Exception as second:
        wrapped = MaybeEncodingError(
            reason, f"<{type(value).__name__} whose repr raised {second!r}>"
        )
    return b"", _dumps(wrapped)


def _dumps(value: object) -> bytes:
    """Pickle as the standard library's worker does, with the pickler that it uses now."""
    return bytes(queues._ForkingPickler.dumps(value))  # type: ignore[attr-defined]


def hush() -> None:
    """Let no further Ctrl-C raise in this process, which one has ended: each would print a traceback
    from wherever it found the process at its end. What users have installed stays.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Not SIG_IGN, which a program that an exit handler starts would inherit, and about which Python
        # says a word if a signal is pending.
        signal.signal(signal.SIGINT, _no_more)


def _no_more(_signum: int, _frame: object) -> None:
    pass


class _Helpers:
    """What the native loop calls."""

    encode_error = staticmethod(encode_error)
    encode_unsendable = staticmethod(encode_unsendable)
    spread = staticmethod(spread)
    hush = staticmethod(hush)


_helpers = _Helpers()
