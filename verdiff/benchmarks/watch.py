"""What other processes did to the cores while a case ran: the usual reason why two runs disagree."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

STAT = Path("/proc/stat")
# The kernel counts in hundredths of a second; less than this says little.
SHORTEST_S = 2.0
# Columns of a line of /proc/stat that are time spent on something: user, nice, system, irq, softirq, steal.
BUSY_COLUMNS = (1, 2, 3, 6, 7, 8)


class Watch:
    """Looks at the cores when it is made, and again when it is asked.

    Args:
        stat: Where the kernel counts what each core did, in ticks.
        own: Seconds of processor time that this process and its ended children have used.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        stat: Path = STAT,
        own: Callable[[], float] = lambda: sum(os.times()[:4]),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stat, self._own, self._clock = stat, own, clock
        self._cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        self._begun = self._look()

    def others_share(self) -> float | None:
        """Share of the time of this process's cores that others took since then, a hypervisor's other guests included.

        None where the system does not tell, or too little time has passed to say.
        """
        now = self._look()
        if now is None or self._begun is None:
            return None
        elapsed, busy, own = (after - before for after, before in zip(now, self._begun, strict=True))
        if elapsed < SHORTEST_S:
            return None
        return max(0.0, busy - own) / (elapsed * len(self._cores))

    def _look(self) -> tuple[float, float, float] | None:
        """Seconds of the clock, seconds the cores were busy, and those that were this process's own."""
        if not self._cores or not self._stat.is_file():
            return None
        ticks, wanted = 0, {f"cpu{core}" for core in self._cores}
        for line in self._stat.read_text(encoding="ascii", errors="replace").splitlines():
            columns = line.split()
            if columns and columns[0] in wanted:
                ticks += sum(int(columns[column]) for column in BUSY_COLUMNS)
        return self._clock(), ticks / os.sysconf("SC_CLK_TCK"), self._own()
