"""The plain U-Net of nnU-Net and of Diff-UNet: two convolutions a level, instance norm, leaky ReLU, no residuals."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from verdiff.train.networks.model import PriorOutput

NNUNET_SLOPE, DIFF_UNET_SLOPE = 0.01, 0.1
# nnU-Net leaves its two lowest resolutions without a loss of their own.
UNSUPERVISED = 2


class InstanceNorm(nn.GroupNorm):
    """Instance norm with learned scale and shift, also defined on maps of one pixel, where it gives the shift."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        # On a processor the gradient of groups of one channel takes 5 to 9 times as long in channels-last as through
        # the other layout and back, which was half of a training's time.
        last = x.device.type == "cpu" and x.is_contiguous(memory_format=torch.channels_last)
        if last and torch.is_grad_enabled():
            return self._normed(x.contiguous()).contiguous(memory_format=torch.channels_last)
        return self._normed(x)

    def _normed(self, x: Tensor) -> Tensor:
        # torch.nn.functional.group_norm refuses a single value a channel, at one pixel and a batch of one.
        return torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


class DoubleConv(nn.Module):
    """Twice (3 x 3 convolution, instance norm, leaky ReLU): [N, c_in, H, W] -> [N, c_out, H', W'].

    Args:
        slope: Slope of the leaky ReLU below zero.
        stride: Stride of the first convolution; 2 halves the size, as nnU-Net goes down.
        embedding: Size of a time embedding, added between the two after a projection, as Diff-UNet does; None without.
    """

    def __init__(self, c_in: int, c_out: int, slope: float, *, stride: int = 1, embedding: int | None = None) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(c_in, c_out, 3, stride=stride, padding=1), InstanceNorm(c_out)
        self.conv2, self.norm2 = nn.Conv2d(c_out, c_out, 3, padding=1), InstanceNorm(c_out)
        self.time = None if embedding is None else nn.Linear(embedding, c_out)
        self.act = nn.LeakyReLU(slope)

    def forward(self, x: Tensor, embedding: Tensor | None = None, share: Tensor | None = None) -> Tensor:
        """``share`` [N, c_out, H', W']: what other inputs gave to the first convolution's result."""
        h = self.conv1(x)
        if share is not None:
            h = h + share
        h = self.act(self.norm1(h))
        if self.time is not None and embedding is not None:
            h = h + self.time(embedding)[:, :, None, None]
        out: Tensor = self.act(self.norm2(self.conv2(h)))
        return out


class UpBlock(nn.Module):
    """A transposed convolution to twice the size, the skip beside it, then :class:`DoubleConv`."""

    def __init__(self, c_low: int, c_skip: int, c_out: int, slope: float, *, embedding: int | None = None) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(c_low, c_skip, 2, stride=2)
        self.block = DoubleConv(2 * c_skip, c_out, slope, embedding=embedding)

    def forward(self, low: Tensor, skip: Tensor, embedding: Tensor | None = None) -> Tensor:
        out: Tensor = self.block(torch.cat([skip, self.up(low)], dim=1), embedding)
        return out


class PlainUNet(nn.Module):
    """Image [N, c_in, H, W] -> :class:`PriorOutput` with logits and, in training, those of deep supervision.

    nnU-Net's 2D network (Isensee et al. 2021, online methods, "architecture template"): strided convolutions down,
    transposed ones up, and while training a head at every decoder level above the two lowest. H and W are multiples of
    ``2 ** (len(widths) - 1)``.

    Args:
        classes: K, the foreground channels.
        widths: Channels at strides 1, 2, 4, ...
        c_in: Channels of the image.
    """

    def __init__(self, classes: int, widths: tuple[int, ...], c_in: int = 1) -> None:
        super().__init__()
        self.encoder = nn.ModuleList([DoubleConv(c_in, widths[0], NNUNET_SLOPE)])
        self.encoder.extend(DoubleConv(narrow, wide, NNUNET_SLOPE, stride=2) for narrow, wide in pairwise(widths))
        self.decoder = nn.ModuleList(
            UpBlock(low, skip, skip, NNUNET_SLOPE) for low, skip in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        supervised = max(1, len(widths) - UNSUPERVISED)
        # By ascending stride: the first gives the answer.
        self.heads = nn.ModuleList(nn.Conv2d(width, classes, 1) for width in widths[:supervised])

    def forward(self, image: Tensor) -> PriorOutput:
        skips = [self.encoder[0](image)]
        for block in list(self.encoder)[1:]:
            skips.append(block(skips[-1]))
        h = skips.pop()
        maps: list[Tensor] = []
        for block in self.decoder:
            h = block(h, skips.pop())
            maps.insert(0, h)
        if not self.training:
            return PriorOutput(self.heads[0](h))
        logits, *auxiliary = (head(level) for head, level in zip(self.heads, maps, strict=False))
        return PriorOutput(logits, (), tuple(auxiliary))
