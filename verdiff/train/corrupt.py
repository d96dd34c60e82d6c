"""Damage to the prior mask, so that the denoiser learns to look at the image and not to copy the prior.

A prior network that has memorised its training images looks perfect in training and is not at test; a denoiser that
only ever saw perfect priors returns whatever prior it is given.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from numpy.random import Generator
from torch import Tensor
from torch.nn import functional


def grow(prior: Tensor, pixels: int) -> Tensor:
    """Dilation of [..., H, W] by ``pixels`` (erosion where negative)."""
    size = 2 * abs(pixels) + 1
    pooled: Tensor = functional.max_pool2d(prior if pixels > 0 else -prior, size, stride=1, padding=abs(pixels))
    return pooled if pixels > 0 else -pooled


def shift(prior: Tensor, rows: int, cols: int) -> Tensor:
    """[K, H, W] moved by whole pixels; what comes in from outside is background (-1)."""
    moved = torch.full_like(prior, -1.0)
    height, width = prior.shape[-2:]
    moved[..., max(0, rows) : height + min(0, rows), max(0, cols) : width + min(0, cols)] = prior[
        ..., max(0, -rows) : height + min(0, -rows), max(0, -cols) : width + min(0, -cols)
    ]
    return moved


def _shift(prior: Tensor, rng: Generator) -> Tensor:
    reach = [min(12, size // 4) for size in prior.shape[-2:]]
    return shift(prior, int(rng.integers(-reach[0], reach[0] + 1)), int(rng.integers(-reach[1], reach[1] + 1)))


def _grow(prior: Tensor, rng: Generator) -> Tensor:
    return grow(prior, int(rng.choice([-4, -3, -2, -1, 1, 2, 3])))


def _empty(prior: Tensor, rng: Generator) -> Tensor:
    return torch.full_like(prior, float(rng.choice([-1.0, 0.0])))


def _blank_boxes(prior: Tensor, rng: Generator) -> Tensor:
    damaged = prior.clone()
    height, width = prior.shape[-2:]
    for _ in range(int(rng.integers(1, 5))):
        rows, cols = int(rng.integers(8, max(9, height // 3))), int(rng.integers(8, max(9, width // 3)))
        top, left = int(rng.integers(0, height - rows + 1)), int(rng.integers(0, width - cols + 1))
        damaged[..., top : top + rows, left : left + cols] = float(rng.choice([-1.0, 0.0]))
    return damaged


def _soften(prior: Tensor, rng: Generator) -> Tensor:
    size = 2 * int(rng.integers(1, 6)) + 1
    return functional.avg_pool2d(prior, size, stride=1, padding=size // 2, count_include_pad=False)


def _mix_classes(prior: Tensor, rng: Generator) -> Tensor:
    return prior[torch.from_numpy(rng.permutation(len(prior)))] if len(prior) > 1 else -prior


DAMAGES: tuple[Callable[[Tensor, Generator], Tensor], ...] = (
    _shift,
    _grow,
    _empty,
    _blank_boxes,
    _soften,
    _mix_classes,
)


def corrupt_prior(prior: Tensor, share: float, rng: Generator) -> Tensor:
    """``prior`` [N, K, H, W] in [-1, 1] with a random damage to about ``share`` of its samples."""
    damaged = [
        DAMAGES[int(rng.integers(len(DAMAGES)))](sample, rng) if rng.random() < share else sample for sample in prior
    ]
    return torch.stack(damaged)
