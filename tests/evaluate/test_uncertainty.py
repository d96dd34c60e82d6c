"""Calibration error and error detection, against brute force and against models whose calibration is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from verdiff.errors import DataError
from verdiff.evaluate.decision import decisions
from verdiff.evaluate.scoring import Measures, ScoredCase, score_cases
from verdiff.evaluate.temperature import temperatures
from verdiff.evaluate.uncertainty import (
    ALL_LABELS,
    error_auroc,
    region_near,
    reliability,
    score_uncertainty,
)

SPACING = (2.0, 1.0, 0.5)


def test_the_calibration_error_of_three_voxels_by_hand():
    # Bins of width 1/2: {0.1, 0.4} of which none came true, {0.9} which did.
    found = reliability(np.array([0.1, 0.4, 0.9]), np.array([False, False, True]), bins=2)
    assert (found.voxels, found.observed) == ((2, 1), (0, 1))
    assert found.stated == pytest.approx((0.5, 0.9))
    assert found.error == pytest.approx((0.5 + 0.1) / 3)


def test_a_calibrated_model_has_no_error_and_an_overconfident_one_its_excess():
    rng = np.random.default_rng(0)
    truth = rng.random(200_000)
    came_true = rng.random(truth.size) < truth
    assert reliability(truth, came_true).error < 0.01
    often = rng.random(truth.size) < 0.7
    assert reliability(np.full(truth.size, 0.95), often).error == pytest.approx(0.25, abs=0.005)


def test_probabilities_of_zero_and_one_belong_to_the_outer_bins():
    found = reliability(np.array([0.0, 1.0, 1.0 + 1e-6]), np.array([False, True, True]))
    assert (found.voxels[0], found.voxels[-1], found.error) == (1, 2, 0.0)


@pytest.mark.parametrize("values", [[-3.0, 4.0], [0.5, math.nan], [], [0.5]])
def test_what_are_no_probabilities_of_these_voxels_is_refused(values):
    with pytest.raises(DataError):
        reliability(np.array(values), np.array([True, False])[: 2 if values else 0])


levels = st.lists(st.tuples(st.integers(0, 255), st.booleans()), min_size=2, max_size=60)


@settings(max_examples=60, deadline=None)
@given(levels)
def test_the_auroc_is_the_share_of_pairs_in_the_right_order(pairs):
    uncertainty, wrong = np.array([u for u, _ in pairs], np.uint8), np.array([w for _, w in pairs])
    failed, right = uncertainty[wrong].astype(int), uncertainty[~wrong].astype(int)
    found = error_auroc(uncertainty, wrong)
    if not failed.size or not right.size:
        assert math.isnan(found)
    else:
        order = np.sign(failed[:, None] - right[None])
        assert found == pytest.approx((0.5 * (order + 1)).mean())


def test_the_region_is_the_box_around_both_masks_and_10_mm_more():
    first, second = np.zeros((30, 60, 90), bool), np.zeros((30, 60, 90), bool)
    first[10, 20, 40] = second[12, 25, 85] = True
    assert region_near(first, second, SPACING) == (slice(5, 18), slice(10, 36), slice(20, 106))
    assert first[region_near(first & second, first & second, SPACING)].shape == first.shape


def two_structures() -> tuple[np.ndarray, np.ndarray]:
    reference = np.zeros((4, 16, 16), np.uint8)
    reference[:, 2:7, 2:7], reference[:, 9:14, 9:14] = 1, 2
    prediction = reference.copy()
    prediction[:, 2, 2:7] = 0  # a row of the first is missed
    prediction[:, 9:11, 9] = 1  # a bit of the second is called the first
    return prediction, reference


def certain(prediction: np.ndarray, label: int) -> np.ndarray:
    return (prediction == label).astype(np.float32)


def test_a_certain_model_has_the_share_of_its_errors_as_calibration_error():
    prediction, reference = two_structures()
    ids = {"vertebra": 1, "disc": 2}
    scores = score_uncertainty(
        prediction,
        reference,
        np.where(prediction != reference, 9, 0).astype(np.uint8),
        spacing_mm=SPACING,
        label_ids=ids,
        probability=lambda name: certain(prediction, ids[name]),
    )
    for name, label in ids.items():
        wrong = (prediction == label) != (reference == label)
        assert scores[name].wrong_voxels == wrong.sum()
        assert scores[name].ece == pytest.approx(wrong.mean())
    wrong = prediction != reference
    assert scores[ALL_LABELS].ece == pytest.approx(wrong.mean())
    assert (scores[ALL_LABELS].wrong_voxels, scores[ALL_LABELS].error_auroc) == (wrong.sum(), 1.0)
    assert scores[ALL_LABELS].facts["reliability"]["voxels"][-1] == wrong.size


def test_the_likeliest_label_has_its_share_of_all_labels_and_background():
    label = np.ones((1, 2, 2), np.uint8)
    stated = {"vertebra": 0.6, "disc": 0.3}
    found = score_uncertainty(
        label,
        label,
        np.zeros_like(label),
        spacing_mm=SPACING,
        label_ids={"vertebra": 1, "disc": 2},
        probability=lambda name: np.full(label.shape, stated[name]),
    )[ALL_LABELS].reliability
    # Background has what the likeliest leaves, 0.4; of 0.6 + 0.3 + 0.4 the vertebra has 0.6.
    assert sum(found.stated) == pytest.approx(4 * 0.6 / 1.3)


def test_without_probabilities_there_is_error_detection_alone():
    prediction, reference = two_structures()
    scores = score_uncertainty(
        prediction, reference, np.zeros_like(reference), spacing_mm=SPACING, label_ids={"vertebra": 1}
    )
    assert math.isnan(scores["vertebra"].ece)
    assert scores["vertebra"].error_auroc == 0.5
    # A disc that nobody asked for is background, in the prediction and in the reference.
    assert scores[ALL_LABELS].wrong_voxels == scores["vertebra"].wrong_voxels


def ignoring(reference: np.ndarray, everything: bool = False) -> np.ndarray:
    """The reference with the id 9, "ignore", on the right half of the first structure, or everywhere."""
    marked = reference.copy()
    marked[:, 2:7, 5:9] = 9
    return np.full_like(reference, 9) if everything else marked


@pytest.mark.parametrize("seed", [0, 1])
def test_voxels_to_ignore_count_neither_as_right_nor_as_wrong(seed: int):
    prediction, reference = two_structures()
    ids, marked = {"vertebra": 1, "disc": 2}, ignoring(reference)
    anything, there = np.random.default_rng(seed), marked == 9
    shown = np.where(there, anything.integers(0, 3, marked.shape), prediction).astype(np.uint8)
    unsure = np.where(there, anything.integers(0, 256, marked.shape), prediction != reference).astype(np.uint8)
    case = ScoredCase(
        "a", shown, marked, SPACING, unsure, lambda name: np.where(there, anything.random(), prediction == ids[name])
    )
    table = score_cases([case], ids, Measures(distances=False, uncertainty=True, ignore=9)).uncertainty
    assert table is not None
    wrong = (prediction != reference)[~there]
    facts = table.facts["a"][ALL_LABELS]
    assert (facts["voxels"], facts["wrong_voxels"]) == (wrong.size, wrong.sum())
    assert table.value("a", ALL_LABELS, "ece") == pytest.approx(wrong.mean())
    assert table.value("a", ALL_LABELS, "error_auroc") == 1.0


def test_a_case_of_which_nothing_is_known_has_no_uncertainty_scores():
    prediction, reference = two_structures()
    case = ScoredCase(
        "a", prediction, ignoring(reference, everything=True), SPACING, np.zeros_like(reference),
        lambda name: certain(prediction, 1),
    )  # fmt: skip
    table = score_cases([case], {"vertebra": 1}, Measures(distances=False, uncertainty=True, ignore=9)).uncertainty
    assert table is not None
    assert math.isnan(table.value("a", "vertebra", "ece")) and math.isnan(table.value("a", ALL_LABELS, "error_auroc"))
    assert temperatures(table) == {} and decisions(table) == {}


def test_an_uncertainty_that_is_no_map_of_the_case_is_refused():
    prediction, reference = two_structures()
    for uncertainty in (np.zeros((4, 16, 15), np.uint8), np.zeros(reference.shape, np.float32)):
        with pytest.raises(DataError, match="8 bits"):
            score_uncertainty(prediction, reference, uncertainty, spacing_mm=SPACING, label_ids={"vertebra": 1})
