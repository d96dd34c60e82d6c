"""Fusion, labels and uncertainty against their definitions in float64, and at the edges of [0, 1]."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from verdiff import choices
from verdiff.diffusion import FUSIONS, background_and_labels, entropy_uncertainty, fuse, fuse_mean, fuse_steps
from verdiff.errors import VerdiffError

# Values where equality and logarithms are delicate, besides any others.
probability = st.one_of(st.sampled_from([0.0, 0.5, 1.0, 1e-30]), st.floats(0, 1, width=32))
probabilities = st.integers(1, 4).flatmap(lambda k: arrays(np.float32, (2, k, 3, 4), elements=probability))


def x0hats(*shape: int) -> Any:
    return np.tanh(2 * np.random.default_rng(0).normal(size=shape)).astype(np.float32)


@given(probabilities)
def test_labels_are_the_argmax_over_background_and_the_classes(p: Any) -> None:
    background = 1.0 - p.max(axis=1, keepdims=True)
    expected = np.concatenate([background, p], axis=1).argmax(axis=1)
    labels = background_and_labels(p)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, expected)


def test_one_channel_is_a_threshold_at_one_half() -> None:
    p = np.array([0.0, 0.49999997, 0.5, 0.50000006, 1.0], dtype=np.float32).reshape(1, 1, 5)
    assert background_and_labels(p).tolist() == [[0, 0, 0, 1, 1]]


def test_labels_take_any_leading_axes_and_leave_their_input_alone() -> None:
    p = (x0hats(2, 3, 4, 5, 6) + 1) / 2
    before = p.copy()
    labels = background_and_labels(p)
    assert labels.shape == (2, 3, 5, 6)
    np.testing.assert_array_equal(labels[1, 2], background_and_labels(p[1, 2]))
    np.testing.assert_array_equal(p, before)


@given(probabilities)
def test_uncertainty_is_the_scaled_entropy_of_the_normalised_classes(p: Any) -> None:
    every = np.concatenate([1 - p.max(axis=1, keepdims=True), p], axis=1).astype(np.float64)
    q = every / every.sum(axis=1, keepdims=True)
    terms = np.where(q > 0, q * np.log(np.where(q > 0, q, 1)), 0)
    uncertainty = entropy_uncertainty(p)
    assert uncertainty.dtype == np.float32
    assert uncertainty.min() >= 0.0
    assert uncertainty.max() <= 1.0
    np.testing.assert_allclose(uncertainty, -terms.sum(axis=1) / np.log(p.shape[1] + 1), atol=2e-6)


@pytest.mark.parametrize("k", [1, 3])
def test_certain_masks_have_no_uncertainty_and_even_ones_have_all_of_it(k: int) -> None:
    certain = np.zeros((k, 1, 2), dtype=np.float32)
    certain[0, 0, 1] = 1.0
    assert entropy_uncertainty(certain).tolist() == [[0.0, 0.0]]
    np.testing.assert_allclose(entropy_uncertainty(np.full((k, 1, 1), 0.5)), 1.0, atol=1e-6)


def test_mean_fusion_is_the_mean_and_its_spread_the_standard_deviation() -> None:
    samples = x0hats(5, 2, 3, 4, 6)
    fused = fuse_mean(samples)
    p = (samples.astype(np.float64) + 1) / 2
    np.testing.assert_allclose(fused.probabilities, p.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(fused.spread, p.std(axis=0).max(axis=1), atol=1e-6)
    np.testing.assert_array_equal(fused.uncertainty, entropy_uncertainty(fused.probabilities))
    assert fused.spread.shape == fused.uncertainty.shape == (2, 4, 6)


def test_one_sample_is_itself_and_has_no_spread() -> None:
    samples = x0hats(1, 2, 3, 4, 6)
    fused = fuse_mean(samples)
    np.testing.assert_allclose(fused.probabilities, (samples[0] + 1) / 2, atol=1e-7)
    assert not fused.spread.any()


def test_a_slice_is_fused_alike_alone_and_in_a_batch() -> None:
    samples = x0hats(4, 3, 3, 4, 6)
    together, alone = fuse_mean(samples), fuse_mean(samples[:, 1:2])
    np.testing.assert_array_equal(together.probabilities[1], alone.probabilities[0])
    np.testing.assert_array_equal(together.uncertainty[1], alone.uncertainty[0])
    np.testing.assert_array_equal(together.spread[1], alone.spread[0])


def steps_by_definition(samples: Any, variant: str, late: int) -> Any:
    x = samples.astype(np.float64)
    steps = x.shape[1]
    total, weights = 0.0, 0.0
    for i in range(steps - late + 1, steps + 1):
        mean = x[:, i - 1].mean(axis=0)
        p = (mean + 1) / 2
        if variant == "published":
            u = -np.maximum(p, 0.001) * np.log(np.maximum(p, 0.001))
        else:
            u = -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
        weight = np.exp((1 - u) / (1 + np.exp(-i / steps)))
        total, weights = total + weight * mean, weights + weight
    return total, total / weights


@pytest.mark.parametrize(("variant", "late"), [("published", 5), ("normalised", 3)])
def test_steps_fusion_is_its_definition_with_the_documented_steps(variant: Any, late: int) -> None:
    samples = x0hats(4, 5, 2, 3, 4, 6)
    unnormalised, expected = steps_by_definition(samples, variant, late)
    fused = fuse_steps(samples, variant)
    np.testing.assert_allclose(fused.probabilities, (expected + 1) / 2, atol=1e-6)
    np.testing.assert_array_equal(fused.spread, fuse_mean(samples[:, -1]).spread)
    # The published code does not divide by the weights; no label changes.
    clear = np.abs(unnormalised) > 1e-3
    np.testing.assert_array_equal((fused.probabilities > 0.5)[clear], (unnormalised > 0)[clear])


def test_a_fusion_is_found_by_its_name_and_its_names_are_those_a_bundle_may_hold() -> None:
    samples = x0hats(3, 4, 2, 2, 3, 5)
    expected = {
        "mean": fuse_mean(samples[:, -1]),
        "steps": fuse_steps(samples),
        "steps-published": fuse_steps(samples, "published"),
    }
    assert tuple(expected) == FUSIONS == choices.MODEL_FUSIONS
    for name, fused in expected.items():
        np.testing.assert_array_equal(fuse(name, samples).probabilities, fused.probabilities)
        np.testing.assert_array_equal(fuse(name, samples).spread, fused.spread)


def test_the_number_of_late_steps_can_be_chosen() -> None:
    samples = x0hats(2, 5, 1, 2, 4, 6)
    _, expected = steps_by_definition(samples, "normalised", 2)
    np.testing.assert_allclose(fuse_steps(samples, late_steps=2).probabilities, (expected + 1) / 2, atol=1e-6)


@pytest.mark.parametrize("variant", ["normalised", "published"])
def test_steps_that_agree_fuse_to_what_they_say(variant: Any) -> None:
    answer = np.array([-1.0, -0.2, 0.0, 0.7, 1.0], dtype=np.float32)
    fused = fuse_steps(np.broadcast_to(answer, (3, 4, 1, 1, 1, 5)), variant)
    np.testing.assert_allclose(fused.probabilities[0, 0, 0], (answer + 1) / 2, atol=1e-6)
    assert np.isfinite(fused.uncertainty).all()


def test_the_surer_step_weighs_more_and_the_published_entropy_favours_foreground() -> None:
    sure_then_unsure = np.array([0.98, -0.2], dtype=np.float32).reshape(1, 2, 1, 1, 1, 1)
    for variant in ("normalised", "published"):
        both = fuse_steps(sure_then_unsure, variant, late_steps=2).probabilities  # type: ignore[arg-type]
        mirrored = fuse_steps(-sure_then_unsure, variant, late_steps=2).probabilities  # type: ignore[arg-type]
        bias = float(both.item() + mirrored.item()) - 1.0
        assert both.item() > 0.5 * (0.99 + 0.4)
        assert (bias > 0.005) if variant == "published" else (abs(bias) < 1e-6)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: fuse_mean(np.zeros((2, 3, 4, 5))), "x0hat of shape"),
        (lambda: fuse_mean(np.zeros((0, 1, 1, 4, 5))), "x0hat of shape"),
        (lambda: fuse_steps(np.zeros((2, 1, 3, 4, 5))), "x0hat of shape"),
        (lambda: fuse("mean", np.zeros((2, 1, 3, 4, 5))), "x0hat of shape"),
        (lambda: fuse("staple", np.zeros((2, 4, 1, 3, 4, 5))), "fusion 'staple'"),
        (lambda: fuse_steps(np.zeros((2, 4, 1, 3, 4, 5)), late_steps=5), "5 late steps of 4"),
        (lambda: fuse_steps(np.zeros((2, 4, 1, 3, 4, 5)), late_steps=0), "0 late steps of 4"),
        (lambda: fuse_steps(np.zeros((2, 4, 1, 3, 4, 5)), "staple"), "variant 'staple'"),  # type: ignore[arg-type]
    ],
)
def test_arrays_and_options_that_cannot_be_fused_are_refused(call: Any, words: str) -> None:
    with pytest.raises(VerdiffError, match=words):
        call()
