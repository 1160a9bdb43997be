"""All workloads, by name."""

from __future__ import annotations

from millpond.bench.apply_round_trip import ApplyRoundTrip
from millpond.bench.arrays import Arguments8M, Array100M, Results8M
from millpond.bench.curve import BoundDict, BoundList
from millpond.bench.default_argument import DefaultArgument
from millpond.bench.dict1m import Dict1M
from millpond.bench.import_time import ImportTime
from millpond.bench.list1m_apply import List1MApply
from millpond.bench.list10m import List10M
from millpond.bench.queued import QueuedCalls, QueuedMap
from millpond.bench.scale import Callables, InFlight, LightCallables
from millpond.bench.start import Start, StartForkserver, StartSpawn
from millpond.bench.tiny_imap import TinyImap, TinyTuples
from millpond.bench.tiny_map import TinyMap
from millpond.bench.waiting import Idle, MixedLengths, Workers
from millpond.bench.workload import Workload

ALL: tuple[type[Workload], ...] = (
    List10M,
    TinyImap,
    TinyTuples,
    ApplyRoundTrip,
    TinyMap,
    Start,
    StartSpawn,
    StartForkserver,
    ImportTime,
    DefaultArgument,
    List1MApply,
    Dict1M,
    Array100M,
    Arguments8M,
    Results8M,
    MixedLengths,
    Idle,
    QueuedCalls,
    QueuedMap,
    Workers,
    InFlight,
    Callables,
    LightCallables,
    BoundList,
    BoundDict,
)
WORKLOADS = {workload.name: workload for workload in ALL}
