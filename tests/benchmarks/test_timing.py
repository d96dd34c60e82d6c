"""Percentiles, their bounds, ratios and doubts, on durations short enough to work out by hand."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from verdiff.benchmarks.timing import Timing, speedup, stage_timings


def test_percentiles_interpolate_between_repeats():
    timing = Timing((5.0, 1.0, 2.0, 4.0, 3.0))
    assert (timing.median, timing.percentile(90), timing.percentile(0)) == pytest.approx((3.0, 4.6, 1.0))


def test_an_outlier_moves_the_median_by_nothing():
    assert Timing((1.0, 1.0, 1.0, 1.0, 900.0)).median == 1.0


@pytest.mark.parametrize(
    ("repeats", "percent", "rank"),
    # P(Bin(n, p) < k) >= 0.99: 1 - 1/128 for 7 at the median; 1 - 0.9^44 for 44 at p90; 1 - 0.99^459 for 459 at p99.
    [(7, 50, 7), (6, 50, None), (44, 90, 44), (43, 90, None), (459, 99, 459), (458, 99, None), (11, 50, 10)],
)
def test_the_upper_bound_of_a_percentile_is_the_first_rank_that_binomial_odds_allow(repeats, percent, rank):
    seconds = tuple(float(index) for index in range(repeats, 0, -1))
    assert Timing(seconds).bounds(percent)[1] == (None if rank is None else float(rank))


@pytest.mark.parametrize(("repeats", "percent", "rank"), [(7, 50, 1), (6, 50, None), (11, 50, 2), (3, 90, 1)])
def test_the_lower_bound_is_the_last_rank_they_allow(repeats, percent, rank):
    seconds = tuple(float(index) for index in range(1, repeats + 1))
    assert Timing(seconds).bounds(percent)[0] == (None if rank is None else float(rank))


def test_each_bound_holds_as_often_as_it_says():
    rng = np.random.default_rng(1)
    quantile = -math.log(1 - 0.9)
    runs = [Timing(tuple(rng.exponential(size=60))).bounds(90, confidence=0.8) for _ in range(400)]
    above = np.mean([low is not None and low <= quantile for low, _ in runs])
    below = np.mean([high is not None and high >= quantile for _, high in runs])
    assert 0.8 - 0.05 < above < 0.95 and 0.8 - 0.05 < below < 0.95


def test_many_repeats_have_bounds_too():
    low, high = Timing(tuple(float(index) for index in range(5000))).bounds(99)
    assert low is not None and high is not None and low < 4949 < high < 4975


def test_spread_and_drift_are_shares_of_the_median():
    timing = Timing((1.0, 1.0, 1.0, 2.0, 2.0, 2.0))
    assert timing.drift == pytest.approx(1.0)
    assert timing.spread == pytest.approx((2.0 - 1.0) / 1.5)


def test_a_stage_that_took_no_time_neither_spreads_nor_drifts():
    idle = Timing((0.0, 0.0, 0.0))
    assert (idle.spread, idle.drift, idle.to_dict()["median_s"]) == (0.0, 0.0, 0.0)


def test_steady_durations_raise_no_doubt():
    assert Timing((1.0, 1.01, 0.99, 1.0, 1.02, 1.0)).doubts() == ()


@pytest.mark.parametrize(
    ("seconds", "doubt"),
    [
        ((1.0, 1.0, 1.0), "only 3 repeats"),
        ((1.0, 2.0, 1.0, 2.0, 1.0, 2.0), "span 67% of the median"),
        ((1.0, 1.0, 1.0, 1.15, 1.15, 1.15), r"changed by \+15%"),
        ((1e-6,) * 6, "too short"),
    ],
)
def test_what_makes_a_figure_untrustworthy_is_said(seconds, doubt):
    assert re.search(doubt, "; ".join(Timing(seconds).doubts()))


def test_a_speedup_is_the_ratio_of_medians():
    ratio = speedup(Timing((2.0, 4.0, 9.0)), Timing((1.0, 2.0, 3.0)))
    assert ratio.value == 2.0


def test_a_load_that_hits_every_round_alike_leaves_the_speedup_s_interval_narrow():
    load = (1.0, 5.0, 2.0, 9.0, 3.0, 1.0)
    ratio = speedup(Timing(tuple(3 * factor for factor in load)), Timing(load))
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((3.0, 3.0, 3.0))


def test_rounds_that_do_not_pair_are_refused():
    with pytest.raises(ValueError, match="3 repeats of the baseline, 2 of the rival"):
        speedup(Timing((1.0, 1.0, 1.0)), Timing((1.0, 1.0)))


def test_stages_are_collected_by_name_and_a_missing_one_took_no_time():
    stages = stage_timings([{"read": 1.0, "loop": 2.0}, {"read": 3.0}])
    assert list(stages) == ["read", "loop"]
    assert (stages["read"].seconds, stages["loop"].seconds) == ((1.0, 3.0), (2.0, 0.0))


def test_plain_values_hold_every_duration():
    plain = Timing((0.5, 0.25)).to_dict()
    assert plain["seconds"] == [0.5, 0.25]
    assert plain["median_s"] == plain["p50_s"] == 0.375
    assert plain["p99_bounds_s"] == [0.25, None]
