"""The pieces both U-Nets are built from: normalisation, residual blocks, the time embedding.

They follow the backbone of MedSegDiff, which Verdiff-Net names as its own (section 2.4): group norm, SiLU, residual
blocks of two 3 x 3 convolutions, and a scale and shift from the timestep. Group norm takes its statistics from the
whole field of view, so a pixel's label depends on how much air there is. ``NORMS`` names what can stand in its place.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

# A running mean over some twenty batches: those of four crops differ much from one to the next.
BATCH_MOMENTUM = 0.05


def group_norm(channels: int) -> nn.GroupNorm:
    """Group norm with 8 channels a group where that divides, else one group for all (works at batch size 1)."""
    return nn.GroupNorm(max(1, channels // 8) if channels % 8 == 0 else 1, channels)


class ChannelNorm(nn.Module):
    """Layer norm over the channels of each pixel [N, C, H, W]: no statistics over space, so nothing far away counts."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(dim=1, keepdim=True)
        scaled = centred * torch.rsqrt(centred.square().mean(dim=1, keepdim=True) + self.eps)
        return scaled * self.weight[:, None, None] + self.bias[:, None, None]


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Batch norm; behind a convolution it costs nothing at run time, since an export folds it into the weights."""
    return nn.BatchNorm2d(channels, momentum=BATCH_MOMENTUM)


NORMS: dict[str, Callable[[int], nn.Module]] = {"group": group_norm, "batch": batch_norm, "channel": ChannelNorm}


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


class ConvNormBlock(nn.Module):
    """Two 3 x 3 convolutions, each with its norm right behind it, beside a (projected) identity; SiLU at the end.

    [N, c_in, H, W] -> [N, c_out, H, W]. In this order a batch norm folds whole into its convolution; in
    :class:`ResidualBlock` it stands before an activation and behind a sum, and cannot. The second norm starts at
    weight 0, so a new block is its shortcut.

    Args:
        c_in: Channels of the input.
        c_out: Channels of the output.
        norm: Makes the norm of so many channels.
        embedding_dim: Size of the embedding that scales and shifts the first convolution's output; None: none comes.
    """

    FOLDABLE = (("conv1", "norm1"), ("conv2", "norm2"))

    def __init__(
        self, c_in: int, c_out: int, norm: Callable[[int], nn.Module], embedding_dim: int | None = None
    ) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(c_in, c_out, 3, padding=1, bias=False), norm(c_out)
        self.conv2, self.norm2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False), norm(c_out)
        self.shortcut = nn.Identity() if c_in == c_out else nn.Conv2d(c_in, c_out, 1)
        self.modulation = None if embedding_dim is None else nn.Linear(embedding_dim, 2 * c_out)
        nn.init.zeros_(self.norm2.weight)  # type: ignore[arg-type]
        self.act = nn.SiLU()

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        h = self.norm1(self.conv1(x))
        if self.modulation is not None and embedding is not None:
            scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
            h = h * (1 + scale) + shift
        out: Tensor = self.act(self.norm2(self.conv2(self.act(h))) + self.shortcut(x))
        return out


def residual_block(norm: str, c_in: int, c_out: int, embedding_dim: int | None = None) -> nn.Module:
    """The residual block that goes with a norm of :data:`NORMS`."""
    if norm == "group":
        return ResidualBlock(c_in, c_out, embedding_dim)
    return ConvNormBlock(c_in, c_out, NORMS[norm], embedding_dim)


# What changes the size of a map between the levels of a U-Net.
RESAMPLINGS = ("plain", "smooth")


class Downsample(nn.Conv2d):
    """Half the size by a 3 x 3 convolution of stride 2: [N, c_in, H, W] -> [N, c_out, H / 2, W / 2].

    A stride passes over every other pixel, so what it gives depends on which row and column a picture begins with.
    ``"smooth"`` weights each pixel with its neighbours (1, 2, 1) first, which takes most of what would be folded over
    (Zhang, ICML 2019, "Making convolutional networks shift-invariant again").

    Args:
        c_in: Channels of the input.
        c_out: Channels of the output.
        resampling: One of :data:`RESAMPLINGS`. Both have the same parameters.
    """

    binomial: Tensor

    def __init__(self, c_in: int, c_out: int, resampling: str = "plain") -> None:
        super().__init__(c_in, c_out, 3, stride=2, padding=1)
        self.smooth = resampling == "smooth"
        if self.smooth:
            line = torch.tensor([0.25, 0.5, 0.25])
            self.register_buffer("binomial", (line[:, None] * line).repeat(c_in, 1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.smooth:
            x = nn.functional.conv2d(x, self.binomial.to(x.dtype), padding=1, groups=self.in_channels)
        return super().forward(x)


class Upsample(nn.Module):
    """Twice the size, and a 1 x 1 convolution: [N, c_in, H, W] -> [N, c_out, 2H, 2W].

    The 1 x 1 convolution runs first, on the small map: it commutes with what follows and costs a quarter there.

    Args:
        c_in: Channels of the input.
        c_out: Channels of the output.
        resampling: ``"plain"`` repeats each pixel, ``"smooth"`` interpolates linearly between pixels.
    """

    def __init__(self, c_in: int, c_out: int, resampling: str = "plain") -> None:
        super().__init__()
        self.project = nn.Conv2d(c_in, c_out, 1)
        self.smooth = resampling == "smooth"

    def forward(self, x: Tensor) -> Tensor:
        small = self.project(x)
        if self.smooth:
            return nn.functional.interpolate(small, scale_factor=2.0, mode="bilinear", align_corners=False)
        return nn.functional.interpolate(small, scale_factor=2.0, mode="nearest")
