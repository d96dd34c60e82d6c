"""The training loss of one batch: the prior network and the denoiser, trained together.

Algorithm 1 of the paper with Eq. 5's marginal, and the remedies for a denoiser that learns to copy: x_t made from the
model's own prediction (recycling, after Fu et al. 2023), damaged priors, draws that lean towards high noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor
from torch.nn import functional

from verdiff.train.config import RunConfig
from verdiff.train.corrupt import corrupt_prior
from verdiff.train.losses import logit_loss, probability_loss
from verdiff.train.networks import VerdiffNet
from verdiff.train.prediction import MarginalTable, target, to_x0hat


class Losses(NamedTuple):
    """``total`` to minimise, and the parts of it that a run's metrics show, by name and without gradient."""

    total: Tensor
    parts: Mapping[str, Tensor]


Objective = Callable[[VerdiffNet, Tensor, Tensor, Generator], Losses]
"""(net, image [N, 1, H, W], truth [N, K, H, W] in {0, 1}, the iteration's random numbers) -> losses."""


def joint_objective(config: RunConfig, device: torch.device) -> Objective:
    """What ``verdiff train`` minimises: :func:`batch_losses` of both networks."""
    table = MarginalTable(config.process.build()).to(device)
    return lambda net, image, truth, rng: batch_losses(net, table, config, image, truth, rng)


def batch_losses(
    net: VerdiffNet, table: MarginalTable, config: RunConfig, image: Tensor, truth: Tensor, rng: Generator
) -> Losses:
    """Losses for ``image`` [N, 1, H, W] in [-1, 1] and ``truth`` [N, K, H, W] in {0, 1}.

    The prior that the denoiser sees carries no gradient, its features do: the prior network is shaped by both losses.
    """
    training, process = config.training, config.process
    noise = torch.Generator().manual_seed(int(rng.integers(2**62)))
    output = net.prior(image)
    loss_prior = logit_loss(output.logits, truth, 1.0, 1.0)
    prior = (2 * torch.sigmoid(output.logits.detach().float()) - 1).contiguous()
    prior = corrupt_prior(prior, training.corrupt, rng)
    x0 = 2 * truth - 1

    def draw() -> Tensor:
        return torch.randn(x0.shape, generator=noise).to(x0.device)

    def marginal(start: Tensor, timestep: Tensor) -> Tensor:
        at = table(timestep)
        return at.signal * start + at.prior * prior + at.noise * draw()

    uniform = rng.random(len(x0)) ** (1 / training.timestep_power)
    drawn = np.clip(np.ceil(uniform * process.timesteps), 1, process.timesteps).astype(np.int64)
    timestep = torch.from_numpy(drawn).to(x0.device)
    start = x0
    recycled = torch.from_numpy(rng.random(len(x0)) < training.recycle).to(x0.device)
    if bool(recycled.any()):
        with torch.no_grad():
            # The errors to be recycled are those of a sampler on its way down: a prediction at the last timestep or
            # anywhere between it and the one drawn.
            earlier = timestep + ((process.timesteps - timestep) * float(rng.choice([1.0, rng.random()]))).long()
            x = marginal(x0, earlier)
            raw = net(x, earlier, prior, tuple(feature.detach() for feature in output.features))
            guess = to_x0hat(process.prediction, raw.float(), x, prior, table(earlier))
        start = torch.where(recycled[:, None, None, None], guess, x0)
    x = marginal(start, timestep)
    raw = net(x, timestep, prior, output.features).float()
    at = table(timestep)
    loss = torch.zeros((), device=x0.device)
    if process.prediction == "x0":
        if training.loss_bce or training.loss_dice:
            loss = loss + logit_loss(raw, truth, training.loss_bce, training.loss_dice)
        if training.loss_mse:
            loss = loss + training.loss_mse * functional.mse_loss(2 * torch.sigmoid(raw) - 1, x0)
    else:
        wanted = target(process.prediction, x0, x, prior, at)
        loss = loss + training.loss_mse * functional.mse_loss(raw, wanted)
        if training.loss_bce or training.loss_dice:
            x0hat = to_x0hat(process.prediction, raw, x, prior, at)
            loss = loss + probability_loss(x0hat, truth, training.loss_bce, training.loss_dice)
    total = loss + training.loss_prior * loss_prior
    return Losses(total, {"prior": loss_prior.detach(), "denoiser": loss.detach()})
