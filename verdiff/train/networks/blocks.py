"""The pieces both U-Nets are built from: normalisation, residual blocks, the time embedding.

They follow the backbone of MedSegDiff, which Verdiff-Net names as its own (section 2.4): group norm, SiLU, residual
blocks of two 3 x 3 convolutions, and a scale and shift from the timestep.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def group_norm(channels: int) -> nn.GroupNorm:
    """Group norm with 8 channels a group where that divides, else one group for all (works at batch size 1)."""
    return nn.GroupNorm(max(1, channels // 8) if channels % 8 == 0 else 1, channels)


class TimeEmbedding(nn.Module):
    """Timestep [N] -> embedding [N, dim]: sinusoids of 64 geometric frequencies, then two layers."""

    frequencies: Tensor

    def __init__(self, dim: int, max_period: float = 10000.0) -> None:
        super().__init__()
        half = 32
        frequencies = torch.exp(-math.log(max_period) * torch.arange(half, dtype=torch.float32) / half)
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.layers = nn.Sequential(nn.Linear(2 * half, dim), nn.SiLU(), nn.Linear(dim, dim), nn.SiLU())

    def forward(self, timestep: Tensor) -> Tensor:
        angles = timestep.float()[:, None] * self.frequencies[None]
        embedding: Tensor = self.layers(torch.cat([angles.cos(), angles.sin()], dim=1))
        return embedding


class ResidualBlock(nn.Module):
    """Two normalised 3 x 3 convolutions beside a (projected) identity; optionally modulated by an embedding.

    [N, c_in, H, W] -> [N, c_out, H, W]. The second convolution starts at zero, so a new block is its shortcut.
    """

    def __init__(self, c_in: int, c_out: int, embedding_dim: int | None = None) -> None:
        super().__init__()
        self.norm1, self.conv1 = group_norm(c_in), nn.Conv2d(c_in, c_out, 3, padding=1)
        self.norm2, self.conv2 = group_norm(c_out), nn.Conv2d(c_out, c_out, 3, padding=1)
        self.shortcut = nn.Identity() if c_in == c_out else nn.Conv2d(c_in, c_out, 1)
        self.modulation = None if embedding_dim is None else nn.Linear(embedding_dim, 2 * c_out)
        nn.init.zeros_(self.conv2.weight)
        if self.conv2.bias is not None:
            nn.init.zeros_(self.conv2.bias)
        self.act = nn.SiLU()

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        h = self.norm2(self.conv1(self.act(self.norm1(x))))
        if self.modulation is not None and embedding is not None:
            scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
            h = h * (1 + scale) + shift
        out: Tensor = self.conv2(self.act(h)) + self.shortcut(x)
        return out


class Upsample(nn.Module):
    """Twice the size by repetition, then a 1 x 1 convolution: [N, c_in, H, W] -> [N, c_out, 2H, 2W].

    The 1 x 1 convolution runs first, on the small map: it commutes with repetition and costs a quarter there.
    """

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(c_in, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.interpolate(self.project(x), scale_factor=2.0, mode="nearest")
