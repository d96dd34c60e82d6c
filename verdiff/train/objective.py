"""The training loss of one batch: the prior network and the denoiser, trained together.

Algorithm 1 of Verdiff-Net with Eq. 5's marginal, SpineSegDiff's truncated chain, and the remedies for a denoiser that
learns to copy: x_t made from the model's own prediction (recycling, after Fu et al. 2023), damaged priors, draws that
lean towards high noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor
from torch.nn import functional

from verdiff.errors import DataError
from verdiff.train.config import RunConfig
from verdiff.train.corrupt import corrupt_prior
from verdiff.train.losses import logit_loss, mean_square, probability_loss
from verdiff.train.networks import PriorOutput, SegmentationModel
from verdiff.train.prediction import MarginalTable, target, to_x0hat


class Losses(NamedTuple):
    """``total`` to minimise, and the parts of it that a run's metrics show, by name and without gradient."""

    total: Tensor
    parts: Mapping[str, Tensor]


Objective = Callable[[SegmentationModel, Tensor, Tensor, Generator], Losses]
"""(net, image [N, 1, H, W], truth [N, K, H, W] as :mod:`verdiff.train.losses` has it, random numbers) -> losses."""


def joint_objective(config: RunConfig, device: torch.device) -> Objective:
    """What ``verdiff train`` minimises: :func:`batch_losses` of both networks.

    Raises:
        DataError: Every term of the denoiser's loss is switched off, or the prior's in a run that begins with the prior
            alone, or x_t are to come from the prior in a chain that does not start there.
        VerdiffError: The chain of ``[sampling]`` does not exist, for example a start step beyond the last timestep.
    """
    training, process = config.training, config.process.build()
    if not (training.loss_mse or training.loss_bce or training.loss_dice):
        raise DataError(
            "loss_mse, loss_bce and loss_dice are all 0", "at least one term of the loss", "correct [training]"
        )
    if training.prior_first and not training.loss_prior:
        raise DataError(
            f"prior_first = {training.prior_first} with loss_prior = 0: a part of the run that minimises nothing",
            "a loss of the prior where it learns alone",
            "correct [training]",
        )
    if training.from_prior and config.sampling.start != "prior":
        raise DataError(
            f"from_prior = {training.from_prior} with a chain that starts from {config.sampling.start}",
            'start = "prior" in [sampling], where such x_t occur',
            "correct [training] or [sampling]",
        )
    config.sampling.table(process)
    table = MarginalTable(process).to(device)
    return lambda net, image, truth, rng: batch_losses(net, table, config, image, truth, rng)


def prior_objective(config: RunConfig, device: torch.device) -> Objective:
    """What is minimised while the denoiser waits: the prior network's loss, as :func:`batch_losses` has it."""
    weight = config.training.loss_prior

    def objective(net: SegmentationModel, image: Tensor, truth: Tensor, rng: Generator) -> Losses:
        loss = prior_loss(net.prior(image), truth, 1.0, 1.0)
        return Losses(weight * loss, {"prior": loss.detach()})

    return objective


def first_timestep(config: RunConfig) -> int:
    """The timestep t0 that a chain of this configuration starts at; no later one is ever sampled, so none is drawn."""
    start_step = config.sampling.start_step
    return config.process.timesteps if start_step is None else start_step


def prior_loss(output: PriorOutput, truth: Tensor, bce: float, dice: float) -> Tensor:
    """:func:`logit_loss` of a network's logits, with deep supervision where it has auxiliary ones.

    As nnU-Net (Isensee et al. 2021, online methods): each lower resolution has half the weight of the one above it, the
    weights sum to one, and the truth [N, K, ...] is brought to it by nearest neighbour.
    """
    levels = (output.logits, *output.auxiliary)
    weights = [0.5**level for level in range(len(levels))]
    total = torch.zeros((), device=truth.device)
    for weight, logits in zip(weights, levels, strict=True):
        size = logits.shape[2:]
        here = truth if truth.shape[2:] == size else functional.interpolate(truth, size, mode="nearest")
        total = total + weight * logit_loss(logits, here, bce, dice)
    return total / sum(weights)


def batch_losses(
    net: SegmentationModel, table: MarginalTable, config: RunConfig, image: Tensor, truth: Tensor, rng: Generator
) -> Losses:
    """Losses for ``image`` [N, 1, H, W] in [-1, 1] and ``truth`` [N, K, H, W] as :mod:`verdiff.train.losses` has it.

    Where nothing is known, x_t is made from the prior mask, and no loss is taken.

    The prior that the denoiser sees carries no gradient, its features do: the prior network is shaped by both losses.

    With ``[sampling] start_step`` = t0 the chain is truncated: timesteps are drawn from 1 to t0 alone. Where it starts
    from the prior, recycled x_t come down from the prior too, since that and not the true mask is what sampling has at
    t0; ``from_prior`` is the share of x_t that are the prior's own marginal, as at t0. The truth is the target of all.
    """
    training, process, last = config.training, config.process, first_timestep(config)
    noise = torch.Generator().manual_seed(int(rng.integers(2**62)))
    output = net.prior(image)
    loss_prior = prior_loss(output, truth, 1.0, 1.0)
    prior = (2 * torch.sigmoid(output.logits.detach().float()) - 1).contiguous()
    x0 = torch.where(truth < 0, prior, 2 * truth - 1)
    prior = corrupt_prior(prior, training.corrupt, rng)

    def draw() -> Tensor:
        return torch.randn(x0.shape, generator=noise).to(x0.device)

    def marginal(start: Tensor, timestep: Tensor) -> Tensor:
        at = table(timestep)
        return at.signal * start + at.prior * prior + at.noise * draw()

    uniform = rng.random(len(x0)) ** (1 / training.timestep_power)
    drawn = np.clip(np.ceil(uniform * last), 1, last).astype(np.int64)
    timestep = torch.from_numpy(drawn).to(x0.device)
    start = x0
    recycled = torch.from_numpy(rng.random(len(x0)) < training.recycle).to(x0.device)
    if bool(recycled.any()):
        with torch.no_grad():
            # The errors to be recycled are those of a sampler on its way down: a prediction at the first timestep of
            # the chain or anywhere between it and the one drawn.
            earlier = timestep + ((last - timestep) * float(rng.choice([1.0, rng.random()]))).long()
            x = marginal(prior if config.sampling.start == "prior" else x0, earlier)
            raw = net(x, earlier, prior, tuple(feature.detach() for feature in output.features))
            guess = to_x0hat(process.prediction, raw.float(), x, prior, table(earlier))
        start = torch.where(recycled[:, None, None, None], guess, x0)
    if training.from_prior:
        begun = torch.from_numpy(rng.random(len(x0)) < training.from_prior).to(x0.device)
        start = torch.where(begun[:, None, None, None], prior, start)
    x = marginal(start, timestep)
    raw = net(x, timestep, prior, output.features).float()
    at = table(timestep)
    loss = torch.zeros((), device=x0.device)
    if process.prediction == "x0":
        if training.loss_bce or training.loss_dice:
            loss = loss + logit_loss(raw, truth, training.loss_bce, training.loss_dice)
        if training.loss_mse:
            loss = loss + training.loss_mse * mean_square(2 * torch.sigmoid(raw) - 1, x0, truth)
    else:
        wanted = target(process.prediction, x0, x, prior, at)
        loss = loss + training.loss_mse * mean_square(raw, wanted, truth)
        if training.loss_bce or training.loss_dice:
            x0hat = to_x0hat(process.prediction, raw, x, prior, at)
            loss = loss + probability_loss(x0hat, truth, training.loss_bce, training.loss_dice)
    total = loss + training.loss_prior * loss_prior
    return Losses(total, {"prior": loss_prior.detach(), "denoiser": loss.detach()})
