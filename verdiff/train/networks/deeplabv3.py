"""DeepLabv3 (Chen et al., arXiv 1706.05587): a dilated ResNet and atrous spatial pyramid pooling."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from verdiff.errors import DataError
from verdiff.settings import Among, OneOf, check_limits, setting
from verdiff.train.networks.blocks import group_norm
from verdiff.train.networks.comparator import Comparator, Logits, SinglePassSettings
from verdiff.train.networks.resnet import BACKBONES, ResNet, widths_of


@dataclass(frozen=True)
class DeepLabV3Config(SinglePassSettings):
    """The ``[network]`` table of DeepLabv3."""

    backbone: str = setting(
        "resnet50", "Network below the pyramid; the paper has the last two.", OneOf(tuple(BACKBONES))
    )
    output_stride: int = setting(16, "Stride of the last stage: 16, or 8 at four times the cost.", Among((8, 16)))
    rates: tuple[int, ...] = setting(
        (6, 12, 18), "Dilation of the pyramid's 3 x 3 branches at output stride 16, doubled at 8 (section 3.3)."
    )
    multi_grid: tuple[int, ...] = setting(
        (1, 2, 4), "Factors on the dilation of the last stage's blocks (section 3.2.1)."
    )
    width: int = setting(256, "Channels of each branch.")

    def __post_init__(self) -> None:
        check_limits(type(self), vars(self), "[network]")
        if not self.rates or not self.multi_grid:
            raise DataError(
                f"rates = {self.rates}, multi_grid = {self.multi_grid}",
                "at least one rate and one factor",
                "correct [network]",
            )

    @property
    def multiple(self) -> int:
        """The output stride."""
        return self.output_stride


class DeepLabV3(Comparator):
    """The pyramid of section 3.3 on the last stage, scores at the output stride, one bilinear upsampling.

    Group norm stands for the paper's batch norm, as in the backbone: the paper itself needs batches of 16 for it.

    Raises:
        ModuleNotFoundError: transformers is not installed.
    """

    def __init__(self, classes: int, config: DeepLabV3Config) -> None:
        super().__init__(classes, config, Logits(_Pyramid(classes, config)))


class _Pyramid(nn.Module):
    def __init__(self, classes: int, config: DeepLabV3Config) -> None:
        super().__init__()
        self.stride = config.output_stride
        self.backbone = ResNet(config.backbone, config.output_stride, config.multi_grid)
        channels, width = widths_of(config.backbone)[-1], config.width
        rates = [rate * 16 // config.output_stride for rate in config.rates]
        self.branches = nn.ModuleList([_convolution(channels, width, 1)])
        self.branches.extend(_convolution(channels, width, 3, rate) for rate in rates)
        # One value a channel: normalising it would leave its place among its group and nothing of its size.
        self.pooled = nn.Sequential(nn.Conv2d(channels, width, 1), nn.ReLU(inplace=True))
        self.merge = _convolution(width * (len(rates) + 2), width, 1)
        self.score = nn.Conv2d(width, classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        high = self.backbone(image)[-1]
        pooled = self.pooled(high.mean(dim=(2, 3), keepdim=True)).expand(-1, -1, *high.shape[2:])
        merged = self.merge(torch.cat([*(branch(high) for branch in self.branches), pooled], dim=1))
        scores = self.score(merged)
        return functional.interpolate(scores, scale_factor=float(self.stride), mode="bilinear", align_corners=False)


def _convolution(c_in: int, c_out: int, size: int, rate: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(c_in, c_out, size, padding=rate * (size // 2), dilation=rate, bias=False)
    return nn.Sequential(convolution, group_norm(c_out), nn.ReLU(inplace=True))
