"""A scan on a 3D model's grid: nothing moves, nothing depends on how much is asked for at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.imaging.make import ORIENTATIONS, geometries, textured
from verdiff.errors import VerdiffError
from verdiff.imaging import Geometry, IntensityRule, intensity_bounds, normalise, plan_slices
from verdiff.imaging.volume_plan import VolumePlan, plan_volume

SAGITTAL = (0.0, 0.0, -1.0, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0)


def stack(slices: int, rows: int, cols: int, spacing_mm: tuple[float, float, float]) -> Geometry:
    """A sagittal stack; spacing from slice to slice, row to row, column to column."""
    return Geometry((cols, rows, slices), (spacing_mm[2], spacing_mm[1], spacing_mm[0]), (1.0, 2.0, 3.0), SAGITTAL)


def restored(plan: VolumePlan, maps: np.ndarray) -> np.ndarray:
    """Maps [slices, rows, cols] within the model's grid as the scan's slices [slices, rows, cols]."""
    across = np.einsum("sm,mhw->shw", plan.across, maps)
    return np.stack([plan.planes.from_model(plane[None, None])[0, 0] for plane in across])


def test_on_the_models_own_grid_the_volume_is_the_upright_scan_bit_for_bit() -> None:
    geometry = stack(5, 7, 6, (4.0, 1.5, 1.5))
    array = textured(geometry.shape)
    plan = plan_volume(geometry, view="sagittal", spacing_mm=(4.0, 1.5, 1.5), patch=(2, 2, 2))
    assert plan.shape == plan.inside == (5, 7, 6) and plan.spacing_mm == (4.0, 1.5, 1.5)
    bounds = intensity_bounds(array, IntensityRule("percentile", 0, 100))
    volume = plan.reader(array, bounds)(slice(0, 5))
    upright = plan_slices(geometry, view="sagittal", spacing_mm=None).extract(array)
    assert volume.tobytes() == normalise(np.ascontiguousarray(upright), *bounds).tobytes()
    np.testing.assert_array_equal(restored(plan, volume), volume)


@settings(deadline=None, max_examples=40)
@given(geometries(7), st.sampled_from(("sagittal", "coronal", "axial")), st.tuples(*[st.floats(0.4, 6.0)] * 3))
def test_a_centroid_stays_where_it_is_through_the_models_grid_and_back(
    geometry: Geometry, view: Any, spacing_mm: tuple[float, float, float]
) -> None:
    """A ball in the middle of the scan, resampled along all three axes and back, keeps its place to half a voxel."""
    z, y, x = np.mgrid[tuple(slice(0, n) for n in geometry.shape)]
    where = geometry.index_to_mm(np.stack([x, y, z], axis=-1))
    middle = geometry.index_to_mm([(n - 1) / 2 for n in geometry.size])
    reach = 0.6 * max(n * pitch for n, pitch in zip(geometry.size, geometry.spacing_mm, strict=True))
    ball = np.exp(-(np.linalg.norm(where - middle, axis=-1) ** 2) / reach**2).astype(np.float32)
    plan = plan_volume(geometry, view=view, spacing_mm=spacing_mm, patch=(1, 1, 1))
    volume = plan.reader(ball, (-1.0, 1.0))(slice(0, plan.slices))
    back = plan.planes.insert(restored(plan, volume))
    for mass in (ball, back):
        assert mass.min() > -1e-6
    centroids = [(where * mass[..., None]).sum(axis=(0, 1, 2)) / mass.sum() for mass in (ball, back)]
    assert np.linalg.norm(centroids[0] - centroids[1]) < 1e-3 * reach + 1e-4


@pytest.mark.parametrize("direction", ORIENTATIONS[::7])
def test_the_volume_does_not_depend_on_how_the_scan_is_stored(direction: tuple[float, ...]) -> None:
    """The same patient in another voxel order is the same volume."""
    small = np.random.default_rng(3).normal(size=(4, 6, 5)).astype(np.float32)
    reference = plan_slices(stack(4, 6, 5, (3.0, 1.0, 1.2)), view="sagittal", spacing_mm=None)
    options: dict[str, Any] = {"view": "sagittal", "spacing_mm": (2.0, 1.4, 1.4), "patch": (4, 4, 4)}
    expected = plan_volume(stack(4, 6, 5, (3.0, 1.0, 1.2)), **options).reader(reference.insert(small), (-3, 3))
    # Along x, y and z of the patient lie the slices, the columns and the rows of a sagittal stack.
    lengths, pitches = (4, 5, 6), (3.0, 1.2, 1.0)
    axes = np.abs(np.reshape(direction, (3, 3))).argmax(axis=0)
    geometry = Geometry(
        tuple(lengths[axis] for axis in axes), tuple(pitches[axis] for axis in axes), (0.0, 0.0, 0.0), direction
    )
    array = plan_slices(geometry, view="sagittal", spacing_mm=None).insert(small)
    found = plan_volume(geometry, **options).reader(array, (-3, 3))
    np.testing.assert_allclose(found(slice(0, 6)), expected(slice(0, 6)), atol=1e-6)


def test_a_slices_bits_do_not_depend_on_which_others_are_asked_for() -> None:
    geometry = stack(23, 12, 11, (1.1, 0.7, 0.7))
    array = textured(geometry.shape)
    plan = plan_volume(geometry, view="sagittal", spacing_mm=(1.7, 1.0, 1.0), patch=(20, 4, 4))
    read = plan.reader(array, (0.0, 130.0))
    whole = read(slice(0, plan.shape[0]))
    assert plan.slices == 15 and whole.shape == plan.shape == (20, 8, 8)
    for start in range(20):
        assert read(slice(start, min(20, start + 3))).tobytes() == whole[start : start + 3].tobytes()
    backwards = plan.reader(array, (0.0, 130.0), over=lambda one, items: [one(i) for i in items])
    assert backwards(slice(0, 20)).tobytes() == whole.tobytes()


def test_slices_are_averaged_where_the_model_has_fewer_and_interpolated_where_it_has_more() -> None:
    geometry = stack(8, 3, 3, (1.0, 1.0, 1.0))
    array = plan_slices(geometry, view="sagittal", spacing_mm=None).insert(
        np.broadcast_to(np.arange(8, dtype=np.float32)[:, None, None], (8, 3, 3))
    )
    fewer = plan_volume(geometry, view="sagittal", spacing_mm=(4.0, 1.0, 1.0), patch=(1, 1, 1))
    more = plan_volume(geometry, view="sagittal", spacing_mm=(0.5, 1.0, 1.0), patch=(1, 1, 1))
    coarse = fewer.reader(array, (0.0, 8.0))(slice(0, 2))[:, 1, 1] * 4 + 4
    fine = more.reader(array, (0.0, 8.0))(slice(0, 16))[:, 1, 1] * 4 + 4
    assert fewer.slices == 2 and more.slices == 16
    np.testing.assert_allclose(coarse.mean(), 3.5, atol=1e-5)
    assert 1.5 <= coarse[0] <= 2.5
    np.testing.assert_allclose(fine[1:-1], np.arange(1, 15) / 2 - 0.25, atol=1e-5)


def test_padding_is_the_scans_darkest_voxel_behind_below_and_to_the_right() -> None:
    geometry = stack(2, 3, 2, (4.0, 1.0, 1.0))
    array = np.full(geometry.shape, 50, np.int16)
    array[0, 0, 0] = 25
    plan = plan_volume(geometry, view="sagittal", spacing_mm=(4.0, 1.0, 1.0), patch=(4, 5, 4))
    volume = plan.reader(array, (0.0, 100.0))(slice(0, 4))
    assert plan.shape == (4, 5, 4) and plan.inside == (2, 3, 2)
    assert np.count_nonzero(volume == 0.0) == 11
    outside = volume.copy()
    outside[:2, :3, :2] = -0.5
    assert (outside == -0.5).all()


def test_the_crop_keeps_the_middle_columns_and_the_rest_comes_back_as_nothing() -> None:
    """SAFNet's box, D x H x W / 2 around the centre."""
    geometry = stack(3, 8, 12, (4.0, 1.0, 1.0))
    array = textured(geometry.shape)
    options: dict[str, Any] = {"view": "sagittal", "spacing_mm": (4.0, 1.0, 1.0), "patch": (1, 1, 1)}
    whole, half = plan_volume(geometry, **options), plan_volume(geometry, **options, crop=0.5)
    assert half.shape == (3, 8, 6)
    full, part = (plan.reader(array, (0.0, 130.0))(slice(0, 3)) for plan in (whole, half))
    np.testing.assert_array_equal(part, full[:, :, 3:9])
    back = restored(half, np.ones((3, 8, 6), np.float32))
    assert (back[:, :, 3:9] == 1).all() and not back[:, :, :3].any() and not back[:, :, 9:].any()


def test_a_mask_on_the_models_grid_has_each_structure_where_it_fills_most() -> None:
    geometry = stack(4, 8, 8, (2.0, 1.0, 1.0))
    planes = np.zeros((4, 8, 8), np.uint8)
    planes[:, :4] = 7
    planes[2:, 4:] = 3
    array = plan_slices(geometry, view="sagittal", spacing_mm=None).insert(planes)
    plan = plan_volume(geometry, view="sagittal", spacing_mm=(4.0, 2.0, 2.0), patch=(3, 4, 6))
    labels = plan.labels_to_model(array, (7, 3))
    assert labels.dtype == np.uint8 and labels.shape == plan.shape == (3, 4, 6)
    expected = np.zeros((3, 4, 6), np.uint8)
    expected[:2, :2, :4], expected[1, 2:, :4] = 1, 2
    np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize(
    "wrong",
    [
        {"spacing_mm": (4.0, 1.0)},
        {"spacing_mm": (4.0, 0.0, 1.0)},
        {"spacing_mm": (4.0, float("nan"), 1.0)},
        {"patch": (1, 0, 1)},
        {"patch": (4, 4)},
        {"crop": 0.0},
        {"crop": 1.5},
        {"view": "sideways"},
    ],
)
def test_grids_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    options: dict[str, Any] = {"view": "sagittal", "spacing_mm": (4.0, 1.0, 1.0), "patch": (1, 1, 1), **wrong}
    with pytest.raises(VerdiffError):
        plan_volume(stack(3, 4, 4, (4.0, 1.0, 1.0)), **options)
