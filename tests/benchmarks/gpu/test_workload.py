"""Every rival works on the same slices with the same noise, and masks are compared structure by structure."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.runtime.tiny_bundle import NumpyBackend, write_tiny
from verdiff.benchmarks.gpu.workload import Workload, mean_dice
from verdiff.bundle import open_bundle
from verdiff.diffusion import fuse_mean, noise_source, run_loop
from verdiff.errors import DataError
from verdiff.runtime import Segmenter
from verdiff.runtime.host_executor import HostExecutor
from verdiff.runtime.loaded import LoadedModel
from verdiff.runtime.provenance import describe_model


def test_the_scan_has_the_size_that_was_asked_for_and_is_not_resampled(workload: Workload) -> None:
    plan = workload.plan
    assert workload.images.shape == (3, 1, 40, 28)
    assert (plan.scan_rows, plan.scan_cols) == (plan.model_rows, plan.model_cols) == (40, 28)
    assert len({image.tobytes() for image in workload.images}) == 3


def test_slices_and_noise_are_what_the_runtime_itself_uses(workload: Workload) -> None:
    """The tiny networks on these arrays give the mask that the Segmenter gives of the scan."""
    bundle, backend = workload.bundle, NumpyBackend()
    segmenter = Segmenter(LoadedModel(bundle.manifest, HostExecutor(backend), True, describe_model(bundle)))
    result = segmenter.segment(workload.scan, steps=3, samples=2, seed=workload.seed, force=True)
    prior, features = backend.prior(workload.images)
    samples = [
        run_loop(
            lambda x, t: backend.denoise(x, t, prior, features),
            workload.table,
            prior,
            lambda step, sample=sample: workload.noise(sample, step),
        )
        for sample in range(2)
    ]
    probabilities = fuse_mean(np.stack(samples)).probabilities
    ids = np.array([0, *bundle.manifest.label_ids.values()], np.uint8)
    labels = ids[np.where(probabilities.max(1) > 0.5, probabilities.argmax(1) + 1, 0)]
    # The runtime keeps probabilities as float16, so a pixel at the border may fall to the other side.
    assert np.mean(workload.planes_of(result.labels) == labels) > 0.995


def test_noise_is_that_of_the_slice_the_sample_and_the_step(workload: Workload) -> None:
    source = noise_source(workload.seed, slices=[2], samples=[1], shape=(3, 40, 28))
    np.testing.assert_array_equal(workload.noise(1, 0)[2:], source(0))


def test_a_size_the_model_does_not_take_is_refused(workload: Workload) -> None:
    with pytest.raises(DataError, match="slices of 41 x 28"):
        replace(workload, size=(41, 28))


def test_a_model_without_a_denoiser_is_refused(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DataError, match="no denoiser"):
        Workload(open_bundle(write_tiny(tmp_path / "prior.verdiff", denoiser=False)))


def test_dice_is_the_mean_over_structures_and_absent_in_both_is_agreement() -> None:
    a = np.array([[1, 1, 2, 0]], np.uint8)
    b = np.array([[1, 0, 2, 0]], np.uint8)
    assert mean_dice(a, a, [1, 2, 7]) == 1.0
    assert mean_dice(a, b, [1, 2]) == pytest.approx((2 / 3 + 1) / 2)
    assert mean_dice(a, np.zeros_like(a), [1]) == 0.0
