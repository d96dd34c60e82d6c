"""3D DeepLabv3 and DeepLabv3+, by hand: a residual encoder with dilated last blocks, ASPP, and the "+" decoder.

SAFNet compares with a "3D DeepLabv3", cites DeepLabv3+ for it (its reference 14) and gives no details; both are here,
``decoder`` chooses. No library has either in 3D.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from verdiff.settings import OneOf, check_limits, setting
from verdiff.train.networks.aspp3d import ASPP3d
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

MULTI_GRID = (1, 2, 4)


@dataclass(frozen=True)
class DeepLab3dConfig(VolumeSettings):
    """The ``[network]`` table of 3D DeepLabv3+."""

    widths: tuple[int, ...] = setting(
        (32, 64, 128, 256),
        "Channels at strides 2 (the stem), 4, 8 and 16 within slices; the papers' ResNet-50 has 64 to 2048.",
    )
    blocks: int = setting(2, "Residual blocks at stride 4, and as many at stride 8.")
    pyramid: int = setting(128, "Channels of the pyramid and the decoder; the papers have 256.")
    decoder: bool = setting(True, "Decoder of DeepLabv3+ (Chen et al. 2018, arXiv 1802.02611); without it DeepLabv3.")
    detail: int = setting(48, "Channels that the map at stride 4 is reduced to for the decoder.")
    norm: str = setting("group", "Normalisation; batch, as in the papers, wants large batches.", OneOf(NORMS))

    @property
    def strides(self) -> Size:
        return 1, 16, 16

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.widths) != 4 or self.blocks < 1:
            raise refuse(f"widths = {list(self.widths)}, blocks = {self.blocks}", "four widths, one block or more")
        check_limits(type(self), vars(self), "[network]")


class DilatedResidual(nn.Module):
    """Two 3 x 3 x 3 convolutions with taps ``rate`` apart beside a (projected) identity.

    [N, c_in, D, H, W] -> [N, c_out, D, H / stride, W / stride]; ``size`` is that of the result.
    """

    def __init__(self, c_in: int, c_out: int, norm: str, size: Size, *, stride: int = 1, rate: int = 1) -> None:
        super().__init__()
        first = convolution(c_in, c_out, stride=stride) if rate == 1 else dilated(c_in, c_out, rate, size)
        self.deep = nn.Sequential(cbr(first, norm), dilated(c_out, c_out, rate, size), normalisation(norm, c_out))
        same = c_in == c_out and stride == 1
        self.short = (
            nn.Identity()
            if same
            else nn.Sequential(convolution(c_in, c_out, 1, stride=stride), normalisation(norm, c_out))
        )

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.relu(self.deep(x) + self.short(x))


class DeepLab3dPrior(nn.Module):
    """Image [N, 1, D, H, W] of the window's size -> :class:`PriorOutput` with logits [N, K, D, H, W].

    The encoder strides by 16 within slices; three blocks with dilations 1, 2 and 4 ("multi-grid", Chen et al. 2017,
    arXiv 1706.05587, section 3.2.1) end it, and ASPP with rates 6, 12, 18 and the pooled map follows (section 3.3). The
    paper doubles the three dilations at this stride; a map 8 pixels wide has no room for it.
    """

    def __init__(self, classes: int, config: DeepLab3dConfig) -> None:
        super().__init__()
        stem, low, mid, high = config.widths
        norm = config.norm
        slices, rows, cols = config.patch
        sizes = {stride: (slices, rows // stride, cols // stride) for stride in (4, 8, 16)}

        def level(c_in: int, c_out: int, stride: int) -> nn.Sequential:
            rest = (DilatedResidual(c_out, c_out, norm, sizes[stride]) for _ in range(config.blocks - 1))
            return nn.Sequential(DilatedResidual(c_in, c_out, norm, sizes[stride], stride=2), *rest)

        self.stem = cbr(convolution(1, stem, stride=2), norm)
        self.low, self.mid = level(stem, low, 4), level(low, mid, 8)
        self.high = nn.Sequential(
            DilatedResidual(mid, high, norm, sizes[16], stride=2),
            *(DilatedResidual(high, high, norm, sizes[16], rate=rate) for rate in MULTI_GRID),
        )
        self.aspp = ASPP3d(high, config.pyramid, sizes[16], norm)
        self.detail: nn.Module | None = None
        joined = config.pyramid
        if config.decoder:
            self.detail = cbr(convolution(low, config.detail, 1), norm)
            self.refine = nn.Sequential(
                cbr(convolution(config.pyramid + config.detail, joined), norm), cbr(convolution(joined, joined), norm)
            )
        self.head = convolution(joined, classes, 1)

    def forward(self, image: Tensor) -> PriorOutput:
        low = self.low(self.stem(image))
        x = self.aspp(self.high(self.mid(low)))
        if self.detail is not None:
            rows, cols = low.shape[-2:]
            x = self.refine(torch.cat([resize_within_slices(x, rows, cols), self.detail(low)], dim=1))
        return PriorOutput(resize_within_slices(self.head(x), *image.shape[-2:]))


class DeepLab3d(SegmentationModel):
    """3D DeepLabv3 or DeepLabv3+ for K structures, in one pass."""

    def __init__(self, classes: int, config: DeepLab3dConfig) -> None:
        super().__init__()
        self.classes, self.config = classes, config
        self.prior, self.denoiser = DeepLab3dPrior(classes, config), None
