"""Padding is no intensity; masks and padded scans are told from scans by what is in them."""

from __future__ import annotations

import numpy as np
import pytest

from tests.imaging.make import textured
from verdiff.imaging import IntensityRule, intensity_bounds, normalise
from verdiff.imaging.masklike import labels_of_mask
from verdiff.imaging.padding import darkest_intensity, padding_below

MR = textured((10, 40, 30))
NOISE = np.random.default_rng(2)


def padded(array: np.ndarray, value: float, planes: int = 3) -> np.ndarray:
    result = array.copy()
    result[:, :, :planes] = result[:, :, -planes:] = value
    return result


@pytest.mark.parametrize("value", [-1000, -1024, -2000, -2048, -3024, -32768])
@pytest.mark.parametrize("dtype", ["int16", "int32", "float32", "float64", ">i2"])
@pytest.mark.parametrize(
    "rule", [IntensityRule("percentile", 0.5, 99.5), IntensityRule("percentile", 5, 95), IntensityRule("zscore", -2, 2)]
)
def test_padding_changes_no_intensity_bound(value: int, dtype: str, rule: IntensityRule) -> None:
    inside = MR[:, :, 3:-3]
    assert intensity_bounds(padded(MR, value).astype(dtype), rule) == pytest.approx(intensity_bounds(inside, rule))


def test_padding_becomes_as_dark_as_an_image_gets() -> None:
    array = padded(MR, -1024)
    scaled = normalise(array, *intensity_bounds(array, IntensityRule("percentile", 0.5, 99.5)))
    assert np.all(scaled[:, :, :3] == -1)


def test_what_an_interpolation_mixes_at_the_edge_is_padding_too() -> None:
    array = padded(MR.astype(np.float32), -1024)
    array[:, :4, 3] = -700.0
    assert padding_below(array) == -512 and darkest_intensity(array) == MR[:, :, 3:-3].min()


def test_a_scan_that_was_padded_twice_has_neither_value() -> None:
    array = padded(padded(MR, -1024, 6), -32768, 3)
    assert padding_below(array) == -512 and darkest_intensity(array) == MR[:, :, 6:-6].min()


def ct() -> np.ndarray:
    """Air around a body of fat and muscle, in Hounsfield units."""
    array = NOISE.normal(-990, 15, (10, 40, 30))
    array[:, 8:32, 8:22] = NOISE.normal(-90, 20, (10, 24, 14))
    array[:, 12:28, 11:19] = NOISE.normal(50, 30, (10, 16, 8))
    return np.clip(array, -1024, None).round().astype(np.int16)


def test_air_is_an_intensity_and_what_lies_outside_of_the_field_is_not() -> None:
    assert padding_below(ct()) is None
    outside = padded(ct(), -3024)
    assert padding_below(outside) == -1512 and darkest_intensity(outside) >= -1024


@pytest.mark.parametrize(
    "array", [MR, MR - 60, MR.astype(np.uint16), np.full((2, 3, 4), -1024), MR[:0], np.full((2, 3, 4), np.nan)]
)
def test_nothing_is_padding_where_nothing_is_padded(array: np.ndarray) -> None:
    assert padding_below(array) is None


def test_a_single_dark_voxel_is_no_padding() -> None:
    array = MR.copy()
    array[0, 0, 0] = -2000
    assert padding_below(array) is None


def labels(*ids: int, dtype: str = "uint8") -> np.ndarray:
    mask = np.zeros((10, 40, 30), dtype)
    for index, value in enumerate(ids):
        mask[:, 3 * index : 3 * index + 3, 5:20] = value
    return mask


@pytest.mark.parametrize("mask", [labels(1), labels(1, 2, 3), labels(*range(20, 32)), labels(7, 300, dtype="float32")])
def test_a_mask_is_told_by_its_areas_of_few_whole_numbers(mask: np.ndarray) -> None:
    assert labels_of_mask(mask) == len(np.unique(mask))


@pytest.mark.parametrize(
    "scan",
    [
        MR,
        ct(),
        MR.astype(np.float32) / 3,
        np.where(MR > 100, MR, 0),
        (MR // 8).astype(np.uint8),
        labels(1, 2) * 0.5,
        labels(1, 2).astype(np.int16) - 1,
        np.zeros((10, 40, 30), np.uint8),
    ],
)
def test_a_scan_is_no_mask_also_with_few_greys_or_much_black(scan: np.ndarray) -> None:
    assert labels_of_mask(scan) is None
