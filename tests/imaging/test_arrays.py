"""Arrays through the Python API: the same numbers give the same scan whatever their type, or one InputError."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from tests.imaging.make import textured
from verdiff.errors import InputError
from verdiff.imaging import Geometry, IntensityRule, Volume, acquisition_view, intensity_bounds, volume_from

ARRAY = textured((4, 6, 5))
SPACING = (0.5, 0.75, 3.0)
DIRECTION = (0.0, 0.0, -1.0, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0)


def accepted(array: Any) -> np.ndarray:
    """The array as a tuple and as a Volume gives it, which are the same."""
    first = volume_from((array, SPACING, DIRECTION)).array
    if isinstance(array, np.ndarray):
        second = volume_from(Volume(array, Geometry((5, 6, 4), SPACING, direction=DIRECTION))).array
        np.testing.assert_array_equal(first, second)
    assert first.dtype.isnative and first.dtype.kind in "iuf" and first.dtype != np.float64
    return np.asarray(first)


@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_numbers_of_any_type_and_byte_order_are_the_same_numbers(kind: str, order: str) -> None:
    array = ARRAY.astype(order + kind)
    np.testing.assert_array_equal(accepted(array), ARRAY.astype("=" + kind))
    rule = IntensityRule("percentile", 1, 99)
    assert intensity_bounds(array, rule) == intensity_bounds(array.astype("=" + kind), rule)


def test_truth_values_lists_and_views_are_numbers() -> None:
    np.testing.assert_array_equal(accepted(ARRAY > 60), (ARRAY > 60).astype(np.uint8))
    np.testing.assert_array_equal(accepted(ARRAY.tolist()), ARRAY)
    np.testing.assert_array_equal(accepted(np.asfortranarray(ARRAY)), ARRAY)
    np.testing.assert_array_equal(accepted(ARRAY[::-1, ::-1]), ARRAY[::-1, ::-1])
    np.testing.assert_array_equal(accepted(np.ma.masked_less(ARRAY, -1)), ARRAY)


def test_what_is_right_already_is_not_copied() -> None:
    assert volume_from((ARRAY, SPACING, DIRECTION)).array is ARRAY


class Tensor:
    """A tensor of another device, as numpy meets it."""

    def __array__(self, *_: object, **__: object) -> np.ndarray:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("array", "message"),
    [
        (ARRAY[:0], "is empty"),
        (ARRAY[:, :0], "is empty"),
        (np.ma.masked_greater(ARRAY, 60), "values that are masked"),
        (ARRAY.astype(object), "pixels of type object"),
        (ARRAY.astype(complex), "pixels of type complex128"),
        (ARRAY.astype(str), "pixels of type <U"),
        (ARRAY.astype("datetime64[s]"), "pixels of type datetime64"),
        (np.zeros((4, 6, 5), [("a", "i2")]), "pixels of type"),
        (Tensor(), "is no array"),
        ([[1, 2], [3]], "is no array|pixels of type object"),
        (None, "pixels of type object"),
        (ARRAY * 1e37, "beyond the range of 32-bit floats"),
        (ARRAY * -1e300, "beyond the range of 32-bit floats"),
        (np.where(ARRAY == 3, np.inf, ARRAY), "NaN or infinite"),
        (np.where(ARRAY == 3, np.nan, ARRAY), "NaN or infinite"),
        (ARRAY[0], "2 dimensions"),
        (ARRAY[None], "4 dimensions"),
        (np.full((4, 6, 5), 3), "constant"),
    ],
)
def test_what_is_no_scan_is_one_input_error(array: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        volume_from((array, SPACING, DIRECTION))
    assert caught.value.expected and caught.value.remedy


@pytest.mark.parametrize(
    ("spacing", "direction", "message"),
    [
        (None, DIRECTION, "the spacing None"),
        (1.0, DIRECTION, "the spacing 1.0"),
        (("a", "b", "c"), DIRECTION, "the spacing"),
        ((1.0, 1.0), DIRECTION, "2 spacings"),
        ((1.0, 0.0, 1.0), DIRECTION, "spacing of 1 x 0 x 1"),
        ((1.0, float("nan"), 1.0), DIRECTION, "spacing of 1 x nan x 1"),
        (SPACING, "LPS", "the direction"),
        (SPACING, DIRECTION[:6], "6 cosines"),
        (SPACING, (1, 0.2, 0, 0, 1, 0, 0, 0, 1), "sheared"),
        (SPACING, (2, 0, 0, 0, 1, 0, 0, 0, 1), "cosines of length 2, 1, 1"),
        (SPACING, (float("nan"),) * 9, "not finite"),
    ],
)
def test_a_spacing_or_direction_that_is_none_is_one_input_error(spacing: Any, direction: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        volume_from((ARRAY, spacing, direction))


def test_a_direction_that_is_not_given_is_said() -> None:
    assert "no direction was given" in volume_from((ARRAY, SPACING, None)).notes[0]
    assert volume_from((ARRAY, SPACING, DIRECTION)).notes == ()


def test_an_image_of_two_dimensions_is_a_film_wherever_it_lies() -> None:
    image = sitk.GetImageFromArray(ARRAY[0])
    image.SetOrigin((-100.0, 30.0))
    assert acquisition_view(volume_from(image).geometry) == "film"
    assert acquisition_view(volume_from((ARRAY[:1], (0.2, 0.3, 4.0), None)).geometry) == "film"


def test_a_simpleitk_image_of_any_type_is_taken() -> None:
    for kind in ("uint8", "int16", "int64", "float64"):
        image = sitk.GetImageFromArray(ARRAY.astype(kind))
        np.testing.assert_array_equal(volume_from(image).array, ARRAY)
    with pytest.raises(InputError, match="beyond the range of 32-bit floats"):
        volume_from(sitk.GetImageFromArray(ARRAY * 1e300))
