"""The asker's first program: the large list is a default argument.

The list is made when this module is imported: once in the parent, and once in each worker that is
spawned; a forked worker inherits it. A module in its own right, so that spawned workers find `f`.
"""

from __future__ import annotations

import os

ELEMENTS_VARIABLE = "MILLPOND_DEMO_ELEMENTS"
"""The environment variable that tells the length of the list, so that workers make the same."""


def f(
    x: int,
    dummy: list[int] = list(range(int(os.environ.get(ELEMENTS_VARIABLE, "10_000_000")))),
) -> int:
    return x
