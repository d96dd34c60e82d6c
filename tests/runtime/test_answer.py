"""An answer on the model's grid and its way back into the scan's own array, however the work is spread."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.imaging.make import ORIENTATIONS
from tests.runtime.scans import mr_scan, numpy_segmenter
from verdiff.diffusion import background_and_labels, fuse_mean
from verdiff.imaging import Geometry, SlicePlan, plan_slices
from verdiff.runtime import answer as module
from verdiff.runtime.answer import Answer, restore, restore_uncertainty

IDS = np.array([0, 1, 2, 7], np.uint8)


def known(plan: SlicePlan, samples: int = 1) -> Answer:
    shape = samples, plan.slices, 3, plan.padded_rows, plan.padded_cols
    x0hat = np.tanh(3 * np.random.default_rng(0).normal(size=shape)).astype(np.float32)
    answer = Answer.empty(plan.slices, *shape[2:], samples=samples)
    answer.put(slice(0, plan.slices), fuse_mean(x0hat), steps=2, samples=samples)
    return answer


def kept(answer: Answer) -> list[NDArray[np.float32]]:
    return [answer.probabilities.get(index) for index in range(answer.probabilities.slices)]


def plan_of(direction: tuple[float, ...]) -> SlicePlan:
    return plan_slices(
        Geometry((7, 9, 8), (1.0, 1.5, 2.0), (0.0, 0.0, 0.0), direction), view="sagittal", spacing_mm=1.2
    )


@pytest.mark.parametrize("direction", ORIENTATIONS[::5])
def test_labels_and_uncertainty_lie_where_the_slices_were_taken_from(
    direction: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(direction)
    answer = known(plan)
    whole = [plan.from_model(maps[None])[0] for maps in kept(answer)]
    expected = np.stack([IDS[background_and_labels(maps)] for maps in whole])
    for block in (1, 1 << 20):
        monkeypatch.setattr(module, "_BLOCK_BYTES", block)
        labels = restore(answer, plan, IDS)
        assert labels.shape == plan.source_shape
        assert np.array_equal(plan.extract(labels), expected)
        assert restore_uncertainty(answer, plan).shape == plan.source_shape


def test_workers_do_not_change_a_bit() -> None:
    plan = plan_of(ORIENTATIONS[7])
    answer = known(plan)
    with ThreadPoolExecutor(3) as workers:
        assert np.array_equal(restore(answer, plan, IDS, workers.map), restore(answer, plan, IDS))


def test_uncertainty_is_the_entropy_of_the_probabilities_kept() -> None:
    from verdiff.diffusion import entropy_uncertainty

    plan = plan_of(ORIENTATIONS[0])
    answer = known(plan)
    planes = [plan.from_model(entropy_uncertainty(maps)[None, None])[0, 0] for maps in kept(answer)]
    found = plan.extract(restore_uncertainty(answer, plan))
    np.testing.assert_allclose(found, 255 * np.stack(planes), atol=0.5001)


def test_the_spread_is_kept_where_there_are_samples_to_differ() -> None:
    plan = plan_of(ORIENTATIONS[0])
    assert known(plan).spread is None
    several = known(plan, samples=3).spread
    assert several is not None and several.get(0).max() > 0.1
    segmenter = numpy_segmenter()
    assert not segmenter.segment(mr_scan(), samples=1).spread().any()
    assert segmenter.segment(mr_scan(), samples=2).spread().any()


def test_a_copy_does_not_change_with_the_answer() -> None:
    plan = plan_of(ORIENTATIONS[0])
    answer = known(plan, samples=2)
    copy = answer.copy()
    before = kept(copy)
    certain: NDArray[np.float32] = np.ones((1, 1, 3, plan.padded_rows, plan.padded_cols), np.float32)
    answer.put(slice(2, 3), fuse_mean(certain), steps=9, samples=1)
    assert all(np.array_equal(now, was) for now, was in zip(kept(copy), before, strict=True))
    assert answer.probabilities.get(2).all()
    assert (copy.steps[2], answer.steps[2]) == (2, 9)


def test_only_the_slices_that_are_marked_are_replaced() -> None:
    plan = plan_of(ORIENTATIONS[0])
    answer = known(plan)
    before = kept(answer)
    certain: NDArray[np.float32] = np.ones((1, 3, 3, plan.padded_rows, plan.padded_cols), np.float32)
    answer.put(slice(1, 4), fuse_mean(certain), steps=5, samples=1, only=np.array([False, True, False]))
    changed = [not np.array_equal(now, was) for now, was in zip(kept(answer), before, strict=True)]
    assert np.flatnonzero(changed).tolist() == [2] == np.flatnonzero(answer.steps == 5).tolist()


def gaussian_mean(values: NDArray[np.float32], index: int, spacing: float, sigma: float) -> NDArray[np.float32]:
    """Slice ``index`` of maps [slices, ...] averaged with its neighbours, in one loop."""
    total, weights = np.zeros(values.shape[1:]), 0.0
    for other, plane in enumerate(values):
        distance = spacing * abs(other - index)
        if distance <= 2 * sigma:
            weight = np.exp(-(distance**2) / (2 * sigma**2))
            total, weights = total + weight * plane, weights + weight
    return (total / weights).astype(np.float32)


@pytest.mark.parametrize(("spacing", "sigma"), [(1.0, 0.6), (0.9, 1.5), (4.0, 2.5)])
def test_smoothing_averages_over_neighbouring_slices_by_their_distance(spacing: float, sigma: float) -> None:
    answer = known(plan_of(ORIENTATIONS[0]), samples=2)
    before = np.stack(kept(answer))
    smoothed = answer.smoothed(spacing, sigma)
    for index, maps in enumerate(kept(smoothed)):
        np.testing.assert_allclose(maps, gaussian_mean(before, index, spacing, sigma), atol=1e-6)
    assert np.array_equal(np.stack(kept(answer)), before)
    assert smoothed.spread is answer.spread and smoothed.steps is answer.steps


def test_what_is_put_later_is_not_in_a_smoothed_answer() -> None:
    answer = known(plan_of(ORIENTATIONS[0]))
    smoothed = answer.smoothed(1.0, 1.0)
    before = kept(smoothed)
    answer.put(slice(0, 1), fuse_mean(np.ones((1, 1, *answer.probabilities.shape), np.float32)), steps=1, samples=1)
    assert all(np.array_equal(one, other) for one, other in zip(kept(smoothed), before, strict=True))


@pytest.mark.parametrize(("slices", "spacing", "sigma"), [(5, 1.0, 0.0), (1, 1.0, 3.0)])
def test_without_neighbours_nothing_is_smoothed(slices: int, spacing: float, sigma: float) -> None:
    answer = Answer.empty(slices, 3, 4, 4)
    assert answer.smoothed(spacing, sigma) is answer


def test_neighbours_too_far_away_change_no_bit() -> None:
    answer = known(plan_of(ORIENTATIONS[0]))
    smoothed = answer.smoothed(4.0, 1.5)
    assert all(np.array_equal(one, other) for one, other in zip(kept(smoothed), kept(answer), strict=True))
