"""Intensity rules: exact percentiles, the CT window, and the range a network is promised."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from verdiff.errors import InputError, VerdiffError
from verdiff.imaging import IntensityRule, intensity_bounds, normalise


@settings(deadline=None)
@given(
    st.sampled_from(["uint8", "int8", "int16", "uint16", "int32", "float32"]),
    st.integers(0, 10_000),
    st.floats(0, 49),
    st.floats(51, 100),
)
def test_percentiles_are_numpys_for_every_pixel_type(dtype: str, seed: int, low: float, high: float) -> None:
    array = np.random.default_rng(seed).integers(0, 127, (3, 5, 7)).astype(dtype)
    if array.dtype.kind == "i":
        array -= 60
    expected = np.percentile(array, (low, high))
    np.testing.assert_allclose(intensity_bounds(array, IntensityRule("percentile", low, high)), expected, atol=1e-4)


@settings(deadline=None)
@given(st.sampled_from(["uint8", "int16", "uint16", "float32"]), st.integers(0, 10_000))
def test_standard_deviations_are_counted_from_the_mean_of_the_volume(dtype: str, seed: int) -> None:
    array = np.random.default_rng(seed).integers(0, 200, (3, 5, 7)).astype(dtype)
    mean, deviation = array.astype(np.float64).mean(), array.astype(np.float64).std()
    bounds = intensity_bounds(array, IntensityRule("zscore", -2, 5))
    np.testing.assert_allclose(bounds, (mean - 2 * deviation, mean + 5 * deviation))
    score = (array - mean) / deviation
    unit = normalise(array, *intensity_bounds(array, IntensityRule("zscore", -5, 5)))
    np.testing.assert_allclose(unit, np.clip(score / 5, -1, 1), atol=1e-6)


def test_deviations_pass_over_voxels_that_are_not_finite_and_need_contrast() -> None:
    rule = IntensityRule("zscore", -1, 1)
    assert intensity_bounds(np.array([[[0.0, np.nan, np.inf, 2.0]]]), rule) == (0, 2)
    with pytest.raises(InputError, match="finite"):
        intensity_bounds(np.full((1, 2, 2), np.nan), rule)
    with pytest.raises(InputError, match="constant"):
        intensity_bounds(np.full((2, 3, 4), 7, np.int16), rule)


def test_a_window_is_taken_as_it_is() -> None:
    assert intensity_bounds(np.zeros((1, 2, 2)), IntensityRule("window", -200, 1000)) == (-200, 1000)


def test_a_mostly_black_image_keeps_its_contrast() -> None:
    array = np.zeros((1, 50, 50), np.uint8)
    array[0, 0, 0] = 200
    assert intensity_bounds(array, IntensityRule("percentile", 1, 99)) == (0, 200)


def test_percentiles_pass_over_voxels_that_are_not_finite() -> None:
    array = np.array([[[0.0, 1.0, np.nan, np.inf, 2.0]]])
    assert intensity_bounds(array, IntensityRule("percentile", 0, 100)) == (0, 2)
    with pytest.raises(InputError, match="finite"):
        intensity_bounds(np.full((1, 2, 2), np.nan), IntensityRule("percentile", 0, 100))


def test_a_constant_image_has_no_bounds() -> None:
    with pytest.raises(InputError, match="constant"):
        intensity_bounds(np.full((2, 3, 4), 7, np.int16), IntensityRule("percentile", 1, 99))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "float32", "float64"])
def test_normalised_values_lie_in_minus_one_to_one(dtype: str) -> None:
    result = normalise(np.array([0, 10, 55, 100, 120]).astype(dtype), 10, 100)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, [-1, -1, 0, 1, 1], atol=1e-6)


def test_rules_survive_json() -> None:
    rule = IntensityRule("window", -200.0, 1000.0)
    assert IntensityRule.from_dict(rule.to_dict()) == rule


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "range", "low": 0, "high": 1},
        {"kind": "zscore", "low": 1, "high": -1},
        {"kind": "percentile", "low": 5, "high": 5},
        {"kind": "percentile", "low": -1, "high": 99},
        {"kind": "percentile", "low": 1, "high": 101},
        {"kind": "window", "low": "a", "high": 1},
        {"kind": "window", "low": 0},
        {"kind": "window", "low": 0, "high": 1, "middle": 0},
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(VerdiffError, match="rule"):
        IntensityRule.from_dict(values)
