"""The training loss of a model that answers in one pass: of its prior network, with deep supervision if it has any."""

from __future__ import annotations

import torch
from numpy.random import Generator
from torch import Tensor
from torch.nn import functional

from verdiff.train.config import RunConfig
from verdiff.train.losses import logit_loss
from verdiff.train.networks import SegmentationModel
from verdiff.train.objective import Losses, Objective


def single_pass_objective(config: RunConfig, device: torch.device) -> Objective:
    """``loss_bce`` and ``loss_dice`` on the logits, 2D or 3D.

    Deep supervision as nnU-Net's (Isensee et al. 2021, online methods): each lower resolution has half the weight of
    the one above it, the weights sum to one, and the truth is brought to it by nearest neighbour.
    """
    bce, dice = config.training.loss_bce, config.training.loss_dice

    def objective(net: SegmentationModel, image: Tensor, truth: Tensor, rng: Generator) -> Losses:
        output = net.prior(image)
        levels = (output.logits, *output.auxiliary)
        weights = [0.5**level for level in range(len(levels))]
        losses = [logit_loss(logits, _at_size_of(logits, truth), bce, dice) for logits in levels]
        total = sum(weight * loss for weight, loss in zip(weights, losses, strict=True)) / sum(weights)
        assert isinstance(total, Tensor)
        return Losses(total, {"prior": losses[0].detach()})

    return objective


def _at_size_of(logits: Tensor, truth: Tensor) -> Tensor:
    size = logits.shape[2:]
    return truth if truth.shape[2:] == size else functional.interpolate(truth, size, mode="nearest")
