"""Whether a count that jumps about rises as well.

Memory in use does not grow in a line. It is high after a busy moment and low after a quiet one, so of
each part of a run the lowest sample counts: what is held when least is. It takes a step where an
allocator needs another piece, and rises steeply until everything was made once; a leak goes on. So the
first part is left out, and what is told is the least rise between neighbours of the others. A line of
least squares would follow all that is no leak.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

PARTS = 4
"""Of a run: one in which all that is made once is made, and three with two rises between them. More
would leave less time between two, in which a leak has to exceed an allocator's step."""


@dataclass(frozen=True)
class Rise:
    """By how much each part's lowest value exceeds the last part's, at least, and in what time."""

    least: float
    hours: float

    @property
    def per_hour(self) -> float:
        return self.least / self.hours

    def exceeds(self, slope_max: float, step: float) -> bool:
        """Whether it is more than a slope explains, and a step in each part as well."""
        return self.least > slope_max * self.hours + step


def rise(hours: Sequence[float], values: Sequence[float]) -> Rise:
    """How values rise after the first part, at which hours they were seen."""
    part_len = math.ceil(len(values) / PARTS)
    firsts = range(part_len, len(values), part_len)
    floors = [min(values[first : first + part_len]) for first in firsts]
    rises = [after - before for before, after in itertools.pairwise(floors)]
    return Rise(min(rises), (hours[-1] - hours[0]) / PARTS)
