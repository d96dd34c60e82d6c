"""The training loss of a model that answers in one pass: of its prior network, with deep supervision if it has any."""

from __future__ import annotations

import torch
from numpy.random import Generator
from torch import Tensor

from verdiff.train.config import RunConfig
from verdiff.train.networks import SegmentationModel
from verdiff.train.objective import Losses, Objective, prior_loss


def single_pass_objective(config: RunConfig, device: torch.device) -> Objective:
    """``loss_bce`` and ``loss_dice`` on the logits, 2D or 3D: :func:`verdiff.train.objective.prior_loss`."""
    bce, dice = config.training.loss_bce, config.training.loss_dice

    def objective(net: SegmentationModel, image: Tensor, truth: Tensor, rng: Generator) -> Losses:
        loss = prior_loss(net.prior(image), truth, bce, dice)
        return Losses(loss, {"prior": loss.detach()})

    return objective
