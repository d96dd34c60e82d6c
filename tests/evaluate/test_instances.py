"""Panoptic quality and identification, against counts worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from verdiff.errors import DataError
from verdiff.evaluate.empty import LEAVE_ABSENT_OUT
from verdiff.evaluate.instances import InstanceGroups, instance_groups, score_instances

LABELS = {"L5": 1, "L4": 2, "L3": 3, "L2": 4}
SPACING = (4.0, 2.0, 1.0)


def spine(*ids: int, shift: int = 0) -> np.ndarray:
    """Vertebrae of 10 rows of 2 mm and a gap of 4, from the bottom up, in a stack of 3 slices."""
    mask = np.zeros((3, 60, 12), np.uint8)
    for place, label in enumerate(ids):
        low = 2 + 14 * place + shift
        mask[:, low : low + 10, 2:10] = label
    return mask


def score(prediction, reference, text="ids", **more):
    groups = instance_groups(text, LABELS)
    return score_instances(prediction, reference, spacing_mm=SPACING, groups=groups, **more)


def test_the_same_instances_are_perfect_in_every_metric():
    scores = score(spine(1, 2, 3, 4), spine(1, 2, 3, 4))["instances"]
    assert (scores.panoptic_quality, scores.recognition_quality, scores.segmentation_quality) == (1.0, 1.0, 1.0)
    assert (scores.identification_rate, scores.centroid_distance_mm, scores.matched) == (1.0, 0.0, 4)


def test_panoptic_quality_by_hand_with_one_match_one_missed_and_two_invented():
    reference, prediction = spine(1, 2), spine(1, shift=2)
    # The match: 8 of 10 rows shared, so IoU 8 / 12. Label 2 has no counterpart, 3 and 4 have none either.
    prediction[:, 40:45, 2:10], prediction[:, 50:55, 2:10] = 3, 4
    scores = score(prediction, reference)["instances"]
    assert scores.recognition_quality == pytest.approx(1 / (1 + 0.5 * (1 + 2)))
    assert scores.segmentation_quality == pytest.approx(8 / 12)
    assert scores.panoptic_quality == pytest.approx(scores.recognition_quality * scores.segmentation_quality)
    assert scores.facts["matched"] == 1
    assert (scores.reference_instances, scores.predicted_instances) == (2, 3)


@pytest.mark.parametrize(("rows", "matched"), [(6, 1), (5, 0)])
def test_a_match_has_more_than_half_in_common(rows, matched):
    reference = spine(1)
    prediction = np.zeros_like(reference)
    prediction[:, 2 : 2 + rows, 2:10] = 1  # IoU rows / 10, and one half is not enough
    scores = score(prediction, reference)["instances"]
    assert scores.matched == matched
    assert np.isnan(scores.segmentation_quality) == (matched == 0)
    assert scores.panoptic_quality == pytest.approx(rows / 10 if matched else 0)


def test_levels_off_by_one_are_found_and_not_identified():
    scores = score(spine(2, 3, 4), spine(1, 2, 3))["instances"]
    assert scores.panoptic_quality == 1.0
    assert (scores.identification_rate, scores.identified) == (0.0, 0)
    # 14 rows of 2 mm from one vertebra to the next.
    assert scores.centroid_distance_mm == pytest.approx(28.0)


def test_a_centroid_20_mm_away_is_no_identification_and_one_just_nearer_is():
    for shift, identified in ((9, 1.0), (10, 0.0)):
        assert score(spine(1, shift=shift), spine(1))["instances"].identification_rate == identified


def test_a_nearer_centroid_of_another_level_takes_the_identification():
    reference, prediction = spine(1), spine(1, shift=6)
    prediction[:, 2:8, 2:10] = 2  # nearer to where 1 belongs
    scores = score(prediction, reference)["instances"]
    assert scores.centroid_distance_mm < 20
    assert scores.identified == 0


def test_missed_levels_count_against_the_rate():
    assert score(spine(1, 2), spine(1, 2, 3, 4))["instances"].identification_rate == 0.5


def test_distances_follow_the_spacing_of_every_axis():
    reference, prediction = np.zeros((9, 9, 9), int), np.zeros((9, 9, 9), int)
    reference[1, 1, 1] = prediction[2, 3, 5] = 1
    expected = np.hypot(np.hypot(4.0, 2 * 2.0), 4 * 1.0)
    assert score(prediction, reference)["instances"].centroid_distance_mm == pytest.approx(expected)


def test_connected_parts_are_instances_whatever_they_are_called():
    merged = np.minimum(spine(1, 1, 1), 1)
    groups = InstanceGroups({"vertebra": frozenset({1})}, components=True)
    scores = score_instances(merged, merged, spacing_mm=SPACING, groups=groups)["vertebra"]
    assert (scores.reference_instances, scores.panoptic_quality) == (3, 1.0)
    assert "identification_rate" not in groups.metrics


def test_stray_voxels_are_no_instances_of_a_volume_and_are_counted():
    reference = np.minimum(spine(1, 1), 1)
    prediction = reference.copy()
    prediction[:, 50:52, 2:6] = 1  # 24 voxels of 8 mm3: 0.19 ml
    prediction[1, 56, 2:10] = prediction[1, 58, 2] = 1  # 0.064 and 0.008 ml
    scores = score(prediction, reference, "components")["L5"]
    assert (scores.predicted_instances, scores.matched, scores.predicted_specks) == (3, 2, 2)
    assert (scores.reference_specks, scores.identified) == (0, None)
    assert score(prediction[1:2], reference[1:2], "components")["L5"].predicted_instances == 5


def test_parts_that_touch_at_an_edge_alone_are_two():
    mask = np.zeros((1, 4, 4), int)
    mask[0, :2, :2] = mask[0, 2:, 2:] = 1
    assert score(mask, mask, "components")["L5"].reference_instances == 2


def test_a_bridge_between_two_vertebrae_makes_them_one_and_costs_both():
    reference = np.minimum(spine(1, 1), 1)
    prediction = reference.copy()
    prediction[:, 12:16, 5] = 1
    scores = score(prediction, reference, "components")["L5"]
    assert (scores.predicted_instances, scores.matched, scores.panoptic_quality) == (1, 0, 0.0)


@pytest.mark.parametrize(
    ("prediction", "reference", "quality", "rate"),
    [(spine(), spine(1), 0.0, 0.0), (spine(1), spine(), 0.0, 0.0), (spine(), spine(), 1.0, 1.0)],
    ids=["missed", "invented", "neither"],
)
def test_empty_masks_follow_the_policy(prediction, reference, quality, rate):
    scores = score(prediction, reference)["instances"]
    assert (scores.panoptic_quality, scores.recognition_quality, scores.identification_rate) == (quality, quality, rate)
    assert np.isnan([scores.segmentation_quality, scores.centroid_distance_mm]).all()


def test_no_instance_on_either_side_enters_no_mean_where_the_policy_leaves_it_out():
    scores = score(spine(), spine(), policy=LEAVE_ABSENT_OUT)["instances"]
    assert np.isnan([scores.panoptic_quality, scores.identification_rate]).all()


def test_ids_outside_every_group_are_background():
    groups = instance_groups("vertebra=1-2,disc=201-225", LABELS)
    assert groups.ids == {1, 2, *range(201, 226)}
    scores = score_instances(spine(1, 9), spine(1, 7), spacing_mm=SPACING, groups=groups)
    assert (scores["vertebra"].reference_instances, scores["vertebra"].panoptic_quality) == (1, 1.0)
    assert scores["disc"].facts["presence"] == "in neither"


@pytest.mark.parametrize("text", ["", "parts", "a=", "a=0-3", "a=3-1", "a=1-x", "a=1,a=2", "a=1-5,b=5-9"])
def test_text_that_names_no_groups_is_refused(text):
    with pytest.raises(DataError):
        instance_groups(text, LABELS)


def test_masks_of_different_shapes_are_refused():
    with pytest.raises(DataError):
        score(spine(1)[:2], spine(1))
