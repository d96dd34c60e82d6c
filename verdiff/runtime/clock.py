"""Time in one call: how long each stage took, and when to stop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter

from verdiff.errors import INTERRUPTED, VerdiffError

STAGES = ("normalise", "locate", "resample", "prior", "noise", "loop", "fuse", "restore")


class Cancelled(VerdiffError):
    """The caller's ``cancel`` said yes before every slice had an answer, so there is no mask to give."""

    exit_code = INTERRUPTED
    meaning = "cancelled before every slice had an answer"


class Clock:
    """The stages of one call, its deadline and its ``cancel``.

    ``timings`` holds seconds: the stages of ``STAGES`` do not overlap; ``denoiser`` is the part of ``loop`` spent
    inside the network; ``total`` is the whole call.
    """

    def __init__(self, budget_ms: float | None = None, cancel: Callable[[], bool] | None = None) -> None:
        self.begun = perf_counter()
        self.deadline = math.inf if budget_ms is None else self.begun + budget_ms / 1000
        self.timed = budget_ms is not None
        self.bounded = self.timed or cancel is not None
        self.timings: dict[str, float] = dict.fromkeys((*STAGES, "denoiser"), 0.0)
        self._cancel = cancel

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time spent inside to stage ``name``."""
        start = perf_counter()
        try:
            yield
        finally:
            self.timings[name] += perf_counter() - start

    @property
    def elapsed(self) -> float:
        """Seconds since the call began."""
        return perf_counter() - self.begun

    @property
    def budget_ms(self) -> float:
        """The whole of the budget; infinite without one."""
        return 1000 * (self.deadline - self.begun)

    @property
    def left(self) -> float:
        """Seconds to the deadline; infinite without one."""
        return self.deadline - perf_counter()

    def why_stop(self, reserve: float = 0.0) -> str | None:
        """``"cancelled"``, ``"budget"`` when less than ``reserve`` seconds are left, or None to go on."""
        if self._cancel is not None and self._cancel():
            return "cancelled"
        return "budget" if self.left < reserve else None
