"""PyTorch's side of the comparison: the run's own weights, or the same network untrained, or a clear no."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from tests.runtime.tiny_bundle import tiny_manifest
from tests.train.toy import toy_config
from verdiff.benchmarks import torch_rival
from verdiff.benchmarks.torch_rival import StepInputs, torch_step_factory
from verdiff.bundle import Feature, Label, Manifest
from verdiff.errors import DataError
from verdiff.train.checkpoint import Checkpoint, RunFacts, write_checkpoint
from verdiff.train.networks import VerdiffNet
from verdiff.train.prediction import X0Denoiser

pytestmark = pytest.mark.usefixtures("threads_as_before")


@dataclass
class BundleOf:
    """As much of a bundle as the rival looks at."""

    manifest: Manifest


@pytest.fixture
def net() -> VerdiffNet:
    torch.manual_seed(3)
    return VerdiffNet(2, toy_config().network).eval().requires_grad_(False)


@pytest.fixture
def training_run(tmp_path, net):
    facts = RunFacts("toy", ("vertebra", "disc"), (1, 2), 0, {}, ())
    state = net.state_dict()
    write_checkpoint(tmp_path / "best.pt", Checkpoint(toy_config(), facts, state, state, {}, 1, 0.0, 0.0, 0))
    return tmp_path


def bundle_of(features: dict[int, int]) -> BundleOf:
    listed = tuple(Feature(f"feature_{i}", width, stride) for i, (stride, width) in enumerate(sorted(features.items())))
    return BundleOf(tiny_manifest(model_id="toy", labels=(Label(1, "vertebra"), Label(2, "disc")), features=listed))


def inputs_for(features: dict[int, int]) -> StepInputs:
    rng = np.random.default_rng(0)

    def maps(channels: int, stride: int = 1) -> np.ndarray:
        return rng.standard_normal((1, channels, 32 // stride, 24 // stride)).astype(np.float32)

    return StepInputs(maps(2), 500, maps(2), tuple(maps(width, stride) for stride, width in sorted(features.items())))


def test_the_run_s_weights_give_the_run_s_answer_in_either_layout(training_run, net):
    features = toy_config().network.features
    inputs = inputs_for(features)
    rival = torch_step_factory(bundle_of(features), training_run, 1)  # type: ignore[arg-type]
    process = toy_config().process
    expected = X0Denoiser(net.denoiser, process.build(), process.prediction)(
        *(torch.from_numpy(array) for array in (inputs.x, np.array([500.0], np.float32), inputs.prior)),
        *map(torch.from_numpy, inputs.features),
    ).numpy()
    assert rival.same_weights
    for channels_last in (False, True):
        np.testing.assert_allclose(rival.step(inputs, channels_last)(), expected, atol=1e-5)


def test_one_layout_does_not_change_the_other(training_run):
    features = toy_config().network.features
    rival = torch_step_factory(bundle_of(features), training_run, 1)  # type: ignore[arg-type]
    plain = rival.step(inputs_for(features), False)
    before = plain()
    rival.step(inputs_for(features), True)()
    assert np.array_equal(plain(), before)


def test_without_a_run_the_shipped_configuration_s_network_stands_in(monkeypatch):
    features = toy_config().network.features
    monkeypatch.setattr("verdiff.train.config.load_config", lambda name: {"toy": toy_config()}[name])
    rival = torch_step_factory(bundle_of(features), None, 1)  # type: ignore[arg-type]
    assert not rival.same_weights
    assert rival.step(inputs_for(features), False)().shape == (1, 2, 32, 24)


def test_a_network_that_is_not_the_bundle_s_is_refused(training_run):
    with pytest.raises(DataError, match="where the bundle states"):
        torch_step_factory(bundle_of({1: 3}), training_run, 1)  # type: ignore[arg-type]


def test_torch_is_imported_only_where_the_rival_is_built():
    assert "torch" not in vars(torch_rival)
