"""What a list of durations says: median, percentiles with a confidence bound, ratios, and reasons to doubt it.

A best-of is never reported: it says how fast the machine can be once, not how long a user waits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

SPREAD_LIMIT = 0.2
DRIFT_LIMIT = 0.1
FEWEST_REPEATS = 5
SHORTEST_S = 1e-4


@dataclass(frozen=True)
class Timing:
    """The durations of one rival in seconds, in the order they were measured."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The duration that half of the repeats stay below."""
        return self.percentile(50)

    def percentile(self, percent: float) -> float:
        """The given percentile in seconds, interpolated linearly between repeats."""
        return float(np.percentile(self.seconds, percent))

    def upper_bound(self, percent: float, confidence: float = 0.95) -> float | None:
        """A value the true percentile lies below with this confidence; None where the repeats are too few for one.

        The k-th smallest of n durations bounds quantile p from above with probability P(Binomial(n, p) < k),
        whatever their distribution (David and Nagaraja 2003, section 7.1).
        """
        count, quantile, below = len(self.seconds), percent / 100, 0.0
        for rank in range(1, count + 1):
            below += math.comb(count, rank - 1) * quantile ** (rank - 1) * (1 - quantile) ** (count - rank + 1)
            if below >= confidence:
                return sorted(self.seconds)[rank - 1]
        return None

    @property
    def spread(self) -> float:
        """Width from the 10th to the 90th percentile, as a share of the median."""
        return (self.percentile(90) - self.percentile(10)) / self.median

    @property
    def drift(self) -> float:
        """Change of the median from the first half of the repeats to the second, as a share of the first."""
        half = len(self.seconds) // 2
        if half == 0:
            return 0.0
        first, second = np.median(self.seconds[:half]), np.median(self.seconds[-half:])
        return float(second / first - 1)

    def doubts(self) -> tuple[str, ...]:
        """Reasons not to trust the figure; empty when there is none."""
        found = []
        if len(self.seconds) < FEWEST_REPEATS:
            found.append(f"only {len(self.seconds)} repeats; {FEWEST_REPEATS} are the least for a median")
        if self.spread > SPREAD_LIMIT:
            found.append(f"the middle 80 % of the repeats span {self.spread:.0%} of the median")
        if abs(self.drift) > DRIFT_LIMIT:
            found.append(f"the median changed by {self.drift:+.0%} from the first half to the second")
        if self.median < SHORTEST_S:
            found.append("too short to time on its own; time a batch of calls")
        return tuple(found)

    def to_dict(self) -> dict[str, Any]:
        """Plain values: percentiles, their bounds, and every duration."""
        return {
            "median_s": self.median,
            **{f"p{percent}_s": self.percentile(percent) for percent in (50, 90, 99)},
            **{f"p{percent}_upper_bound_s": self.upper_bound(percent) for percent in (50, 90, 99)},
            "spread": self.spread,
            "drift": self.drift,
            "seconds": list(self.seconds),
        }


@dataclass(frozen=True)
class Ratio:
    """How many times faster than the baseline, with a 95 % bootstrap interval over rounds."""

    value: float
    low: float
    high: float


def speedup(baseline: Timing, rival: Timing, *, resamples: int = 2000, seed: int = 35) -> Ratio:
    """Median of the baseline over median of the rival.

    The interval resamples rounds, not single durations: repeat i of both was measured in the same round, so whatever
    else the machine did then hit both.

    Raises:
        ValueError: The two do not have the same number of repeats.
    """
    base, other = np.asarray(baseline.seconds), np.asarray(rival.seconds)
    if base.shape != other.shape:
        raise ValueError(f"{base.size} repeats of the baseline, {other.size} of the rival; rounds must pair them")
    rounds = np.random.default_rng(seed).integers(0, base.size, size=(resamples, base.size))
    ratios = np.median(base[rounds], axis=1) / np.median(other[rounds], axis=1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return Ratio(float(np.median(base) / np.median(other)), float(low), float(high))


def stage_timings(repeats: Sequence[dict[str, float]]) -> dict[str, Timing]:
    """Stage -> timing from the stages of each repeat, in the order of the first; a stage left out of one took 0 s."""
    names = dict.fromkeys(name for repeat in repeats for name in repeat)
    return {name: Timing(tuple(repeat.get(name, 0.0) for repeat in repeats)) for name in names}
