"""The killer: a thread that kills workers while they work.

The ledger drives it: each kill is due at a random length of the ledger, so it falls at a random
moment of the work, however fast the machine is. What a kill costs depends on that moment, which nobody
outside can know; so where counts are to be exact, the victim is stopped first, and the ledger says
where it stands.
"""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import dataclass, field
from random import Random

import millpond

from testkit import procfs
from testkit.ledger import SEPARATOR, Ledger, wait_until
from testkit.pools import workers_of

LOOK_S = 0.0005


def marks(random: Random, tasks: int, kills: int) -> list[int]:
    """Lengths of the ledger at which a kill is due: two lines a task, and none near the end."""
    return sorted(random.sample(range(2 * tasks * 9 // 10), kills))


@dataclass
class Progress:
    """What the ledger tells so far, read piece by piece: it grows to many megabytes."""

    ledger: Ledger
    lines: int = 0
    events: dict[int, str] = field(default_factory=dict)
    """What each process has written last."""
    _at: int = 0

    def look(self) -> None:
        with open(self.ledger.path, "rb") as file:
            file.seek(self._at)
            new = file.read()
        # A reader, unlike a writer, may meet half a line.
        new = new[: new.rfind(b"\n") + 1]
        for line in new.splitlines():
            _, _, pid, event = line.decode().split(SEPARATOR)
            self.events[int(pid)] = event
            self.lines += 1
        self._at += len(new)


class Killer(threading.Thread):
    """Kills a random worker each time that the ledger has grown to the next mark.

    The victim has begun a task, so it is one whose start succeeded, which is what the pool counts
    as a death; and no worker is killed twice.

    Args:
        pool: The workers' pool.
        ledger: What drives it.
        marks: Lengths of the ledger at which a kill is due.
        within_tasks: Whether workers are killed only between the two entries of a task, so that each
            kill takes just one attempt with it, which the ledger shows.
    """

    def __init__(
        self, pool: millpond.Pool, ledger: Ledger, marks: list[int], within_tasks: bool = False
    ) -> None:
        super().__init__(name="killer")
        self._pool = pool
        self._within_tasks = within_tasks
        self._random = Random(sum(marks))
        self._progress = Progress(ledger)
        self._marks = marks
        self._stopped = threading.Event()
        self.victims: list[int] = []

    def run(self) -> None:
        for mark in self._marks:
            while self._progress.lines < mark or not self._kill():
                self._progress.look()
                if self._stopped.wait(LOOK_S):
                    return

    def _kill(self) -> bool:
        """Kill one worker; False if there is none to kill now."""
        if not (candidates := self._candidates()):
            return False
        victim = self.choose(candidates)
        try:
            if self._within_tasks and not self._is_held_in_a_task(victim):
                return False
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            # The pool stopped it for a task that was late, and has reaped it since the look.
            return False
        self.victims.append(victim)
        return True

    def choose(self, candidates: list[int]) -> int:
        """The next victim."""
        return self._random.choice(candidates)

    def _is_held_in_a_task(self, pid: int) -> bool:
        """Stop a worker, and tell whether it stands in a task; if not, it goes on."""
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: not procfs.alive(pid) or procfs.state(pid) == "T", "a worker to stop")
        if not procfs.alive(pid):
            return False  # the pool's own signal came first
        self._progress.look()
        if self._progress.events[pid] == "begin":
            return True
        os.kill(pid, signal.SIGCONT)
        return False

    def _candidates(self) -> list[int]:
        """A worker that was never killed is neither a zombie nor anybody else by now."""
        seen = self._progress.events.keys() - set(self.victims)
        return sorted(seen.intersection(worker.pid for worker in workers_of(self._pool)))

    def stop(self) -> None:
        self._stopped.set()
        self.join()
