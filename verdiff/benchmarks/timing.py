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
CONFIDENCE = 0.99


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

    def bounds(self, percent: float, confidence: float = CONFIDENCE) -> tuple[float | None, float | None]:
        """Seconds that the true percentile lies above and below; each by itself holds with this confidence.

        None where the repeats are too few for one: at 99 % the upper bound of the median takes 7 repeats, of p90 44 and
        of p99 459. Of n durations, whatever their distribution, the k-th smallest lies below quantile p with
        probability P(Binomial(n, p) >= k) and above it with P(Binomial(n, p) < k) (David and Nagaraja 2003, 7.1).
        It is the bound behind the early stopping of MLPerf's LoadGen.
        """
        ordered = sorted(self.seconds)
        below = _binomial_below(len(ordered), percent / 100)
        low = [each for each, odds in zip(ordered, below, strict=True) if 1 - odds >= confidence]
        high = [each for each, odds in zip(ordered, below, strict=True) if odds >= confidence]
        return (low[-1] if low else None, high[0] if high else None)

    @property
    def spread(self) -> float:
        """Width from the 10th to the 90th percentile, as a share of the median; 0 for what took no time."""
        if self.median == 0:
            return 0.0
        return (self.percentile(90) - self.percentile(10)) / self.median

    @property
    def drift(self) -> float:
        """Change of the median from the first half of the repeats to the second, as a share of the first."""
        half = len(self.seconds) // 2
        first = np.median(self.seconds[:half]) if half else 0.0
        return float(np.median(self.seconds[-half:]) / first - 1) if first else 0.0

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
        """Plain values: percentiles, what each lies above and below with 99 % confidence, and every duration."""
        return {
            "median_s": self.median,
            **{f"p{percent}_s": self.percentile(percent) for percent in (50, 90, 99)},
            **{f"p{percent}_bounds_s": list(self.bounds(percent)) for percent in (50, 90, 99)},
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


def _binomial_below(count: int, probability: float) -> list[float]:
    """P(Binomial(count, probability) < k) for k = 1 .. count; in logarithms, whose terms no count overflows."""
    odds = math.log(probability), math.log1p(-probability)
    ways = [math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1) for k in range(count)]
    terms = [math.exp(way + k * odds[0] + (count - k) * odds[1]) for k, way in enumerate(ways)]
    return np.cumsum(terms).tolist()
