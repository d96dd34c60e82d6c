"""Uncertainty of a mean over patients, and whether one model beats another on the same patients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from verdiff.errors import DataError
from verdiff.evaluate.metrics import optional_library

DEFAULT_SEED = 35


@dataclass(frozen=True)
class Interval:
    """A mean and its percentile bootstrap interval (Efron and Tibshirani 1993, chapter 13)."""

    mean: float
    low: float
    high: float
    confidence: float
    cases: int


@dataclass(frozen=True)
class Comparison:
    """Two models on the same cases; differences are the first minus the second.

    Attributes:
        difference: Mean of the differences with its bootstrap interval over cases.
        p_value: Two-sided p of Wilcoxon's signed-rank test.
        better: Cases where the first has the larger value.
        worse: Cases where it has the smaller one.
    """

    difference: Interval
    p_value: float
    better: int
    worse: int


def bootstrap_mean(
    values: Sequence[float], *, confidence: float = 0.95, resamples: int = 10_000, seed: int = DEFAULT_SEED
) -> Interval:
    """Mean of the values and its percentile bootstrap interval over cases; the same seed gives the same interval.

    One value has no interval: its ends are NaN.

    Raises:
        DataError: There is no value, or one is not finite.
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.size == 0 or not np.isfinite(sample).all():
        raise DataError(
            f"{sample.size} values, {int(np.isfinite(sample).sum())} of them finite",
            "at least one value, all of them finite",
            "leave undefined cases out before, and say how many",
        )
    if sample.size == 1:
        return Interval(float(sample[0]), math.nan, math.nan, confidence, 1)
    picks = np.random.default_rng(seed).integers(0, sample.size, size=(resamples, sample.size))
    means = sample[picks].mean(axis=1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(sample.mean()), float(low), float(high), confidence, int(sample.size))


def paired_bootstrap(
    first: Sequence[float],
    second: Sequence[float],
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = DEFAULT_SEED,
) -> Interval:
    """Mean of ``first - second`` case by case with its bootstrap interval; both in the same order of cases.

    Raises:
        DataError: The lengths differ, there is no pair, or a value is not finite.
    """
    return bootstrap_mean(_differences(first, second).tolist(), confidence=confidence, resamples=resamples, seed=seed)


def wilcoxon_p(first: Sequence[float], second: Sequence[float]) -> float:
    """Two-sided p of Wilcoxon's signed-rank test on pairs; 1 when no pair differs.

    Pairs without a difference are dropped, as Wilcoxon did; scipy chooses between the exact distribution (few pairs)
    and the normal approximation.

    Raises:
        DataError: The lengths differ, there is no pair, or a value is not finite.
    """
    differences = _differences(first, second)
    if not np.any(differences):
        return 1.0
    stats = optional_library("scipy.stats")  # 0.5 s, so only where it is used
    return float(stats.wilcoxon(differences, zero_method="wilcox", alternative="two-sided").pvalue)


def compare(first: Sequence[float], second: Sequence[float], *, seed: int = DEFAULT_SEED) -> Comparison:
    """Everything said about two models on the same cases.

    Raises:
        DataError: The lengths differ, there is no pair, or a value is not finite.
    """
    differences = _differences(first, second)
    return Comparison(
        difference=bootstrap_mean(differences.tolist(), seed=seed),
        p_value=wilcoxon_p(first, second),
        better=int(np.count_nonzero(differences > 0)),
        worse=int(np.count_nonzero(differences < 0)),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p of each of several tests, in their order, so that the chance of any false finding stays the level.

    Holm (1979)'s step-down procedure, which needs no independence: the i-th smallest of n times n - i + 1, at most 1
    and never below a smaller one's.

    Args:
        p_values: P values of the tests that are reported together.
    """
    adjusted = [0.0] * len(p_values)
    reached = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        reached = max(reached, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = reached
    return adjusted


def _differences(first: Sequence[float], second: Sequence[float]) -> np.ndarray[Any, np.dtype[np.float64]]:
    left, right = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if left.shape != right.shape or left.size == 0 or not np.isfinite(left - right).all():
        raise DataError(
            f"{left.size} values against {right.size}, or values that are not finite",
            "one finite value a case from each model, in the same order",
            "score both models on the same cases",
        )
    return left - right
