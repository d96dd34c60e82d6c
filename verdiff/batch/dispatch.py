"""Who does which scan: few are handed out ahead, and what was in a worker that was lost is tried again, alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from verdiff.batch.planning import BatchTask

# One scan is computed while the next is read or the last one written. More would only wait, at a slow worker for long.
AHEAD = 2
# A scan that was in three workers when they were lost is not given to a fourth.
TRIES = 3


@dataclass(eq=False)
class Assigned:
    """A task on its way.

    Attributes:
        task: What is to be done.
        lost: Devices whose workers were lost while they had it, in order.
        since: Time when it came first in its worker, in the clock of :meth:`Dispatch.next`; None while it waits there.
    """

    task: BatchTask
    lost: list[str] = field(default_factory=list)
    since: float | None = None


class Dispatch:
    """Tasks and the workers that have them. It computes nothing and waits for nothing.

    A task that was in a worker when that was lost is suspected: it may be what kills workers. It is given to a worker
    that has nothing else, and gets nothing else beside it, so that the next loss is its own; and to another device
    than before, where there is one, since it may be the device.

    Args:
        tasks: What is to be done.
    """

    def __init__(self, tasks: Iterable[BatchTask]) -> None:
        self._fresh = deque(Assigned(task) for task in tasks)
        self._suspected: deque[Assigned] = deque()
        self._at: dict[str, list[Assigned]] = {}

    @property
    def waiting(self) -> int:
        """How many tasks no worker has."""
        return len(self._fresh) + len(self._suspected)

    @property
    def open(self) -> bool:
        """Whether anything is left to do or in work."""
        return bool(self.waiting or any(self._at.values()))

    @property
    def in_work(self) -> int:
        """How many tasks are with workers."""
        return sum(map(len, self._at.values()))

    def drop_waiting(self) -> None:
        """Nothing more is handed out."""
        self._fresh.clear()
        self._suspected.clear()

    def next(self, device: str, now: float, others: Sequence[str] = ()) -> Assigned | None:
        """What the worker of a device is to do beside what it has; None for now nothing.

        Args:
            device: Its name, which no other worker has.
            now: Seconds of any clock that goes on.
            others: Every device that has a worker or will have one soon.
        """
        mine = self._at.setdefault(device, [])
        if not mine:
            given = self._suspect_for(device, others) or (self._fresh.popleft() if self._fresh else None)
        elif len(mine) < AHEAD and len(self._fresh) > self._idle(others) and not any(each.lost for each in mine):
            given = self._fresh.popleft()
        else:
            return None
        if given is not None:
            given.since = None if mine else now
            mine.append(given)
        return given

    def ended(self, device: str, given: Assigned, now: float) -> None:
        """A worker is done with a task, however it ended."""
        mine = self._at[device]
        mine.remove(given)
        if mine and mine[0].since is None:
            mine[0].since = now

    def lost(self, device: str) -> list[Assigned]:
        """The worker of a device is gone: what it had is tried again, but for the tasks that come back given up."""
        over: list[Assigned] = []
        for given in self._at.pop(device, []):
            given.lost.append(device)
            if len(given.lost) < TRIES:
                self._suspected.append(given)
            else:
                over.append(given)
        return over

    def overdue(self, now: float, seconds: float) -> list[str]:
        """The devices whose worker has had its first task for longer than this."""
        firsts = {device: mine[0] for device, mine in self._at.items() if mine}
        return [device for device, first in firsts.items() if first.since is not None and now - first.since > seconds]

    def _idle(self, devices: Sequence[str]) -> int:
        """How many devices have nothing: each of them shall have one scan before any has two."""
        return sum(not self._at.get(device) for device in devices)

    def _suspect_for(self, device: str, others: Sequence[str]) -> Assigned | None:
        for given in self._suspected:
            if device not in given.lost or set(others) <= set(given.lost):
                self._suspected.remove(given)
                return given
        return None
