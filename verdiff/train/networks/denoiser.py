"""The denoiser: the network that is run at every step, so as light as it can be made."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from verdiff.train.networks.blocks import NORMS, Downsample, TimeEmbedding, Upsample, residual_block
from verdiff.train.networks.nsa import NSA


class Denoiser(nn.Module):
    """x_t [N, K, H, W], timestep [N], prior f [N, K, H, W], features -> the raw output [N, K, H, W].

    What the raw output means (logits of x0, epsilon or v) is :mod:`verdiff.train.prediction`'s business. The encoder
    is MedSegDiff's backbone with an NSA behind each level's residual block (Verdiff-Net section 2.4); the features
    that :class:`~verdiff.train.networks.prior.PriorNet` computed once are added at each level.

    Args:
        classes: K, the foreground channels.
        widths: Channels a level, at strides ``stride``, ``2 * stride``, ...
        stride: 1 works at the image's own resolution throughout, as the paper does. 2 folds 2 x 2 pixels into
            channels first and returns to full resolution in one last fusion with the stride-1 feature: a third of
            the cost.
        feature_strides: The strides at which features come, ascending, as the prior network gives them.
        fusion_width: Channels of that last fusion.
        embedding: Size of the time embedding.
        norm: One of :data:`verdiff.train.networks.blocks.NORMS`.
        resampling: How maps change their size, one of :data:`verdiff.train.networks.blocks.RESAMPLINGS`.
        nsa: Whether the adapters are there.
    """

    FOLDABLE = (("fuse", "norm"),)

    def __init__(
        self,
        classes: int,
        widths: tuple[int, ...],
        stride: int,
        feature_strides: tuple[int, ...],
        fusion_width: int = 16,
        embedding: int = 96,
        norm: str = "group",
        resampling: str = "plain",
        nsa: bool = True,
    ) -> None:
        super().__init__()
        self.stride, self.feature_strides = stride, feature_strides
        self.time = TimeEmbedding(embedding)
        self.enter = nn.Conv2d(2 * classes * stride**2, widths[0], 3, padding=1)
        self.encoder, self.adapters, self.down = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(widths):
            if level:
                self.down.append(Downsample(widths[level - 1], width, resampling))
            self.encoder.append(residual_block(norm, width, width, embedding))
            if nsa:
                self.adapters.append(NSA(width))
        self.middle = residual_block(norm, widths[-1], widths[-1], embedding)
        self.up, self.decoder = nn.ModuleList(), nn.ModuleList()
        for narrow, wide in zip(widths[-2::-1], widths[:0:-1], strict=True):
            self.up.append(Upsample(wide, narrow, resampling))
            self.decoder.append(residual_block(norm, 2 * narrow, narrow, embedding))
        self.restore = nn.Identity() if stride == 1 else Upsample(widths[0], fusion_width, resampling)
        last = widths[0] if stride == 1 else fusion_width
        self.fuse = nn.Conv2d(last + 2 * classes, last, 3, padding=1)
        self.norm, self.head = NORMS[norm](last), nn.Conv2d(last, classes, 3, padding=1)

    def forward(self, x: Tensor, timestep: Tensor, prior: Tensor, features: tuple[Tensor, ...]) -> Tensor:
        embedding = self.time(timestep)
        by_stride = dict(zip(self.feature_strides, features, strict=True))
        mask = torch.cat([x, prior], dim=1)
        foreground = (prior.amax(dim=1, keepdim=True) + 1) / 2
        if self.stride > 1:
            foreground = nn.functional.avg_pool2d(foreground, self.stride)
        h = self.enter(nn.functional.pixel_unshuffle(mask, self.stride) if self.stride > 1 else mask)
        skips: list[Tensor] = []
        for level, block in enumerate(self.encoder):
            if level:
                h = self.down[level - 1](h)
                foreground = nn.functional.avg_pool2d(foreground, 2)
            feature = by_stride.get(self.stride * 2**level)
            if feature is not None:
                h = h + feature
            h = block(h, embedding)
            if self.adapters:
                h = self.adapters[level](h, foreground)
            skips.append(h)
        h = self.middle(skips.pop(), embedding)
        for up, block in zip(self.up, self.decoder, strict=True):
            h = block(torch.cat([up(h), skips.pop()], dim=1), embedding)
        h = self.restore(h)
        if self.stride > 1 and 1 in by_stride:
            h = h + by_stride[1]
        h = self.fuse(torch.cat([h, mask], dim=1))
        out: Tensor = self.head(nn.functional.silu(self.norm(h)))
        return out
