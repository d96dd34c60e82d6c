"""Overlap and surface distances of small masks, against values worked out by hand or by brute force."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from verdiff.errors import BackendError, DataError
from verdiff.evaluate.metrics import dice_and_iou, score_case, surface_distances_mm, surface_scores, volume_error

SPACING = (3.0, 1.0, 0.5)


def box(shape: tuple[int, ...], low: tuple[int, ...], high: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
    return mask


def test_dice_and_iou_of_two_boxes_counted_by_hand():
    first = box((4, 4, 4), (0, 0, 0), (2, 2, 2))  # 8 voxels
    second = box((4, 4, 4), (1, 0, 0), (4, 2, 2))  # 12 voxels, 4 of them shared
    assert dice_and_iou(first, second) == (2 * 4 / 20, 4 / 16)


def test_identical_masks_are_perfect_in_every_metric():
    labels = box((8, 9, 10), (2, 2, 2), (6, 7, 8)).astype(np.uint8)
    score = score_case(labels, labels, spacing_mm=SPACING, label_ids={"disc": 1})["disc"]
    assert (score.dice, score.iou, score.hd95_mm, score.assd_mm) == (1.0, 1.0, 0.0, 0.0)
    assert (score.reference_voxels, score.predicted_voxels) == (4 * 5 * 6, 4 * 5 * 6)


@pytest.mark.parametrize(("axis", "expected_mm"), [(0, 6.0), (1, 2.0), (2, 1.0)])
def test_a_shift_of_two_voxels_is_measured_in_millimetres_along_its_axis(axis, expected_mm):
    reference = box((20, 20, 20), (6, 6, 6), (12, 12, 12))
    hd95, assd = surface_distances_mm(np.roll(reference, 2, axis), reference, SPACING)
    assert hd95 == pytest.approx(expected_mm)
    assert 0 < assd < expected_mm


def test_a_longer_strip_in_a_plane_has_the_mean_distance_of_its_contour():
    # Corner points of a strip 1 voxel high: the reference ends at column 10, the prediction 4 columns further.
    reference, prediction = box((3, 20), (1, 2), (2, 10)), box((3, 20), (1, 2), (2, 14))
    brute_hd95, brute_assd = brute_force(prediction, reference, (2.0, 0.5))
    hd95, assd = surface_distances_mm(prediction, reference, (2.0, 0.5))
    assert hd95 == pytest.approx(brute_hd95)
    assert assd == pytest.approx(brute_assd)


@pytest.mark.parametrize(
    ("spacing", "shift", "within_1mm", "within_2mm"),
    # A plate one voxel thick, moved along its normal; ten steps of 0.1 mm, as NIfTI keeps it, are more than 1 mm.
    [(1.0, 1, True, True), (float(np.float32(0.1)), 10, True, True), (1.0, 2, False, True), (1.0, 3, False, False)],
)
def test_surface_dice_counts_what_lies_within_the_tolerance_the_bound_itself_included(
    spacing, shift, within_1mm, within_2mm
):
    plane, moved = box((60, 4, 4), (20, 0, 0), (21, 4, 4)), box((60, 4, 4), (20 + shift, 0, 0), (21 + shift, 4, 4))
    scores = surface_scores(plane, moved, (spacing, 50.0, 50.0))
    assert (scores.surface_dice_1mm == 1.0, scores.surface_dice_2mm == 1.0) == (within_1mm, within_2mm)


def test_surface_dice_is_the_share_of_both_surfaces_by_area():
    # Two films: a strip of contour 2 x (8 + 2) mm whose right end lies 3 mm beyond the other's.
    reference, prediction = box((6, 20), (2, 2), (4, 10)), box((6, 20), (2, 2), (4, 13))
    distances = []
    scores = surface_scores(prediction, reference, (1.0, 1.0))
    for a, b in ((reference, prediction), (prediction, reference)):
        distances.append(contour_distances(a, b, (1.0, 1.0)))
    (near, lengths), (there, theirs) = distances
    for tolerance, found in ((1.0, scores.surface_dice_1mm), (2.0, scores.surface_dice_2mm)):
        within = lengths[near <= tolerance].sum() + theirs[there <= tolerance].sum()
        assert found == pytest.approx(within / (lengths.sum() + theirs.sum()))
        assert found < 1
    assert scores.surface_dice_1mm < scores.surface_dice_2mm


@pytest.mark.parametrize(("predicted", "reference", "error"), [(10, 10, 0.0), (11, 9, 0.2), (9, 11, 0.2), (0, 5, 2.0)])
def test_the_volume_error_is_relative_to_the_mean_of_both(predicted, reference, error):
    assert volume_error(predicted, reference) == pytest.approx(error)


def test_volumes_are_in_millilitres_and_a_plane_has_none():
    labels = box((4, 4, 4), (1, 1, 1), (3, 3, 3)).astype(int)
    scored = {"label_ids": {"disc": 1}, "distances": False}
    score = score_case(labels, labels, spacing_mm=(5.0, 10.0, 2.0), **scored)["disc"]
    assert score.facts["reference_ml"] == pytest.approx(0.8)
    film = score_case(labels[1:2], labels[1:2], spacing_mm=(1.0, 1.0, 1.0), **scored)["disc"]
    assert "reference_ml" not in film.facts


def contour_distances(
    mask: np.ndarray, other: np.ndarray, spacing: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """From every point of a planar mask's contour to the other's nearest one, and its length of contour."""

    def contour(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        padded = np.pad(mask, 1).astype(int)
        points, lengths = [], []
        diagonal = 0.5 * np.hypot(*spacing)
        for row in range(padded.shape[0] - 1):
            for column in range(padded.shape[1] - 1):
                square = padded[row : row + 2, column : column + 2]
                filled = square.sum()
                if filled in (0, 4):
                    continue
                if filled in (1, 3):
                    length = diagonal
                elif square[0, 0] == square[1, 1]:
                    length = 2 * diagonal
                else:
                    length = spacing[1] if square[0, 0] == square[0, 1] else spacing[0]
                points.append((row * spacing[0], column * spacing[1]))
                lengths.append(length)
        return np.array(points), np.array(lengths)

    (start, lengths), (end, _) = contour(mask), contour(other)
    return np.linalg.norm(start[:, None] - end[None], axis=2).min(axis=1), lengths


def brute_force(prediction: np.ndarray, reference: np.ndarray, spacing: tuple[float, float]) -> tuple[float, float]:
    """HD95 and ASSD of two planar masks from all pairs of contour points, each weighted by its length of contour."""

    def percentile(distances: np.ndarray, weights: np.ndarray) -> float:
        order = np.argsort(distances, kind="stable")
        reached = np.cumsum(weights[order]) / weights.sum()
        return float(distances[order][np.searchsorted(reached, 0.95)])

    there, weight_a = contour_distances(reference, prediction, spacing)
    back, weight_b = contour_distances(prediction, reference, spacing)
    mean = (np.sum(there * weight_a) + np.sum(back * weight_b)) / (weight_a.sum() + weight_b.sum())
    return max(percentile(there, weight_a), percentile(back, weight_b)), float(mean)


def test_balls_agree_with_simpleitk_s_hausdorff_distance_to_a_voxel():
    z, y, x = np.ogrid[:30, :40, :40]
    first = ((z - 14) * 1.5) ** 2 + (y - 20) ** 2 + (x - 16) ** 2 < 100
    second = ((z - 14) * 1.5) ** 2 + (y - 20) ** 2 + (x - 22) ** 2 < 144
    images = []
    for mask in (first, second):
        image = sitk.GetImageFromArray(mask.astype(np.uint8))
        image.SetSpacing((1.0, 1.0, 1.5))
        images.append(image)
    hausdorff = sitk.HausdorffDistanceImageFilter()
    hausdorff.Execute(*images)
    hd95, _ = surface_distances_mm(first, second, (1.5, 1.0, 1.0))
    assert hausdorff.GetHausdorffDistance() - 1.5 <= hd95 <= hausdorff.GetHausdorffDistance()


masks = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).random((6, 7, 5)) < 0.3)


@settings(max_examples=25, deadline=None)
@given(masks, masks, st.sampled_from([2.0, 5.0]))
def test_distances_are_symmetric_and_scale_with_the_spacing(first, second, factor):
    there = surface_distances_mm(first, second, SPACING)
    assert there == pytest.approx(surface_distances_mm(second, first, SPACING))
    scaled = surface_distances_mm(first, second, [factor * spacing for spacing in SPACING])
    assert scaled == pytest.approx([factor * distance for distance in there])


def test_a_film_is_measured_along_its_contour_and_not_over_its_area():
    reference = box((1, 40, 40), (0, 10, 10), (1, 30, 30))
    prediction = np.roll(reference, 4, axis=1)
    volume = surface_distances_mm(prediction, reference, (1.0, 1.0, 1.0))
    plane = surface_distances_mm(prediction[0], reference[0], (1.0, 1.0))
    assert volume == plane
    assert volume[0] == pytest.approx(4.0)


def test_structures_are_scored_one_by_one_under_their_own_ids():
    reference = np.zeros((4, 8, 8), dtype=np.uint8)
    reference[1:3, :, :4], reference[1:3, :, 4:] = 1, 7
    prediction = np.where(reference == 7, 7, 0)
    scores = score_case(prediction, reference, spacing_mm=(1, 1, 1), label_ids={"vertebra": 1, "disc": 7})
    assert (scores["vertebra"].dice, scores["disc"].dice) == (0.0, 1.0)
    assert scores["vertebra"].hd95_mm == pytest.approx(np.sqrt(16 + 64 + 64))


def test_without_distances_only_the_overlap_is_computed():
    labels = box((4, 4, 4), (1, 1, 1), (3, 3, 3)).astype(int)
    score = score_case(labels, labels, spacing_mm=(1, 1, 1), label_ids={"disc": 1, "none": 2}, distances=False)
    assert (score["disc"].dice, score["none"].dice) == (1.0, 1.0)
    assert np.isnan([score["disc"].hd95_mm, score["disc"].surface_dice_1mm, score["none"].hd95_mm]).all()
    assert (score["disc"].volume_error, score["none"].volume_error) == (0.0, 0.0)


def test_without_the_library_for_distances_overlap_is_scored_and_distances_name_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "surface_distance", None)
    labels = box((4, 4, 4), (1, 1, 1), (3, 3, 3)).astype(int)
    assert score_case(labels, labels, spacing_mm=(1, 1, 1), label_ids={"disc": 1}, distances=False)["disc"].dice == 1
    with pytest.raises(BackendError, match=r"\.\[evaluate\]"):
        score_case(labels, labels, spacing_mm=(1, 1, 1), label_ids={"disc": 1})


def test_importing_the_room_loads_no_library_for_distances_or_statistics():
    check = "import sys, verdiff.evaluate; sys.exit(bool({'scipy', 'surface_distance', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


@pytest.mark.parametrize(
    ("shape", "spacing", "labels"),
    [((4, 4, 5), (1, 1, 1), {"disc": 1}), ((4, 4, 4), (1, 1), {"disc": 1}), ((4, 4, 4), (1, 1, 1), {})],
)
def test_what_does_not_fit_together_is_refused(shape, spacing, labels):
    with pytest.raises(DataError):
        score_case(np.zeros(shape), np.zeros((4, 4, 4)), spacing_mm=spacing, label_ids=labels)
