"""The bulks of composed programs are on both sides of what Millpond holds to be heavy."""

from __future__ import annotations

from functools import partial
from typing import Any

import millpond
import pytest

from exactness.bulks import BULKS, SIZES, bulk


def look(x: Any, d: Any) -> None:
    """The task: it changes nothing."""


@pytest.mark.parametrize("kind", sorted(BULKS))
def test_bulks_are_parts_but_for_the_small_ones(kind: str) -> None:
    """Were the threshold to rise, the composed programs would try light callables only."""
    for size in sorted(set(SIZES)):
        bound = bulk(kind, size)
        with millpond.Pool(1) as pool:
            for _ in range(2):
                pool.map(partial(look, d=bound), [1, 2], 1)
            assert bool(pool.stats().parts) == (size != "small"), size
            pool.close()
            pool.join()
