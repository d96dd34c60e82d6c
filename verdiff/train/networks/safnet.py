"""SAFNet (Yilizati-Yilihamu et al. 2023), the scene-aware fusion network: 3D, one pass, a channel for each structure.

The paper's parts, and what was chosen where it leaves something open or contradicts itself:

- **Features** (figures 2 and 3). A stem, a strided convolution and residual blocks give low, mid and high-level maps at
  1/4, 1/8 and 1/16 within slices, all slices kept, all ``width`` channels. The high-level map is said to come from two
  residual blocks, each of which halves, and yet to be half the mid-level one: here the second keeps the size. The
  channels of the layers before the low-level map are not given (``stem``), nor are the rates of the three convolutions
  "with holes" that end it (here 2).
- **Sizes.** "Dimension splicing" has the high-level map largest and the low-level map smallest, the feature section the
  other way round; the latter agrees with the strides and with the sizes the paper prints (64 x 32, 32 x 16, 16 x 8).
- **ASPP**, then **self-attention** (position, then channel) on the high-level map: see their modules.
- **Multiscale fusion** on the low and mid-level maps. "(1, r)" is read as two dilated convolutions side by side, one
  with rate 1 and one with rate r, whose sum is the "element-wise addition on each branch".
- **Dimension splicing** (equations 6 to 8). The high-level map's mean over space, through a sigmoid, gates the channels
  of the other two. Equation 8 prints the one product R F_l F_m, of two maps of different size; its text says "with F_l
  and F_m respectively", and that is done. Read as printed the high-level map would act through ``width`` numbers alone,
  and neither ASPP nor position attention could say where anything is: so the map itself is what is resized and joined
  as the third. The text sends the pooled vector through attention once more; over a single position that is the
  identity, so attention comes before pooling, as equation 6 has it.
- **Output.** Joined at 1/4, mixed and classified there, and the logits brought to full size: the paper says no more
  than that the joined maps "produce the final result".
- **Loss.** Equation 9 is a binary cross-entropy for each class, so the classes are sigmoid channels.
- **Normalisation.** Batch norm (equation 2) at the paper's batch of 8; ``norm = "group"`` for the smaller batches that
  a processor trains with.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from verdiff.settings import OneOf, check_limits, setting
from verdiff.train.networks.aspp3d import ASPP3d
from verdiff.train.networks.attention3d import ChannelAttention, PositionAttention
from verdiff.train.networks.blocks3d import (
    NORMS,
    Size,
    VolumeSettings,
    cbr,
    convolution,
    dilated,
    normalisation,
    refuse,
    resize_within_slices,
)
from verdiff.train.networks.model import PriorOutput, SegmentationModel

FUSION_RATES = (2, 4, 8, 16)


@dataclass(frozen=True)
class SAFNetConfig(VolumeSettings):
    """The ``[network]`` table of SAFNet; the defaults are the paper's."""

    stem: tuple[int, ...] = setting((32, 64), "Channels at full and at half size, which the paper does not give.")
    width: int = setting(128, "Channels of the low, mid and high-level maps, a multiple of 8.")
    norm: str = setting("batch", "Normalisation; batch is that of equation 2.", OneOf(NORMS))
    aspp: bool = setting(True, "Dilated pyramid on the high level. With the next two off it is the paper's Base.")
    fusion: bool = setting(True, "Dilated fusion on the low and mid levels.")
    attention: bool = setting(True, "Position and channel attention.")

    @property
    def strides(self) -> Size:
        return 1, 16, 16

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.stem) != 2 or min(self.stem) < 1 or self.width < 8 or self.width % 8:
            raise refuse(
                f"stem = {list(self.stem)}, width = {self.width}",
                "two numbers of channels, a width that is a multiple of 8",
            )
        check_limits(type(self), vars(self), "[network]")


class ResidualDown(nn.Module):
    """The residual network of figure 3: [N, c_in, D, H, W] -> [N, c_out, D, H / stride, W / stride].

    A CBR and a strided convolution beside a strided 1 x 1 x 1 CBR, added.
    """

    def __init__(self, c_in: int, c_out: int, norm: str, stride: int = 2) -> None:
        super().__init__()
        self.deep = nn.Sequential(
            cbr(convolution(c_in, c_out), norm),
            convolution(c_out, c_out, stride=stride),
            normalisation(norm, c_out),
        )
        self.short = cbr(convolution(c_in, c_out, 1, stride=stride), norm)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.deep(x) + self.short(x)
        return out


class Features(nn.Module):
    """Image [N, 1, D, H, W] -> low, mid and high-level maps, ``width`` channels at 1/4, 1/8 and 1/16 within slices."""

    def __init__(self, stem: tuple[int, ...], width: int, norm: str) -> None:
        super().__init__()
        narrow, half = stem
        self.stem = nn.Sequential(
            cbr(convolution(1, narrow), norm),
            cbr(convolution(narrow, half, stride=2), norm),
        )
        self.low, self.mid = ResidualDown(half, width, norm), ResidualDown(width, width, norm)
        holes = (cbr(nn.Conv3d(width, width, 3, dilation=2, padding=2), norm) for _ in range(3))
        self.high = nn.Sequential(ResidualDown(width, width, norm), ResidualDown(width, width, norm, stride=1), *holes)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        low = self.low(self.stem(image))
        mid = self.mid(low)
        return low, mid, self.high(mid)


class MultiscaleFusion(nn.Module):
    """Four views of one map, [N, C, D, H, W] -> the same: the section "Multiscale fusion".

    Each branch reduces to C / 4 channels and adds two 3 x 3 x 3 convolutions of the result, with rate 1 and with rate
    2, 4, 8 or 16; the branches are joined.
    """

    def __init__(self, channels: int, size: Size, norm: str) -> None:
        super().__init__()
        quarter = channels // 4
        self.reduce = nn.ModuleList(cbr(convolution(channels, quarter, 1), norm) for _ in FUSION_RATES)
        self.near = nn.ModuleList(cbr(convolution(quarter, quarter), norm) for _ in FUSION_RATES)
        self.far = nn.ModuleList(cbr(dilated(quarter, quarter, rate, size), norm) for rate in FUSION_RATES)

    def forward(self, x: Tensor) -> Tensor:
        views = []
        for reduce, near, far in zip(self.reduce, self.near, self.far, strict=True):
            small = reduce(x)
            views.append(near(small) + far(small))
        return torch.cat(views, dim=1)


class SAFNetPrior(nn.Module):
    """Image [N, 1, D, H, W] of the window's size -> :class:`PriorOutput` with logits [N, K, D, H, W]."""

    def __init__(self, classes: int, config: SAFNetConfig) -> None:
        super().__init__()
        width, norm = config.width, config.norm
        slices, rows, cols = config.patch
        low, mid, high = ((slices, rows // stride, cols // stride) for stride in (4, 8, 16))
        self.features = Features(config.stem, width, norm)
        self.fuse_low = MultiscaleFusion(width, low, norm) if config.fusion else nn.Identity()
        self.fuse_mid = MultiscaleFusion(width, mid, norm) if config.fusion else nn.Identity()
        self.aspp = ASPP3d(width, width, high, norm) if config.aspp else nn.Identity()
        attention = nn.Sequential(PositionAttention(width), ChannelAttention())
        self.attention = attention if config.attention else nn.Identity()
        self.join = cbr(convolution(3 * width, width, 1), norm)
        self.head = convolution(width, classes, 1)

    def forward(self, image: Tensor) -> PriorOutput:
        low, mid, high = self.features(image)
        low, mid = self.fuse_low(low), self.fuse_mid(mid)
        high = self.attention(self.aspp(high))
        gate = torch.sigmoid(high.mean(dim=(2, 3, 4), keepdim=True))
        rows, cols = low.shape[-2:]
        maps = (gate * low, *(resize_within_slices(x, rows, cols) for x in (gate * mid, high)))
        logits = self.head(self.join(torch.cat(maps, dim=1)))
        return PriorOutput(resize_within_slices(logits, *image.shape[-2:]))


class SAFNet(SegmentationModel):
    """SAFNet for K structures; one pass, so there is no denoiser."""

    def __init__(self, classes: int, config: SAFNetConfig) -> None:
        super().__init__()
        self.classes, self.config = classes, config
        self.prior, self.denoiser = SAFNetPrior(classes, config), None
