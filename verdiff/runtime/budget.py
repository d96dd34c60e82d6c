"""A budget that cannot be met is refused before the work, from what the networks were seen to need at load."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from verdiff.errors import BudgetError

if TYPE_CHECKING:
    from verdiff.runtime.clock import Clock

# Time beside the networks (noise, fusion, resampling back, writing), as a share of theirs, and what a prediction from
# a few slices may be off by.
BESIDE = 1.25


def require_time(clock: Clock) -> None:
    """Refuse a budget that is spent before anything begins.

    Raises:
        BudgetError: It is.
    """
    if clock.left <= 0:
        raise BudgetError("a budget that is already spent", "time for one prior pass", "give a budget above 0 ms")


def require_reach(clock: Clock, least: float, enough: float, work: str) -> None:
    """Refuse a budget that the networks alone would overrun, by the quickest they were seen to be on this machine.

    Args:
        clock: Clock with the deadline.
        least: Seconds of the networks for one answer everywhere, and nothing beside them.
        enough: Seconds of an answer that surely would be there, without the time that stands beside the networks.
        work: What ``least`` is of: ``"18 slices"``.

    Raises:
        BudgetError: It names the budget that would do.
    """
    if clock.left >= least:
        return
    would_do = math.ceil(1000 * (clock.elapsed + BESIDE * enough))
    raise BudgetError(
        f"a budget below one pass: {clock.budget_ms:.0f} ms for {work}, and by this machine's pace the networks alone "
        f"need {1000 * least:.0f} ms",
        f"about {would_do} ms on this machine",
        "raise the budget, give fewer slices, or use a faster backend or device",
    )
