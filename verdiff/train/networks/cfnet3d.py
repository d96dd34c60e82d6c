"""CFNet, the cascade fusion network (Zhang et al. 2023, arXiv 2302.06052), in 3D and by hand: SAFNet's comparator.

CFNet moves the fusion of scales into the backbone (its section 3): a stem and a block group at high
resolution, then several stages of one make, each of which extracts maps at three scales and fuses them at the finest,
so that most of the parameters see fused maps. The paper is 2D; its stages work at strides 8, 16 and 32. Here they lie
within slices and are 4, 8 and 16: a window of 256 x 128 has 8 x 4 pixels left at 32. Widths and block counts are
settings; SAFNet does not give those of its 3D version.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from verdiff.settings import setting
from verdiff.train.networks.blocks3d import Size, VolumeSettings, convolution, refuse, resize_within_slices
from verdiff.train.networks.model import PriorOutput, SegmentationModel


@dataclass(frozen=True)
class CFNet3dConfig(VolumeSettings):
    """The ``[network]`` table of CFNet."""

    stem: int = setting(24, "Channels at stride 2.")
    widths: tuple[int, ...] = setting((48, 96, 192), "Channels at strides 4, 8 and 16 within slices.")
    stages: int = setting(3, "How many times the three scales are extracted and fused.")
    blocks: tuple[int, ...] = setting((1, 1, 2), "Focal blocks of each scale in each stage.")
    dilation: int = setting(3, "Dilation of the focal blocks' second depthwise convolution.")

    @property
    def strides(self) -> Size:
        return 1, 16, 16

    def __post_init__(self) -> None:
        super().__post_init__()
        positive = min(self.stem, self.stages, self.dilation, *self.widths, *self.blocks) > 0
        if len(self.widths) != 3 or len(self.blocks) != 3 or not positive:
            raise refuse(
                f"widths = {list(self.widths)}, blocks = {list(self.blocks)}, stages = {self.stages}, "
                f"dilation = {self.dilation}",
                "three widths, three numbers of blocks, all of them positive",
            )


class VoxelNorm(nn.GroupNorm):
    """Layer norm over channels and space together, which needs no change of layout: [N, C, D, H, W] -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__(1, channels)


class FocalBlock(nn.Module):
    """[N, C, D, H, W] -> the same: a ConvNeXt block that sees far (CFNet section 3, "focal block").

    A depthwise convolution and a dilated depthwise one on top of it, each with its own skip connection, then two
    1 x 1 x 1 convolutions, four times as wide between them. The paper's 7 x 7 kernels lie within slices and see one
    slice to each side. The authors' code norms behind each depthwise convolution; here it is before, which trains
    without their layer scale. The dilated one stays in float32: on processors bf16 gives such layers non-finite
    gradients.
    """

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.near = nn.Conv3d(channels, channels, (3, 7, 7), padding=(1, 3, 3), groups=channels)
        self.far = nn.Conv3d(
            channels, channels, (1, 7, 7), padding=(0, 3 * dilation, 3 * dilation), dilation=(1, dilation, dilation),
            groups=channels,
        )  # fmt: skip
        self.norms = nn.ModuleList(VoxelNorm(channels) for _ in range(2))
        self.mix = nn.Sequential(
            VoxelNorm(channels), convolution(channels, 4 * channels, 1), nn.GELU(),
            convolution(4 * channels, channels, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.near(self.norms[0](x))
        with torch.autocast(device_type=x.device.type, enabled=False):
            x = x + self.far(self.norms[1](x.float()))
        out: Tensor = x + self.mix(x)
        return out


class CascadeStage(nn.Module):
    """One stage (CFNet section 3), [N, C, D, H, W] at stride 4 -> the same: maps at strides 4, 8, 16, fused at 4.

    The paper's "transition block": each coarser map through a 1 x 1 x 1 convolution, enlarged, added to the finer one.
    """

    def __init__(self, config: CFNet3dConfig) -> None:
        super().__init__()
        self.groups = nn.ModuleList(
            nn.Sequential(*(FocalBlock(width, config.dilation) for _ in range(count)))
            for width, count in zip(config.widths, config.blocks, strict=True)
        )
        self.down = nn.ModuleList(
            nn.Sequential(VoxelNorm(fine), nn.Conv3d(fine, coarse, (1, 2, 2), stride=(1, 2, 2)))
            for fine, coarse in pairwise(config.widths)
        )
        self.up = nn.ModuleList(
            nn.Sequential(VoxelNorm(coarse), convolution(coarse, fine, 1)) for fine, coarse in pairwise(config.widths)
        )

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.groups[0](x)]
        for down, group in zip(self.down, list(self.groups)[1:], strict=True):
            maps.append(group(down(maps[-1])))
        fused = maps.pop()
        for up in reversed(list(self.up)):
            finer = maps.pop()
            fused = finer + resize_within_slices(up(fused), *finer.shape[-2:])
        return fused


class CFNet3dPrior(nn.Module):
    """Image [N, 1, D, H, W] of the window's size -> :class:`PriorOutput` with logits [N, K, D, H, W].

    The last stage's fused map is classified at stride 4, and the logits are brought to full size.
    """

    def __init__(self, classes: int, config: CFNet3dConfig) -> None:
        super().__init__()
        width = config.widths[0]
        self.stem = nn.Sequential(
            convolution(1, config.stem, stride=2), VoxelNorm(config.stem), nn.GELU(),
            convolution(config.stem, width, stride=2), VoxelNorm(width), FocalBlock(width, config.dilation),
        )  # fmt: skip
        self.stages = nn.Sequential(*(CascadeStage(config) for _ in range(config.stages)))
        self.head = nn.Sequential(
            VoxelNorm(width), convolution(width, width), nn.GELU(), convolution(width, classes, 1)
        )

    def forward(self, image: Tensor) -> PriorOutput:
        return PriorOutput(resize_within_slices(self.head(self.stages(self.stem(image))), *image.shape[-2:]))


class CFNet3d(SegmentationModel):
    """CFNet in 3D for K structures, in one pass."""

    def __init__(self, classes: int, config: CFNet3dConfig) -> None:
        super().__init__()
        self.classes, self.config = classes, config
        self.prior, self.denoiser = CFNet3dPrior(classes, config), None
