"""What a pool has counted."""

from __future__ import annotations

__all__ = ["Stats"]


class Stats(dict[str, int]):
    """Counts since the pool was made; printed a line each.

    * ``tasks_dispatched``, ``tasks_completed``: tasks published, and completed by workers.
    * ``bytes_pickled``: all bytes that the parent has pickled or packed.
    * ``heavy_parts_pickled``, ``heavy_bytes_pickled``: heavy parts (flat lists and tuples of atoms
      in callables) that went into the store, and their bytes.
    * ``heavy_parts_tracked``: parts whose array the kernel watched for writes.
    * ``heavy_parts_verified``: times that a part was proved unchanged and not pickled again.
    * ``heavy_parts_loaded``: times that workers made a live copy of a part.
    * ``heavy_parts_verified_by_workers``, ``heavy_parts_changed_by_tasks``: times that a worker
      examined a copy after a task, and times that the copy had changed or escaped.
    * ``stored_bytes``: bytes in the object store now.
    * ``worker_deaths``, ``replacements``: workers that died with or between tasks, and workers
      started in the place of others.
    * ``rescued_wakeups``: times that a worker found work only by its look once a second.
    * ``damaged``: values from workers that could not be true, and were refused.
    """

    def __str__(self) -> str:
        width = max(map(len, self), default=0)
        return "\n".join(f"{name:<{width}}  {count}" for name, count in self.items())
