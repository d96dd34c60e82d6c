"""Losses on K independent foreground channels, in float32."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def soft_dice_loss(probability: Tensor, truth: Tensor, smooth: float = 1.0) -> Tensor:
    """1 - soft Dice per channel over the batch, averaged; ``probability`` and ``truth`` [N, K, ...] in [0, 1]."""
    axes = (0, *range(2, truth.ndim))
    overlap = (probability * truth).sum(axes)
    total = probability.sum(axes) + truth.sum(axes)
    return (1 - (2 * overlap + smooth) / (total + smooth)).mean()


def logit_loss(logits: Tensor, truth: Tensor, bce: float, dice: float) -> Tensor:
    """Weighted binary cross-entropy and soft Dice of logits against ``truth`` in [0, 1]."""
    logits, truth = logits.float(), truth.float()
    loss = bce * functional.binary_cross_entropy_with_logits(logits, truth)
    return loss + dice * soft_dice_loss(torch.sigmoid(logits), truth) if dice else loss


def probability_loss(x0hat: Tensor, truth: Tensor, bce: float, dice: float) -> Tensor:
    """The same on x0hat in [-1, 1], for predictions that do not come as logits."""
    probability = ((x0hat.float() + 1) / 2).clamp(1e-4, 1 - 1e-4)
    loss = bce * functional.binary_cross_entropy(probability, truth.float())
    return loss + dice * soft_dice_loss(probability, truth.float()) if dice else loss
