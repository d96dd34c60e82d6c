"""Intervals and tests on pairs, against values that can be worked out by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from verdiff.errors import DataError
from verdiff.evaluate.statistics import bootstrap_mean, compare, holm, paired_bootstrap, wilcoxon_p


def test_equal_values_have_an_interval_of_no_width():
    interval = bootstrap_mean([0.9, 0.9, 0.9])
    assert (interval.low, interval.high) == pytest.approx((0.9, 0.9))
    assert (interval.cases, interval.confidence) == (3, 0.95)


def test_the_interval_comes_near_the_exact_bootstrap_distribution():
    values = [0.0, 1.0, 2.0, 4.0]
    exact = np.sort([np.mean(pick) for pick in itertools.product(values, repeat=4)])  # all 256 resamples
    interval = bootstrap_mean(values, confidence=0.8, resamples=50_000)
    assert interval.mean == 1.75
    assert interval.low == pytest.approx(np.quantile(exact, 0.1), abs=0.26)
    assert interval.high == pytest.approx(np.quantile(exact, 0.9), abs=0.26)


def test_the_same_seed_gives_the_same_interval():
    values = np.random.default_rng(0).normal(size=12).tolist()
    assert bootstrap_mean(values, seed=1) == bootstrap_mean(values, seed=1)


def test_a_paired_interval_sees_the_difference_and_not_the_spread_of_cases():
    second = [0.1, 0.5, 0.9, 0.7]
    interval = paired_bootstrap([value + 0.01 for value in second], second)
    assert (interval.mean, interval.low, interval.high) == pytest.approx((0.01, 0.01, 0.01))


@pytest.mark.parametrize("pairs", [5, 7])
def test_wilcoxon_s_p_when_every_pair_agrees_is_two_in_two_to_the_n(pairs):
    first = [float(index) for index in range(1, pairs + 1)]
    assert wilcoxon_p(first, [0.0] * pairs) == pytest.approx(2 / 2**pairs)


def test_wilcoxon_s_p_by_hand_for_one_small_pair_the_other_way():
    # Ranks 1..4, only rank 1 negative: W = 1, reached by 2 of the 16 sign patterns, so p = 2 * 2 / 16.
    assert wilcoxon_p([-1.0, 2.0, 3.0, 4.0], [0.0] * 4) == pytest.approx(0.25)


def test_models_that_never_differ_have_p_one():
    assert wilcoxon_p([0.9, 0.8], [0.9, 0.8]) == 1.0


def test_a_comparison_counts_the_cases_on_either_side():
    comparison = compare([0.9, 0.8, 0.7, 0.5], [0.8, 0.7, 0.8, 0.5])
    assert (comparison.better, comparison.worse) == (2, 1)
    assert comparison.difference.mean == pytest.approx(0.025)


@pytest.mark.parametrize(("first", "second"), [([1.0], [1.0, 2.0]), ([], []), ([math.nan], [1.0])])
def test_pairs_that_are_none_are_refused(first, second):
    with pytest.raises(DataError):
        compare(first, second)


def test_an_undefined_value_has_no_interval():
    with pytest.raises(DataError):
        bootstrap_mean([1.0, math.nan])


def test_holm_s_adjustment_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1: 0.04, 0.06, 0.06, 0.04, and none falls below the one before.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.6]) == [1.0, 1.0]
    assert holm([]) == []
