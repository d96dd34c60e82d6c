"""The picture of a scan is what is left when its uniform margins are gone."""

from __future__ import annotations

import numpy as np
import pytest

from verdiff.imaging.picture import picture_of


@pytest.mark.parametrize("dtype", ["int16", "uint8", ">i2", "float32", "bool"])
@pytest.mark.parametrize("darkest", [0, 1])
def test_margins_of_the_darkest_grey_are_left_out(dtype: str, darkest: int) -> None:
    if dtype == "bool" and darkest:
        pytest.skip("nothing is brighter than True")
    array = np.full((6, 7, 8), darkest, dtype)
    array[1, 2:5, 3] = array[4, 3, 3:8] = darkest + 1
    assert picture_of(array) == (slice(1, 5), slice(2, 5), slice(3, 8))


def test_what_is_dark_within_a_picture_stays() -> None:
    array = np.zeros((3, 3, 3), np.int16)
    array[0, 0, 0] = array[2, 2, 2] = 5
    assert picture_of(array) == (slice(0, 3),) * 3


def test_a_margin_brighter_than_the_darkest_is_no_margin() -> None:
    array = np.full((2, 4, 4), 7, np.int16)
    array[:, 1, 1] = 3
    assert picture_of(array) == (slice(0, 2), slice(0, 4), slice(0, 4))


def test_what_is_not_finite_does_not_count() -> None:
    array = np.full((1, 5, 5), np.nan, np.float32)
    array[0, 1:4, 1:4] = 2.0
    array[0, 2, 2] = 3.0
    array[0, 0, 0] = -np.inf
    array[0, 4, 4] = np.inf
    assert picture_of(array) == (slice(0, 1), slice(2, 3), slice(2, 3))


@pytest.mark.parametrize("value", [4.0, np.nan])
def test_a_constant_scan_is_a_picture_whole(value: float) -> None:
    assert picture_of(np.full((2, 3, 4), value, np.float32)) == (slice(0, 2), slice(0, 3), slice(0, 4))
