"""Batch norms of averaged weights have the statistics of those weights, not of the last batches of others."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import nn

from tests.train.toy import toy_config, toy_dataset
from verdiff.train.settling import BATCHES, settle_norms
from verdiff.train.trainer import Trainer


def test_statistics_are_the_mean_over_all_batches_and_nothing_else_changes() -> None:
    net = nn.Sequential(nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3, momentum=0.05)).eval()
    images = torch.randn(BATCHES, 2, 1, 8, 8, generator=torch.Generator().manual_seed(1)) * 4 + 2
    weights = [parameter.clone() for parameter in net.parameters()]
    settle_norms(net, lambda number: net(images[number]))
    norm = net[1]
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
    through = torch.stack([net[0](image) for image in images])
    torch.testing.assert_close(norm.running_mean, through.mean(dim=(0, 1, 3, 4)))
    torch.testing.assert_close(norm.running_var, through.var(dim=(1, 3, 4)).mean(dim=0), rtol=0.02, atol=0.0)
    assert norm.momentum == 0.05 and not norm.training
    assert all(torch.equal(a, b) for a, b in zip(weights, net.parameters(), strict=True))


def test_parts_that_do_not_learn_keep_theirs() -> None:
    net = nn.ModuleDict({"prior": nn.BatchNorm2d(2), "denoiser": nn.BatchNorm2d(2)}).eval()
    image = torch.randn(4, 2, 5, 5) + 3
    settle_norms(net, lambda number: [part(image) for part in net.values()], fixed=("prior",))
    prior, denoiser = net["prior"], net["denoiser"]
    assert isinstance(prior, nn.BatchNorm2d) and isinstance(denoiser, nn.BatchNorm2d)
    assert torch.equal(prior.running_mean, torch.zeros(2))  # type: ignore[arg-type]
    torch.testing.assert_close(denoiser.running_mean, image.mean(dim=(0, 2, 3)))


def test_a_run_validates_and_keeps_settled_norms(tmp_path: Path) -> None:
    config = toy_config(iterations=3)
    config = dataclasses.replace(config, network=dataclasses.replace(config.network, norm="batch"))
    trainer = Trainer(config, toy_dataset(), 0, tmp_path / "run", device="cpu")
    for _ in trainer.train():
        pass
    norms = [
        (ours, running)
        for ours, running in zip(trainer.ema.modules(), trainer.net.modules(), strict=True)
        if isinstance(ours, nn.BatchNorm2d)
    ]
    assert norms
    for settled, running in norms:
        assert int(settled.num_batches_tracked) >= BATCHES  # type: ignore[arg-type]
        assert not torch.equal(settled.running_mean, running.running_mean)  # type: ignore[arg-type]
