"""Validation of volumes: the whole of each is answered once, by fused windows, and scored."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.train.toy3d import PATCH, toy_config3d, toy_volume
from verdiff.imaging.windows import count_windows
from verdiff.train.data.cases import IGNORE
from verdiff.train.networks.model import PriorOutput, SegmentationModel
from verdiff.train.validate3d import probabilities_by_slice, validate3d


class ByBrightness(nn.Module):
    """Structure 1 is mid-bright, structure 2 bright; counts the windows it has seen."""

    def __init__(self, sharpness: float, bias: float) -> None:
        super().__init__()
        self.sharpness, self.bias = nn.Parameter(torch.tensor(sharpness)), bias
        self.windows = 0

    def forward(self, image: Tensor) -> PriorOutput:
        assert image.shape[1:] == (1, *PATCH)
        self.windows += len(image)
        mid = 0.3 - (image - 0.1).abs()
        return PriorOutput(self.sharpness * torch.cat([mid, image - 0.5], dim=1) + self.bias)


class Stub(SegmentationModel):
    def __init__(self, sharpness: float, bias: float = 0.0) -> None:
        super().__init__()
        self.classes, self.prior, self.denoiser = 2, ByBrightness(sharpness, bias), None


def test_every_voxel_is_answered_once_and_windows_do_not_show_in_what_is_pointwise() -> None:
    case, net = toy_volume("a", 0, (11, 70, 40)), Stub(4.0)
    parts = list(probabilities_by_slice(net, case, toy_config3d()))
    assert [index for part, _ in parts for index in range(part.start, part.stop)] == list(range(11))
    fused = np.concatenate([maps for _, maps in parts])
    image = torch.from_numpy(case.images.astype(np.float32))[:, None]
    mid = 0.3 - (image - 0.1).abs()
    wanted = torch.sigmoid(4.0 * torch.cat([mid, image - 0.5], dim=1)).numpy()
    assert fused.shape == wanted.shape and np.allclose(fused, wanted, atol=1e-5)
    assert net.prior.windows == count_windows((11, 70, 40), PATCH)


@pytest.mark.parametrize("shape", [(3, 30, 14), (4, 32, 16), (9, 50, 33)])
def test_a_network_that_is_right_scores_one_whatever_the_volumes_size(shape: tuple[int, int, int]) -> None:
    case, net = toy_volume("a", 1, shape), Stub(50.0)
    net.train()
    result = validate3d(net, toy_config3d(), [case])
    assert result.sampled.shape == (1, 2) and np.array_equal(result.prior, result.sampled)
    assert np.allclose(result.sampled, 1.0) and result.loss < 0.01
    assert net.training


def test_the_loss_is_the_mean_cross_entropy_of_all_voxels_and_channels_by_patient() -> None:
    cases = [toy_volume("a", 0), toy_volume("b", 1, (5, 36, 18))]
    result = validate3d(Stub(0.0, bias=-1.0), toy_config3d(), cases)
    p = 1 / (1 + np.e)
    shares = [np.mean([case.labels == 1, case.labels == 2]) for case in cases]
    assert result.loss == pytest.approx(np.mean([-s * np.log(p) - (1 - s) * np.log(1 - p) for s in shares]), rel=1e-5)
    assert result.sampled.shape == (2, 2) and not result.sampled.any()


def test_what_is_not_known_of_a_volume_is_neither_scored_nor_in_the_loss() -> None:
    case, net = toy_volume("a", 0), Stub(50.0)
    wrong = np.where(case.labels == 2, 0, case.labels).astype(np.uint8)
    wrong[:, :8] = IGNORE
    found = validate3d(net, toy_config3d(), [dataclasses.replace(case, labels=wrong, unknown=(1,))])
    assert found.sampled[0, 0] == 1.0 and np.isnan(found.sampled[0, 1])
    assert found.loss < 0.01
