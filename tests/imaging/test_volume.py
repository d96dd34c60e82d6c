"""The Volume type and what is accepted in its place."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings

from tests.imaging.make import geometries, textured, volume
from verdiff.errors import InputError
from verdiff.imaging import Geometry, Volume, volume_from


def itk_image(geometry: Geometry) -> sitk.Image:
    image = sitk.GetImageFromArray(textured(geometry.shape))
    image.SetSpacing(geometry.spacing_mm)
    image.SetOrigin(geometry.origin_mm)
    image.SetDirection(geometry.direction)
    return image


@settings(deadline=None, max_examples=50)
@given(geometries())
def test_positions_are_those_of_itk(geometry: Geometry) -> None:
    image = itk_image(geometry)
    far = [n - 1 for n in geometry.size]
    for index, place in (((0, 0, 0), geometry.corners_mm()[0]), (tuple(far), geometry.corners_mm()[7])):
        np.testing.assert_allclose(place, image.TransformIndexToPhysicalPoint(index), atol=1e-9)
    np.testing.assert_allclose(
        geometry.index_to_mm((0.5, 1.25, 0.0)), image.TransformContinuousIndexToPhysicalPoint((0.5, 1.25, 0.0))
    )


@settings(deadline=None, max_examples=20)
@given(geometries())
def test_a_simpleitk_image_keeps_its_place(geometry: Geometry) -> None:
    taken = volume_from(itk_image(geometry))
    assert taken.geometry.matches(geometry, 1e-9)
    np.testing.assert_array_equal(taken.array, textured(geometry.shape))


def test_a_volume_is_taken_as_it_is() -> None:
    scan = volume()
    assert volume_from(scan) is scan


def test_an_array_needs_its_spacing_and_may_name_its_direction() -> None:
    array = textured((4, 5, 6))
    plain = volume_from((array, (0.5, 0.6, 2.0), None))
    assert plain.geometry == Geometry((6, 5, 4), (0.5, 0.6, 2.0))
    turned = volume_from((array, [0.5, 0.6, 2.0], np.diag([-1.0, -1.0, 1.0])))
    assert turned.geometry.direction == (-1, 0, 0, 0, -1, 0, 0, 0, 1)


def test_a_two_dimensional_image_becomes_one_plane() -> None:
    image = sitk.GetImageFromArray(textured((7, 8)))
    image.SetSpacing((0.2, 0.2))
    assert volume_from(image).geometry.size == (8, 7, 1)
    assert volume_from(image).geometry.spacing_mm == pytest.approx((0.2, 0.2, 0.2))


@pytest.mark.parametrize(
    ("scan", "message"),
    [
        ("scan.nii.gz", "type str"),
        ((textured((4, 5, 6)), (1, 1, 1)), "tuple of 2"),
        ((textured((5, 6)), (1, 1, 1), None), "2 dimensions"),
        ((textured((2, 4, 5, 6)), (1, 1, 1), None), "4 dimensions"),
        ((textured((4, 5, 6)), (1, 1), None), "2 spacings"),
        ((textured((4, 5, 6)), (1, 1, 1), np.eye(2)), "4 cosines"),
        ((textured((4, 5, 6)), (1, 0, 1), None), "spacing of 1 x 0 x 1"),
        ((textured((4, 5, 6)), (1, 1, 99), None), "spacing of 1 x 1 x 99"),
        ((textured((4, 5, 6)), (1, 1, float("nan")), None), "spacing"),
        ((textured((4, 5, 6)), (1, 1, 1), [[1, 0.1, 0], [0, 1, 0], [0, 0, 1]]), "sheared"),
        ((textured((4, 5, 6)), (1, 1, 1), np.zeros((3, 3))), "no length"),
        ((textured((4, 5, 6)), (1, 1, 1), np.full((3, 3), np.nan)), "not finite"),
        ((np.full((4, 5, 6), 3), (1, 1, 1), None), "constant: every voxel is 3"),
        ((np.full((4, 5, 6), np.nan), (1, 1, 1), None), "120 voxels that are NaN"),
        ((np.full((4, 5, 6), 1j), (1, 1, 1), None), "type complex128"),
        ((np.ones((1, 1, 1)), (1, 1, 1), None), "1 voxel "),
        ((textured((6, 1, 1)), (1, 1, 1), None), "6 voxels"),
        (sitk.JoinSeries([sitk.GetImageFromArray(textured((4, 5, 6)))] * 2), "sizes 6 x 5 x 4 x 2"),
        (sitk.GetImageFromArray(textured((4, 5, 6, 3)), isVector=True), "RGB"),
    ],
)
def test_what_cannot_be_a_scan_is_refused_by_name(scan: object, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        volume_from(scan)  # type: ignore[arg-type]
    assert caught.value.expected and caught.value.remedy


def test_an_array_must_fill_its_geometry() -> None:
    with pytest.raises(InputError, match="geometry of shape"):
        Volume(textured((4, 5, 6)), Geometry((4, 5, 6), (1.0, 1.0, 1.0)))


def test_grids_match_by_size_and_place() -> None:
    grid = Geometry((4, 5, 6), (1.0, 1.0, 1.0))
    assert grid.matches(Geometry((4, 5, 6), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0005)))
    assert not grid.matches(Geometry((4, 5, 6), (1.0, 1.0, 1.0), (0.0, 0.0, 0.5)))
    assert not grid.matches(Geometry((4, 5, 7), (1.0, 1.0, 1.0)))
    assert Geometry((2, 2, 2), (1.0, 2.0, 5.0)).voxel_ml == pytest.approx(0.01)
