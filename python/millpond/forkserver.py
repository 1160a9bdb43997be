"""Exit codes of workers that a fork server has started.

Nobody here is their parent, so the server writes the code into a pipe, which is read once. Where two
threads ask at a time, such as the keeper and a `multiprocessing.active_children()` of the user's, the
standard library's second reader finds the end of the pipe, and tells 255.
"""

from __future__ import annotations

import os
import threading
from multiprocessing import popen_forkserver
from typing import Any

__all__ = ["ask_alone"]


class _Popen(popen_forkserver.Popen):
    """As the standard library's, and asked by one thread at a time."""

    _asking: threading.Lock

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """Return the exit code, or None if it is not known: another thread may be writing it down."""
        if not self._asking.acquire(flag != os.WNOHANG):
            return self.returncode
        try:
            return super().poll(flag)
        finally:
            self._asking.release()


def ask_alone(popen: Any) -> None:
    """Have a fork server's process asked by one thread at a time; others stay as they are."""
    if type(popen) is popen_forkserver.Popen:
        popen._asking = threading.Lock()
        popen.__class__ = _Popen
