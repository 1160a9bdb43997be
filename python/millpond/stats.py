"""What a pool has counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["PartStats", "Stats"]

_NS_PER_S = 1e9


class PartStats(NamedTuple):
    """What became of one heavy object, at one place in one callable's tasks.

    Attributes:
        callable: Name of the function; of the function inside, for partials and methods.
        place: Where the object is: ``bound['d']`` is the keyword argument ``d`` of a partial,
            ``argument 1`` the second argument of a call.
        kind: Type and length.
        rung: ``verified`` (sent once, and proved unchanged before each task), ``packed`` (sent with
            its task, packed in Rust), ``pickled`` (pickled with each task), or ``shared``.
        reason: How it is proved, or why it does not take a higher rung.
        bytes: Its size in the object store, in bytes; 0 if it is not there.
        pickled: Times that the parent has packed or pickled it.
        pickled_s: What that took, in seconds.
        sent: Tasks that have named it.
        verified: Times that the parent has proved it unchanged.
        verified_s: What that took, in seconds.
        loaded: Times that workers have made a live copy.
        loaded_s: What that took, all workers together, in seconds.
        proved: Times that a worker has examined its copy after a task.
        proved_s: What that took, in seconds.
        changed: Times that the copy had changed, or had escaped from its task.
    """

    callable: str
    place: str
    kind: str
    rung: str
    reason: str
    bytes: int
    pickled: int
    pickled_s: float
    sent: int
    verified: int
    verified_s: float
    loaded: int
    loaded_s: float
    proved: int
    proved_s: float
    changed: int

    def __str__(self) -> str:
        text = f"{self.callable}, {self.place}: {self.kind}, {self.rung}"
        if self.reason:
            text += f" ({self.reason})"
        if not self.bytes:
            return text
        steps = [f"{self.bytes:,} bytes", f"packed {self.pickled} times in {self.pickled_s:.3f} s"]
        steps.append(f"sent with {self.sent} tasks")
        if self.verified:
            steps.append(f"verified {self.verified} times in {self.verified_s:.4f} s")
        if self.loaded:
            steps.append(f"loaded {self.loaded} times in {self.loaded_s:.3f} s")
        if self.proved:
            steps.append(f"proved {self.proved} times in {self.proved_s:.4f} s")
        if self.changed:
            steps.append(f"found changed, or escaped, {self.changed} times")
        return f"{text}: {', '.join(steps)}"


class Stats(dict[str, int]):
    """Counts since the pool was made; printed a line each.

    * ``tasks_dispatched``, ``tasks_completed``: tasks published, and completed by workers.
    * ``bytes_pickled``: all bytes that the parent has pickled or packed.
    * ``heavy_parts_pickled``, ``heavy_bytes_pickled``: heavy parts that went into the store, and
      their bytes.
    * ``heavy_parts_tracked``: parts whose array the kernel watched for writes.
    * ``heavy_parts_verified``: times that a part was proved unchanged and not pickled again.
    * ``heavy_parts_loaded``: times that workers made a live copy of a part.
    * ``heavy_parts_verified_by_workers``, ``heavy_parts_changed_by_tasks``: times that a worker
      examined a copy after a task, and times that the copy had changed or escaped.
    * ``stored_bytes``: bytes in the object store now.
    * ``borrowed_bytes``: bytes of arrays in results that this process still reads, in memory of the
      pool.
    * ``warm_bytes``: bytes of shared memory that the parent keeps for reuse; each worker may keep
      as many again (``Pool(memory=...)``).
    * ``worker_deaths``, ``replacements``: workers that died with or between tasks, and workers
      started in the place of others.
    * ``retries``, ``timeouts``, ``memory_kills``: times that a task was tried again, and tasks that
      were stopped past their deadline, or because of their worker's memory.
    * ``jobs_cancelled``: calls that were cancelled.
    * ``rescued_wakeups``: times that a worker found work only by its look once a second.
    * ``damaged``: values from workers that could not be true, and were refused.

    Args:
        counts: The counts.
        rows: What became of heavy objects, as ``_native.Engine.parts`` tells it.
    """

    parts: tuple[PartStats, ...]
    """What became of each heavy object, the oldest first; the last 128 of them."""

    deaths: dict[str, int]
    """Workers that a signal has ended, whoever sent it, by the signal's name."""

    def __init__(
        self,
        counts: dict[str, int],
        rows: Iterable[tuple[str, str, str, str, str, list[tuple[str, int]]]] = (),
    ) -> None:
        super().__init__(counts)
        self.parts = tuple(_part(*row) for row in rows)
        self.deaths = {}

    def __str__(self) -> str:
        width = max(map(len, self), default=0)
        lines = [f"{name:<{width}}  {count}" for name, count in self.items()]
        lines += [f"ended by {name}: {count}" for name, count in self.deaths.items()]
        return "\n".join(lines + [str(part) for part in self.parts])


def _part(
    callable_: str,
    place: str,
    kind: str,
    rung: str,
    reason: str,
    numbers: list[tuple[str, int]],
) -> PartStats:
    counts = dict(numbers)

    def seconds(name: str) -> float:
        return counts[name] / _NS_PER_S

    return PartStats(
        callable=callable_,
        place=place,
        kind=kind,
        rung=rung,
        reason=reason,
        bytes=counts["bytes"],
        pickled=counts["pickled"],
        pickled_s=seconds("pickled_ns"),
        sent=counts["sent"],
        verified=counts["verified"],
        verified_s=seconds("verified_ns"),
        loaded=counts["loaded"],
        loaded_s=seconds("loaded_ns"),
        proved=counts["proved"],
        proved_s=seconds("proved_ns"),
        changed=counts["changed"],
    )
