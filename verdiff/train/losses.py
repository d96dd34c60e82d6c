"""Losses on K independent foreground channels, in float32.

A truth [N, K, ...] is the share of a pixel that a structure covers, 0 or 1 where masks are not soft, and
:data:`UNKNOWN` where nothing is known: pixels labelled "ignore", and channels that a data set does not label. Those are
left out.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

UNKNOWN = -1.0


def known(truth: Tensor) -> Tensor:
    """1 where a truth is known, 0 where it is :data:`UNKNOWN`."""
    return (truth >= 0).to(truth.dtype)


def soft_dice_loss(probability: Tensor, truth: Tensor, smooth: float = 1.0) -> Tensor:
    """1 - soft Dice per channel over the batch, averaged; ``probability`` and ``truth`` [N, K, ...] in [0, 1].

    The overlap of two shares is the smaller one (the Dice semimetric of Wang et al. 2023): against a soft truth the
    loss is least where the two agree, which it is not for their product. For a truth of 0 and 1 the two are the same.
    """
    axes, counted = (0, *range(2, truth.ndim)), known(truth)
    probability, truth = probability * counted, truth * counted
    overlap = torch.minimum(probability, truth).sum(axes)
    total = probability.sum(axes) + truth.sum(axes)
    return (1 - (2 * overlap + smooth) / (total + smooth)).mean()


def logit_loss(logits: Tensor, truth: Tensor, bce: float, dice: float) -> Tensor:
    """Weighted binary cross-entropy and soft Dice of logits against ``truth``."""
    logits, truth = logits.float(), truth.float()
    entropy = functional.binary_cross_entropy_with_logits(logits, truth.clamp_min(0), reduction="none")
    loss = bce * mean_of_known(entropy, truth)
    return loss + dice * soft_dice_loss(torch.sigmoid(logits), truth) if dice else loss


def probability_loss(x0hat: Tensor, truth: Tensor, bce: float, dice: float) -> Tensor:
    """The same on x0hat in [-1, 1], for predictions that do not come as logits."""
    probability, truth = ((x0hat.float() + 1) / 2).clamp(1e-4, 1 - 1e-4), truth.float()
    entropy = functional.binary_cross_entropy(probability, truth.clamp_min(0), reduction="none")
    loss = bce * mean_of_known(entropy, truth)
    return loss + dice * soft_dice_loss(probability, truth) if dice else loss


def mean_square(value: Tensor, wanted: Tensor, truth: Tensor) -> Tensor:
    """The mean square error of two [N, K, ...], over what is known of the truth."""
    return mean_of_known(functional.mse_loss(value, wanted, reduction="none"), truth)


def mean_of_known(loss: Tensor, truth: Tensor) -> Tensor:
    """The mean of a loss [N, K, ...] over what is known of a truth of the same shape."""
    counted = known(truth)
    return (loss * counted).sum() / counted.sum().clamp_min(1)
