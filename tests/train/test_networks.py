"""Shapes and starting points of the networks of Verdiff-Net."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from verdiff.errors import DataError
from verdiff.train.networks import NetworkConfig, VerdiffNet
from verdiff.train.networks.msfm import MSFM
from verdiff.train.networks.nsa import NSA

CONFIGS = {
    "light": NetworkConfig((8, 16, 16), (8, 16), 2, 8, "decoder"),
    "paper": NetworkConfig((8, 16, 16), (8, 16, 16), 1, 8, "stem"),
    "full resolution, decoder features": NetworkConfig((8, 16, 16), (8, 16), 1, 8, "decoder"),
    "without MSFM": NetworkConfig((8, 16, 16), (8, 16), 2, 8, "decoder", msfm=False),
    "without NSA": NetworkConfig((8, 16, 16), (8, 16), 2, 8, "decoder", nsa=False),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("batch", [1, 3])
def test_both_networks_keep_size_and_give_the_features_they_promise(config: NetworkConfig, batch: int) -> None:
    net = VerdiffNet(2, config)
    image = torch.randn(batch, 1, 6 * config.multiple, 5 * config.multiple)
    output = net.prior(image)
    assert output.logits.shape == (batch, 2, *image.shape[2:])
    assert [(f.shape[1], image.shape[2] // f.shape[2]) for f in output.features] == [
        (width, stride) for stride, width in sorted(config.features.items())
    ]
    raw = net(torch.randn_like(output.logits), torch.full((batch,), 7.0), output.logits.tanh(), output.features)
    assert raw.shape == output.logits.shape


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_every_parameter_gets_a_gradient_once_the_zero_layers_have_moved(config: NetworkConfig) -> None:
    torch.manual_seed(0)
    net = VerdiffNet(2, config)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    image = torch.randn(2, 1, 32, 32)
    output = net.prior(image)
    prior = output.logits.detach().tanh()
    raw = net(torch.randn_like(prior), torch.tensor([3.0, 900.0]), prior, output.features)
    (raw.square().mean() + output.logits.square().mean()).backward()
    silent = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


def test_the_denoiser_reacts_to_the_timestep_the_prior_and_the_image() -> None:
    torch.manual_seed(0)
    config = CONFIGS["light"]
    net = VerdiffNet(1, config)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        output, other = (net.prior(torch.randn(1, 1, 32, 32)) for _ in range(2))
        x, prior = torch.randn(1, 1, 32, 32), output.logits.tanh()
        base = net(x, torch.tensor([10.0]), prior, output.features)
        assert not torch.allclose(base, net(x, torch.tensor([900.0]), prior, output.features))
        assert not torch.allclose(base, net(x, torch.tensor([10.0]), -prior, output.features))
        assert not torch.allclose(base, net(x, torch.tensor([10.0]), prior, other.features))


@pytest.mark.parametrize(("msfm", "nsa"), [(True, False), (False, True), (False, False)])
def test_a_network_of_the_ablation_lacks_the_part_and_nothing_else(msfm: bool, nsa: bool) -> None:
    whole = VerdiffNet(1, CONFIGS["light"])
    cut = VerdiffNet(1, dataclasses.replace(CONFIGS["light"], msfm=msfm, nsa=nsa))
    names = {name for name, _ in whole.named_parameters()} - {name for name, _ in cut.named_parameters()}
    beginnings = [*([] if msfm else ["prior.stem."]), *([] if nsa else ["denoiser.adapters."])]
    assert names == {name for name, _ in whole.named_parameters() if name.startswith(tuple(beginnings))}
    assert {type(module) for module in cut.modules()} & {MSFM, NSA} == {*([MSFM] * msfm), *([NSA] * nsa)}


def test_nsa_starts_as_the_identity() -> None:
    x = torch.randn(2, 8, 24, 20)
    assert torch.equal(NSA(8)(x, torch.rand(2, 1, 24, 20)), x)


def test_nsa_takes_the_small_kernel_inside_the_mask_and_the_large_one_outside() -> None:
    torch.manual_seed(0)
    adapter = NSA(4)
    with torch.no_grad():
        adapter.expand.weight.normal_()
        adapter.fine3.weight.zero_()
        adapter.fine3.bias.zero_()
    x = torch.randn(1, 4, 9, 9)
    inside = adapter(x, torch.ones(1, 1, 9, 9))
    with torch.no_grad():
        adapter.fine5.weight.mul_(3.0)
    changed_inside = (adapter(x, torch.ones(1, 1, 9, 9)) - inside).abs().max()
    outside = adapter(x, torch.zeros(1, 1, 9, 9))
    with torch.no_grad():
        adapter.fine5.weight.div_(3.0)
    changed_outside = (adapter(x, torch.zeros(1, 1, 9, 9)) - outside).abs().max()
    assert 0 < 20 * changed_inside < changed_outside


def test_msfm_weights_are_a_choice_among_its_branches() -> None:
    module = MSFM(1, 8)
    image = torch.randn(2, 1, 16, 16)
    weights = module.weights(image, sum(branch(image) for branch in module.branches))
    assert weights.shape == (2, 3, 8)
    assert torch.allclose(weights.sum(dim=1), torch.ones(2, 8))
    mixed = sum(w[:, :, None, None] * b(image) for w, b in zip(weights.unbind(1), module.branches, strict=True))
    assert torch.allclose(module(image), mixed, atol=1e-6)


def test_a_denoiser_deeper_than_the_prior_network_is_refused_with_the_remedy() -> None:
    with pytest.raises(DataError, match="prior_widths more levels"):
        NetworkConfig((8, 16), (8, 16, 32), 2)
