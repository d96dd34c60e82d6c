"""Batch norms folded into convolutions: the same function with fewer operations."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from verdiff.train.networks.folding import folded
from verdiff.train.networks.verdiff_net import NetworkConfig, VerdiffNet

SMALL = NetworkConfig((8, 8, 16), (8, 8), 2, 8, "decoder", norm="batch", pooling="body")


def trained_in_appearance(norm: str) -> VerdiffNet:
    """A network whose norms have seen something, so that none of them is the identity."""
    torch.manual_seed(3)
    net = VerdiffNet(2, replace(SMALL, norm=norm))
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-0.5, 0.5)  # type: ignore[union-attr, operator]
                module.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr, operator]
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.3, 0.3)
    return net.eval()


def test_a_folded_network_computes_the_same_without_a_batch_norm() -> None:
    net = trained_in_appearance("batch")
    fewer = folded(net)
    assert any(isinstance(module, nn.BatchNorm2d) for module in net.modules())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fewer.modules())
    image = torch.rand(2, 1, 32, 24) * 2 - 1
    ours, theirs = net.prior(image), fewer.prior(image)
    assert torch.allclose(ours.logits, theirs.logits, atol=1e-5)
    x, timestep, prior = torch.randn(2, 2, 32, 24), torch.tensor([900.0, 20.0]), torch.rand(2, 2, 32, 24) * 2 - 1
    assert torch.allclose(net(x, timestep, prior, ours.features), fewer(x, timestep, prior, theirs.features), atol=1e-5)


@pytest.mark.parametrize("norm", ["group", "channel"])
def test_norms_that_cannot_be_folded_are_left_alone(norm: str) -> None:
    net = trained_in_appearance(norm)
    assert [name for name, _ in folded(net).named_parameters()] == [name for name, _ in net.named_parameters()]


def moved_by_a_margin(norm: str, pooling: str) -> float:
    """How far the logits of a corner move, against their own spread, when black margins are put far away from it."""
    torch.manual_seed(5)
    net = VerdiffNet(2, NetworkConfig((8, 8), (8, 8), 1, 8, "decoder", norm=norm, pooling=pooling)).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        image = torch.rand(1, 1, 96, 96) * 2 - 1
        padded = torch.nn.functional.pad(image, (0, 96, 0, 96), value=-1.0)
        near, far = (net.prior(each).logits[..., :48, :48] for each in (image, padded))
    return float((near - far).abs().mean() / near.std())


def test_margins_count_less_without_statistics_of_the_field_of_view() -> None:
    # A convolution's own padding at the image's edge is not the margin's black: a little is left of any network.
    assert moved_by_a_margin("batch", "body") < 0.02
    assert moved_by_a_margin("group", "field") > 10 * moved_by_a_margin("batch", "body")
    assert moved_by_a_margin("batch", "field") > 2 * moved_by_a_margin("batch", "body")


def moved_by_a_pixel(resampling: str) -> float:
    """How far logits move, against their own spread, when the picture lies one row and column further on."""
    torch.manual_seed(7)
    config = NetworkConfig((8, 8, 8, 8), (8, 8), 2, 8, "decoder", norm="batch", pooling="body", resampling=resampling)
    net = VerdiffNet(2, config).eval()
    noise = torch.rand(1, 1, 97, 97)
    picture = nn.functional.avg_pool2d(noise, 5, stride=1, padding=2)
    with torch.no_grad():
        here, there = (net.prior(picture[..., at : at + 96, at : at + 96]).logits for at in (0, 1))
    inside = slice(24, 72)
    moved = (here[..., inside, inside] - there[..., 23:71, 23:71]).abs().mean()
    return float(moved / here[..., inside, inside].std())


def test_smooth_resampling_lets_the_place_on_the_grid_count_less() -> None:
    assert moved_by_a_pixel("smooth") < 0.5 * moved_by_a_pixel("plain")
