"""All workloads, by name."""

from __future__ import annotations

from millpond.bench.apply_round_trip import ApplyRoundTrip
from millpond.bench.arrays import Arguments8M, Array100M, Results8M
from millpond.bench.default_argument import DefaultArgument
from millpond.bench.dict1m import Dict1M
from millpond.bench.list1m_apply import List1MApply
from millpond.bench.list10m import List10M
from millpond.bench.start import Start
from millpond.bench.tiny_imap import TinyImap
from millpond.bench.tiny_map import TinyMap
from millpond.bench.workload import Workload

ALL: tuple[type[Workload], ...] = (
    List10M,
    TinyImap,
    ApplyRoundTrip,
    TinyMap,
    Start,
    DefaultArgument,
    List1MApply,
    Dict1M,
    Array100M,
    Arguments8M,
    Results8M,
)
WORKLOADS = {workload.name: workload for workload in ALL}
