"""The geometry promise: any orientation goes through canonical slices and back, and nothing moves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.imaging.make import ORIENTATIONS, geometries, textured
from verdiff.errors import VerdiffError
from verdiff.imaging import Geometry, SlicePlan, acquisition_view, plan_slices

VIEWS = ("sagittal", "coronal", "axial", "film")
# For each view the direction in LPS in which slices, rows and columns run.
CANONICAL = {
    "sagittal": ((1, 0, 0), (0, 0, -1), (0, 1, 0)),
    "coronal": ((0, 1, 0), (0, 0, -1), (1, 0, 0)),
    "axial": ((0, 0, 1), (0, 1, 0), (1, 0, 0)),
}


def positions(geometry: Geometry) -> np.ndarray:
    """The place of every voxel in mm, [z, y, x, 3]."""
    depth, height, width = geometry.shape
    z, y, x = np.mgrid[:depth, :height, :width]
    return geometry.index_to_mm(np.stack([x, y, z], axis=-1))


def extracted_positions(plan: SlicePlan, geometry: Geometry) -> np.ndarray:
    return np.stack([plan.extract(axis) for axis in np.moveaxis(positions(geometry), -1, 0)], axis=-1)


@settings(deadline=None, max_examples=100)
@given(geometries(), st.sampled_from(VIEWS))
def test_insert_undoes_extract_exactly(geometry: Geometry, view: Any) -> None:
    array = textured(geometry.shape)
    plan = plan_slices(geometry, view=view, spacing_mm=1.0, multiple=4)
    planes = plan.extract(array)
    assert planes.shape == (plan.slices, plan.scan_rows, plan.scan_cols)
    np.testing.assert_array_equal(plan.insert(planes), array)
    np.testing.assert_array_equal(plan.extract(plan.insert(planes)), planes)


@settings(deadline=None, max_examples=50)
@given(geometries(), st.sampled_from(VIEWS), st.data())
def test_the_slices_of_a_picture_are_those_of_the_scan_cut_to_it(geometry: Geometry, view: Any, data: Any) -> None:
    starts = [data.draw(st.integers(0, length - 1)) for length in geometry.shape]
    box = [slice(s, data.draw(st.integers(s + 1, length))) for s, length in zip(starts, geometry.shape, strict=True)]
    picture = (box[0], box[1], box[2])
    array = textured(geometry.shape)
    plan = plan_slices(geometry, view=view, spacing_mm=1.0, multiple=4, picture=picture)
    size = array[picture].shape[::-1]
    cut = plan_slices(replace(geometry, size=size), view=view, spacing_mm=1.0, multiple=4)
    assert replace(plan, picture=None, source_shape=cut.source_shape) == cut
    np.testing.assert_array_equal(plan.extract(array), cut.extract(array[picture]))
    back = plan.insert(plan.extract(array))
    np.testing.assert_array_equal(back[picture], array[picture])
    back[picture] = 0
    assert not back.any()


@pytest.mark.parametrize("view", CANONICAL)
@pytest.mark.parametrize("direction", ORIENTATIONS)
def test_the_48_orientations_give_the_same_canonical_slices(direction: tuple[float, ...], view: Any) -> None:
    geometry = Geometry((3, 4, 5), (0.5, 1.5, 2.5), (10.0, -20.0, 30.0), direction)
    plan = plan_slices(geometry, view=view, spacing_mm=None)
    places = extracted_positions(plan, geometry)
    pitches = (plan.slice_spacing_mm, *plan.pixel_spacing_mm)
    for axis, (towards, pitch) in enumerate(zip(CANONICAL[view], pitches, strict=True)):
        steps = np.diff(places, axis=axis).reshape(-1, 3)
        np.testing.assert_allclose(steps, np.broadcast_to(np.multiply(towards, pitch), steps.shape), atol=1e-9)


@settings(deadline=None, max_examples=100)
@given(geometries(5), st.sampled_from(sorted(CANONICAL)))
def test_oblique_scans_are_sliced_along_the_axes_that_fit_best(geometry: Geometry, view: Any) -> None:
    plan = plan_slices(geometry, view=view, spacing_mm=None)
    places = extracted_positions(plan, geometry)
    steps = [places[1, 0, 0] - places[0, 0, 0], places[0, 1, 0] - places[0, 0, 0], places[0, 0, 1] - places[0, 0, 0]]
    cosines = [
        float(np.dot(step, towards) / np.linalg.norm(step))
        for step, towards in zip(steps, CANONICAL[view], strict=True)
    ]
    # Turned by at most 3 x 40 degrees, another choice of axes may fit better than the one turned from; none fits worse
    # than equally between all three axes.
    assert sum(cosines) >= np.sqrt(3) - 1e-6
    assert min(cosines) >= -1e-6 or sum(cosines) > 1.9


@settings(deadline=None, max_examples=60)
@given(geometries(4), st.sampled_from(sorted(CANONICAL)), st.floats(0.4, 1.6), st.sampled_from((1, 8, 16)))
def test_a_centroid_stays_where_it_is_through_the_model_grid_and_back(
    small: Geometry, view: Any, spacing_mm: float, multiple: int
) -> None:
    geometry = replace(small, size=(34, 36, 38), spacing_mm=(0.9, 1.0, 1.1))
    places = positions(geometry)
    centre = geometry.index_to_mm([18.3, 16.6, 19.2])
    blob = np.exp(-((places - centre) ** 2).sum(axis=-1) / (2 * 3.0**2)).astype(np.float32)
    plan = plan_slices(geometry, view=view, spacing_mm=spacing_mm, multiple=multiple)
    model = plan.to_model(plan.extract(blob))
    assert model.shape == (plan.slices, 1, plan.padded_rows, plan.padded_cols)
    assert plan.padded_rows % multiple == 0 and plan.padded_cols % multiple == 0
    back = plan.insert(plan.from_model(model)[:, 0])
    for weights in (blob, back):
        found = (places * weights[..., None]).sum(axis=(0, 1, 2)) / weights.sum()
        np.testing.assert_allclose(found, centre, atol=0.02)


@settings(deadline=None, max_examples=40)
@given(geometries(4), st.sampled_from(sorted(CANONICAL)))
def test_the_centroid_on_the_models_own_pixels_is_in_place_too(small: Geometry, view: Any) -> None:
    geometry = replace(small, size=(40, 44, 42), spacing_mm=(0.9, 1.0, 1.1))
    plan = plan_slices(geometry, view=view, spacing_mm=1.7, multiple=16)
    row, col = np.mgrid[: plan.scan_rows, : plan.scan_cols]
    row_mm, col_mm = (row + 0.5) * plan.pixel_spacing_mm[0], (col + 0.5) * plan.pixel_spacing_mm[1]
    blob = np.exp(-((row_mm - 21.3) ** 2 + (col_mm - 18.8) ** 2) / 18.0).astype(np.float32)
    image = plan.to_model(blob[None])[0, 0, : plan.model_rows, : plan.model_cols]
    rows_mm = (np.arange(plan.model_rows) + 0.5) * plan.spacing_mm[0]
    cols_mm = (np.arange(plan.model_cols) + 0.5) * plan.spacing_mm[1]
    assert abs(float((image.sum(axis=1) * rows_mm).sum() / image.sum()) - 21.3) < 0.02
    assert abs(float((image.sum(axis=0) * cols_mm).sum() / image.sum()) - 18.8) < 0.02


def test_the_field_of_view_is_kept_and_never_squared() -> None:
    geometry = Geometry((4, 512, 640), (3.0, 0.47, 0.47), direction=(1, 0, 0, 0, 1, 0, 0, 0, 1))
    plan = plan_slices(geometry, view="sagittal", spacing_mm=0.94, multiple=32)
    assert (plan.model_rows, plan.model_cols) == (320, 256)
    assert (plan.padded_rows, plan.padded_cols) == (320, 256)
    uneven = plan_slices(replace(geometry, size=(4, 101, 333)), view="sagittal", spacing_mm=0.94, multiple=32)
    assert (uneven.padded_rows, uneven.padded_cols) == (192, 64)
    assert uneven.spacing_mm[0] * uneven.model_rows == pytest.approx(333 * 0.47)


@settings(deadline=None)
@given(geometries(60), st.sampled_from(sorted(CANONICAL)), st.floats(0.5, 2.0))
def test_the_models_pixels_are_as_near_to_what_it_asks_as_whole_pixels_allow(
    geometry: Geometry, view: Any, spacing_mm: float
) -> None:
    plan = plan_slices(geometry, view=view, spacing_mm=spacing_mm, multiple=8)
    fields = np.multiply((plan.scan_rows, plan.scan_cols), plan.pixel_spacing_mm)
    np.testing.assert_allclose(np.multiply((plan.model_rows, plan.model_cols), plan.spacing_mm), fields)
    for pixels, field_mm in zip((plan.model_rows, plan.model_cols), fields, strict=True):
        assert pixels == 1 or abs(pixels * spacing_mm - field_mm) <= 0.5 * spacing_mm + 1e-9


def test_padding_is_as_dark_as_an_image_gets() -> None:
    plan = plan_slices(Geometry((5, 6, 7), (1.0, 1.0, 1.0)), view="axial", spacing_mm=None, multiple=8)
    image = plan.to_model(np.full((7, 6, 5), 0.5, np.float32))
    assert (image[:, :, :6, :5] == 0.5).all()
    assert (image[:, :, 6:] == -1).all() and (image[:, :, :, 5:] == -1).all()


def test_half_precision_maps_come_back_as_float32() -> None:
    plan = plan_slices(Geometry((12, 10, 3), (0.5, 0.5, 2.0)), view="axial", spacing_mm=1.0, multiple=8)
    maps = np.random.default_rng(1).random((3, 2, plan.padded_rows, plan.padded_cols)).astype(np.float16)
    back = plan.from_model(maps)
    assert back.shape == (3, 2, 10, 12) and back.dtype == np.float32
    np.testing.assert_allclose(back, plan.from_model(maps.astype(np.float32)))


def test_extract_copies_nothing() -> None:
    geometry = Geometry((3, 4, 5), (1.0, 1.0, 1.0))
    array = textured(geometry.shape)
    assert np.shares_memory(plan_slices(geometry, view="sagittal", spacing_mm=None).extract(array), array)


@pytest.mark.parametrize("direction", ORIENTATIONS)
def test_the_acquired_view_is_that_of_the_thickest_axis(direction: tuple[float, ...]) -> None:
    world = np.abs(np.reshape(direction, (3, 3))).argmax(axis=0)
    for thick in range(3):
        spacing = [0.5, 0.5, 0.5]
        spacing[thick] = 4.0
        geometry = Geometry((20, 20, 20), tuple(spacing), direction=direction)
        assert acquisition_view(geometry) == ("sagittal", "coronal", "axial")[world[thick]]


def test_even_spacing_is_isotropic_and_a_single_such_plane_a_film() -> None:
    assert acquisition_view(Geometry((9, 9, 9), (1.0, 1.0, 1.2))) == "isotropic"
    assert acquisition_view(Geometry((9, 9, 9), (1.0, 1.0, 1.3))) == "axial"
    assert acquisition_view(Geometry((9, 9, 1), (1.0, 1.0, 1.0))) == "film"


@pytest.mark.parametrize("direction", ORIENTATIONS)
@pytest.mark.parametrize(
    ("size", "spacing"),
    [
        ((44, 180, 200), (0.7, 1.0, 1.0)),  # slices thinner than their pixels
        ((44, 180, 200), (0.5, 1.0, 1.1)),
        ((60, 180, 200), (0.9, 0.8, 1.1)),  # pixels that are not square
        ((60, 180, 200), (1.0, 0.7, 1.3)),
    ],
)
def test_the_largest_of_nearly_equal_spacings_is_no_plane(
    direction: tuple[float, ...], size: tuple[int, int, int], spacing: tuple[float, float, float]
) -> None:
    assert acquisition_view(Geometry(size, spacing, (1.0, 2.0, 3.0), direction)) == "isotropic"


def test_a_plane_that_is_not_oriented_is_a_film_wherever_it_lies() -> None:
    plane = Geometry((9, 9, 1), (0.2, 0.3, 4.0), (-50.0, 20.0, 0.0))
    assert acquisition_view(plane) == "axial"
    assert acquisition_view(replace(plane, oriented=False)) == "film"


@pytest.mark.parametrize("direction", ORIENTATIONS)
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("spacing", [(1.5, 1.5, 1.5), (0.5, 0.5, 4.0), (0.7, 0.9, 0.3)])
def test_one_slice_lies_across_its_axis_whichever_that_is(
    direction: tuple[float, ...], axis: int, spacing: tuple[float, float, float]
) -> None:
    size = tuple(1 if each == axis else 30 for each in range(3))
    geometry = Geometry(size, spacing, (5.0, -3.0, 8.0), direction)  # type: ignore[arg-type]
    world = int(np.argmax(np.abs(geometry.matrix[:, axis])))
    assert acquisition_view(geometry) == ("sagittal", "coronal", "axial")[world]


@pytest.mark.parametrize(
    "wrong", [{"view": "oblique"}, {"spacing_mm": 0.0}, {"spacing_mm": float("nan")}, {"multiple": 0}]
)
def test_an_impossible_plan_is_refused(wrong: dict[str, Any]) -> None:
    asked: dict[str, Any] = {"view": "axial", "spacing_mm": 1.0, "multiple": 8, **wrong}
    with pytest.raises(VerdiffError, match="view"):
        plan_slices(Geometry((5, 5, 5), (1.0, 1.0, 1.0)), **asked)


def test_a_window_is_a_part_of_the_whole_input_and_comes_back_in_its_place() -> None:
    geometry = Geometry((40, 50, 3), (0.7, 0.9, 4.0), (0.0, 0.0, 0.0), (0.0, 0.0, -1.0, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0))
    whole = plan_slices(geometry, view="sagittal", spacing_mm=1.0, multiple=8)
    window = whole.windowed(slice(8, 32), slice(16, whole.padded_cols))
    planes = np.random.default_rng(0).uniform(-1, 1, (3, whole.scan_rows, whole.scan_cols)).astype(np.float32)
    inputs = whole.to_model(planes)
    # A matrix product of another width may add in another order, by the processor's kernels.
    np.testing.assert_allclose(window.to_model(planes), inputs[:, :, 8:32, 16:], rtol=0, atol=1e-6)
    maps = np.zeros((1, 2, whole.padded_rows, whole.padded_cols), np.float32)
    maps[:, :, 8:32, 16:] = np.random.default_rng(1).uniform(0, 1, (1, 2, 24, whole.padded_cols - 16))
    np.testing.assert_allclose(window.from_model(maps[:, :, 8:32, 16:]), whole.from_model(maps), rtol=0, atol=1e-6)


def test_a_window_beyond_the_input_is_refused() -> None:
    geometry = Geometry((40, 50, 3), (0.7, 0.9, 4.0), (0.0, 0.0, 0.0), (0.0, 0.0, -1.0, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0))
    whole = plan_slices(geometry, view="sagittal", spacing_mm=1.0, multiple=8)
    for rows in (slice(0, whole.padded_rows + 8), slice(-8, 8), slice(8, 8)):
        with pytest.raises(VerdiffError, match="window"):
            whole.windowed(rows, slice(0, 8))
    with pytest.raises(VerdiffError, match="window"):
        whole.windowed(slice(8, 32), slice(0, 8)).windowed(slice(0, 8), slice(0, 8))
