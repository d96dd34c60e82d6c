"""What rounding explains is allowed, at a few pixels or at all; what moves more than that is not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.export.test_single_pass import single_pass_config
from tests.train.toy import toy_config
from verdiff.export.checks import AgreementCheck, within_rounding
from verdiff.export.golden import phantom, torch_reference
from verdiff.export.rounding import rounding
from verdiff.export.spread import (
    ALLOWANCE,
    CALM,
    HALF_TOLERANCE,
    HALF_WORST,
    MEAN_TOLERANCE,
    MOST,
    MOST_MEAN,
    TOLERANCE,
    TOLERANCES,
    Spread,
)
from verdiff.train.building import build_network
from verdiff.train.networks import SegmentationModel

IMAGE = phantom(24, 16)


@pytest.fixture
def net() -> SegmentationModel:
    torch.manual_seed(0)
    return build_network(toy_config(), 2).eval()


def spread_of(net: SegmentationModel) -> dict[str, Spread]:
    config = toy_config()
    table = config.sampling.table(config.process.build())
    return rounding(net, config, table, IMAGE, torch_reference(net, config, table, IMAGE))


def failed(ours: np.ndarray, theirs: np.ndarray, spread: Spread = CALM) -> list[str]:
    return [check.name for check in within_rounding("onnxruntime", "prior", ours, theirs, spread) if not check.passed]


def test_a_calm_network_is_held_to_the_plain_limit(net: SegmentationModel) -> None:
    spread = spread_of(net)
    assert spread.keys() == {"prior", "denoiser", "loop"}
    assert all(0 < each.mean < each.worst < TOLERANCE / ALLOWANCE for each in spread.values())
    assert {each.allows("onnxruntime") for each in spread.values()} == {TOLERANCE}
    assert {each.allows("openvino") for each in spread.values()} == {TOLERANCES["openvino"]}
    assert {each.allows_mean for each in spread.values()} == {MEAN_TOLERANCE}


def test_a_network_that_magnifies_rounding_is_given_what_it_does_to_pytorch(net: SegmentationModel) -> None:
    calm = spread_of(net)["prior"]
    with torch.no_grad():
        # Every layer's answer is larger, so is what rounding does to it.
        for parameter in net.prior.parameters():
            parameter.mul_(4.0)
    wild = spread_of(net)["prior"]
    assert wild.worst > calm.worst
    assert Spread(1e-3, 2e-5).allows("onnxruntime") == ALLOWANCE * 1e-3
    assert Spread(1e-3, 2e-5).allows_mean == ALLOWANCE * 2e-5
    assert Spread(1.0, 1.0).allows("onnxruntime") == Spread(1.0, 1.0).allows("openvino") == MOST
    assert Spread(1.0, 1.0).allows_mean == MOST_MEAN


def test_what_rounding_to_fp16_moves_is_allowed_whatever_it_is() -> None:
    """The gate has judged the mask by then, and graphs that passed it are not to fail by a pixel of theirs."""
    assert Spread(0.0, 0.0, half=True).allows("openvino") == HALF_TOLERANCE
    assert Spread(0.0, 0.0, half=True).allows_mean == MEAN_TOLERANCE
    assert Spread(0.1, 1e-3, half=True).allows("onnxruntime") == HALF_WORST * 0.1
    assert Spread(0.1, 1e-3, half=True).allows_mean == ALLOWANCE * 1e-3


def test_the_same_network_in_float64_leaves_the_one_it_was_copied_from_alone(net: SegmentationModel) -> None:
    spread_of(net)
    assert {parameter.dtype for parameter in net.parameters()} == {torch.float32}


def test_one_pixel_beyond_the_limit_fails_and_within_what_rounding_explains_passes() -> None:
    theirs = np.zeros((2, 2, 64, 64), np.float32)
    ours = theirs.copy()
    ours[0, 0, 3, 3] = 2 * 5e-4
    assert failed(ours, theirs) == ["onnxruntime prior"]
    assert failed(ours, theirs, Spread(3e-4, 0.0)) == []


def test_a_little_everywhere_fails_whatever_rounding_does_to_one_pixel() -> None:
    theirs = np.zeros((2, 2, 64, 64), np.float32)
    ours = theirs + np.float32(2 * 5e-5)
    assert failed(ours, theirs) == failed(ours, theirs, Spread(1.0, 1e-5)) == ["onnxruntime prior, mean"]
    assert failed(ours, theirs, Spread(1.0, 3e-5)) == []


def test_a_value_that_is_no_number_fails() -> None:
    theirs = np.zeros((1, 1, 4, 4), np.float32)
    assert failed(theirs * np.nan, theirs, Spread(1.0, 1.0)) == ["onnxruntime prior", "onnxruntime prior, mean"]
    assert not AgreementCheck("mean", float("nan"), MEAN_TOLERANCE).passed


def test_a_model_of_one_pass_is_measured_in_float64_too(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    unet = build_network(single_pass_config(), 2).eval()
    image = phantom(48, 32)
    reference = torch_reference(unet, single_pass_config(), None, image)
    # Two layouts that agree, as those of a network without convolutions do.
    monkeypatch.setattr(torch, "channels_last", torch.contiguous_format)
    spread = rounding(unet, single_pass_config(), None, image, reference)
    assert spread.keys() == {"prior"}
    assert 0 < spread["prior"].worst < TOLERANCE
