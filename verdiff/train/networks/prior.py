"""The prior network: a U-Net behind the MSFM; it gives the prior mask and all that depends on the image alone."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from verdiff.train.networks.blocks import Downsample, Upsample, group_norm, residual_block
from verdiff.train.networks.model import PriorOutput
from verdiff.train.networks.msfm import MSFM


class PriorNet(nn.Module):
    """Image [N, 1, H, W] in [-1, 1] -> :class:`PriorOutput`; H and W multiples of ``2 ** (len(widths) - 1)``.

    The conditional U-Net of Verdiff-Net section 2.1 (its output is f(b)). The condition features are computed here,
    once a slice, already projected to the widths the denoiser adds them at: what does not change with the step must
    not be paid at every step.

    Args:
        classes: K, the foreground channels.
        widths: Channels at strides 1, 2, 4, ...
        features: Channels of the features for the denoiser by stride, e.g. ``{1: 16, 2: 24, 4: 48}``.
        condition: ``"decoder"`` takes the features from the decoder, ``"stem"`` gives the MSFM's output X at stride 1
            alone, as the paper draws it.
        norm: One of :data:`verdiff.train.networks.blocks.NORMS`.
        pooling: What the MSFM's choice is averaged over, see :class:`~verdiff.train.networks.msfm.MSFM`; None: one
            convolution in the MSFM's place.
        resampling: How maps change their size, one of :data:`verdiff.train.networks.blocks.RESAMPLINGS`.
    """

    def __init__(
        self,
        classes: int,
        widths: tuple[int, ...],
        features: dict[int, int],
        condition: str = "decoder",
        norm: str = "group",
        pooling: str | None = "field",
        resampling: str = "plain",
    ) -> None:
        super().__init__()
        self.strides, self.condition = tuple(sorted(features)), condition
        self.stem = nn.Conv2d(1, widths[0], 3, padding=1) if pooling is None else MSFM(1, widths[0], pooling=pooling)
        self.encoder = nn.ModuleList([residual_block(norm, widths[0], widths[0])])
        self.down = nn.ModuleList()
        for narrow, wide in pairwise(widths):
            self.down.append(Downsample(narrow, wide, resampling))
            self.encoder.append(residual_block(norm, wide, wide))
        self.middle = residual_block(norm, widths[-1], widths[-1])
        self.up, self.decoder = nn.ModuleList(), nn.ModuleList()
        for narrow, wide in zip(widths[-2::-1], widths[:0:-1], strict=True):
            self.up.append(Upsample(wide, narrow, resampling))
            self.decoder.append(residual_block(norm, 2 * narrow, narrow))
        # The blocks of the other norms end with an activation of their own.
        self.norm = group_norm(widths[0]) if norm == "group" else None
        self.head = nn.Conv2d(widths[0], classes, 1)
        sources = {2**level: width for level, width in enumerate(widths)}
        if condition == "stem":
            sources = {1: widths[0]}
        self.project = nn.ModuleList(nn.Conv2d(sources[stride], features[stride], 1) for stride in self.strides)

    def forward(self, image: Tensor) -> PriorOutput:
        stem = self.stem(image)
        h = self.encoder[0](stem)
        skips = [h]
        for down, block in zip(self.down, list(self.encoder)[1:], strict=True):
            h = block(down(h))
            skips.append(h)
        h = self.middle(skips.pop())
        maps = {2 ** len(skips): h}
        for up, block in zip(self.up, self.decoder, strict=True):
            skip = skips.pop()
            h = block(torch.cat([up(h), skip], dim=1))
            maps[2 ** len(skips)] = h
        if self.condition == "stem":
            maps = {1: stem}
        features = tuple(project(maps[stride]) for project, stride in zip(self.project, self.strides, strict=True))
        return PriorOutput(self.head(h if self.norm is None else nn.functional.silu(self.norm(h))), features)
