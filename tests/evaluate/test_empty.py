"""The policy for empty masks is a complete table, and a missed structure is never skipped."""

from __future__ import annotations

import math

import numpy as np
import pytest

from verdiff.evaluate.empty import (
    INSTANCE_METRICS,
    LEAVE_ABSENT_OUT,
    METRICS,
    POLICIES,
    STRICT,
    Meaning,
    Presence,
    image_diagonal_mm,
    value_without_overlap,
)
from verdiff.evaluate.metrics import score_case

EMPTY = np.zeros((2, 3, 6), dtype=np.uint8)
FULL = np.pad(np.ones((1, 1, 1), dtype=np.uint8), [(0, 1), (1, 1), (2, 3)])
SPACING = (1.0, 1.0, 1.0)
DIAGONAL = 7.0  # sqrt(2 * 2 + 3 * 3 + 6 * 6)


def test_every_policy_says_something_about_every_metric_and_every_empty_mask():
    wanted = {Presence.MISSED, Presence.INVENTED, Presence.NEITHER}
    assert all(
        {metric: set(meanings) for metric, meanings in policy.items()}
        == dict.fromkeys((*METRICS, *INSTANCE_METRICS), wanted)
        for policy in POLICIES.values()
    )


@pytest.mark.parametrize(
    ("reference", "prediction", "presence"),
    [(5, 5, Presence.BOTH), (5, 0, Presence.MISSED), (0, 5, Presence.INVENTED), (0, 0, Presence.NEITHER)],
)
def test_presence_follows_from_the_two_counts(reference, prediction, presence):
    assert Presence.of(reference, prediction) is presence


def test_the_diagonal_goes_from_outer_edge_to_outer_edge():
    assert image_diagonal_mm((10, 30, 20), (0.6, 0.2, 0.6)) == pytest.approx(math.sqrt(36 + 36 + 144))


@pytest.mark.parametrize(("prediction", "reference"), [(EMPTY, FULL), (FULL, EMPTY)], ids=["missed", "invented"])
def test_a_structure_in_one_mask_only_scores_the_worst_values(prediction, reference):
    score = score_case(prediction, reference, spacing_mm=SPACING, label_ids={"disc": 1})["disc"]
    assert (score.dice, score.iou, score.hd95_mm, score.assd_mm) == (0.0, 0.0, DIAGONAL, DIAGONAL)
    assert (score.surface_dice_1mm, score.surface_dice_2mm, score.volume_error) == (0.0, 0.0, 2.0)


def test_a_structure_rightly_absent_scores_the_best_values_under_the_strict_policy():
    score = score_case(EMPTY, EMPTY, spacing_mm=SPACING, label_ids={"disc": 1}, policy=STRICT)["disc"]
    assert (score.dice, score.iou, score.hd95_mm, score.assd_mm) == (1.0, 1.0, 0.0, 0.0)
    assert (score.surface_dice_1mm, score.surface_dice_2mm, score.volume_error) == (1.0, 1.0, 0.0)
    assert score.presence is Presence.NEITHER


def test_a_structure_rightly_absent_is_undefined_where_the_policy_leaves_it_out():
    score = score_case(EMPTY, EMPTY, spacing_mm=SPACING, label_ids={"disc": 1}, policy=LEAVE_ABSENT_OUT)["disc"]
    assert np.isnan([getattr(score, metric) for metric in METRICS]).all()


def test_no_measured_distance_exceeds_the_worst_value():
    corners = np.zeros((2, 4, 5, 6), dtype=np.uint8)
    corners[0, 0, 0, 0] = corners[1, -1, -1, -1] = 1
    score = score_case(corners[0], corners[1], spacing_mm=(4.0, 1.0, 0.5), label_ids={"disc": 1})["disc"]
    assert score.hd95_mm <= image_diagonal_mm((4, 5, 6), (4.0, 1.0, 0.5))


def test_a_policy_of_ones_own_is_followed():
    policy = {name: dict.fromkeys(Presence, Meaning.UNDEFINED) for name in METRICS}
    assert math.isnan(value_without_overlap("dice", Presence.MISSED, diagonal_mm=1.0, policy=policy))
