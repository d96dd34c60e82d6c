"""Pixel Padding Value: bright padding is no tissue, and what only has the same number stays as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.imaging.make import save_dicom, textured
from tests.imaging.test_dicom_pixels import stored_as
from verdiff.imaging import Volume, read_volume

IMAGE = textured((24, 20)) % 900 + 100
OUTSIDE = np.zeros(IMAGE.shape, bool)
OUTSIDE[:6, :5] = True
OUTSIDE[-3:] = True


def padded_with(number: int) -> np.ndarray:
    return np.where(OUTSIDE, number, IMAGE)


def read(folder: Path, array: np.ndarray, **tags: Any) -> Volume:
    return read_volume(save_dicom(folder / "a.dcm", array, **tags))


@pytest.mark.parametrize(
    ("number", "tags"),
    [
        (4095, {"PixelPaddingValue": 4095}),
        (4090, {"PixelPaddingValue": 4095, "PixelPaddingRangeLimit": 4080}),
        (4090, {"PixelPaddingValue": 4080, "PixelPaddingRangeLimit": 4095}),
    ],
)
def test_bright_padding_is_as_dark_as_the_image(tmp_path: Path, number: int, tags: dict[str, int]) -> None:
    volume = read(tmp_path, padded_with(number), **tags)
    np.testing.assert_array_equal(volume.array[0], padded_with(IMAGE[~OUTSIDE].min()))
    assert any(f"{100 * OUTSIDE.mean():.1f} % of it is padding" in note for note in volume.notes)


def test_signed_padding_among_scaled_numbers(tmp_path: Path) -> None:
    values = np.where(OUTSIDE, 2000, IMAGE - 500)
    tags = stored_as(16, True, values) | {"PixelPaddingValue": 2000, "RescaleSlope": 2, "RescaleIntercept": -10}
    volume = read(tmp_path, values, **tags)
    darkest = (IMAGE[~OUTSIDE] - 500).min()
    np.testing.assert_array_equal(volume.array[0], np.where(OUTSIDE, darkest, IMAGE - 500) * 2 - 10)


def test_of_a_turned_film_the_padding_is_dark_too(tmp_path: Path) -> None:
    tags = {"Modality": "DX", "PhotometricInterpretation": "MONOCHROME1", "PixelPaddingValue": 0}
    volume = read(tmp_path, padded_with(0), **tags)
    np.testing.assert_array_equal(volume.array[0], 4095 - padded_with(IMAGE[~OUTSIDE].max()))


@pytest.mark.parametrize("number", [0, 50])
def test_padding_darker_than_the_image_stays(tmp_path: Path, number: int) -> None:
    volume = read(tmp_path, padded_with(number), PixelPaddingValue=number)
    np.testing.assert_array_equal(volume.array[0], padded_with(number))
    assert not any("padding" in note for note in volume.notes)


def test_a_number_that_fills_no_corner_is_an_intensity(tmp_path: Path) -> None:
    array = IMAGE.copy()
    array[10:14, 8:12] = 3000
    volume = read(tmp_path, array, PixelPaddingValue=3000)
    np.testing.assert_array_equal(volume.array[0], array)


def test_a_slice_of_nothing_but_padding_is_dark(tmp_path: Path) -> None:
    for place, array in [(0, padded_with(4095)), (3, np.full_like(IMAGE, 4095))]:
        save_dicom(tmp_path / f"{place}.dcm", array, PixelPaddingValue=4095, ImagePositionPatient=[place, 0, 0])
    array = read_volume(tmp_path).array
    assert sorted(int(plane.max()) for plane in array) == [0, int(IMAGE[~OUTSIDE].max())]


def test_a_slice_of_nothing_but_negative_padding_stays(tmp_path: Path) -> None:
    values = np.full(IMAGE.shape, -2000)
    for place, array in [(0, np.where(OUTSIDE, -2000, IMAGE - 900)), (3, values)]:
        tags = stored_as(16, True, array) | {"PixelPaddingValue": -2000, "ImagePositionPatient": [place, 0, 0]}
        save_dicom(tmp_path / f"{place}.dcm", array, **tags)
    volume = read_volume(tmp_path)
    assert int(volume.array.min()) == -2000 and sorted(int(plane.max()) for plane in volume.array)[0] == -2000
    assert not any("padding" in note for note in volume.notes)
