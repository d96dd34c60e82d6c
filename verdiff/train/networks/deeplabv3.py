"""DeepLabv3 (Chen et al., arXiv 1706.05587): a dilated ResNet and atrous spatial pyramid pooling."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from verdiff.errors import DataError
from verdiff.train.networks.blocks import group_norm
from verdiff.train.networks.comparator import Comparator, Logits, SinglePassSettings
from verdiff.train.networks.resnet import ResNet, check_backbone, widths_of


@dataclass(frozen=True)
class DeepLabV3Config(SinglePassSettings):
    """The ``[network]`` table of ``deeplabv3``.

    Attributes:
        backbone: ``resnet18``, ``resnet34``, ``resnet50`` or ``resnet101``; the paper has the last two.
        output_stride: 16 (the paper's for training) or 8, at four times the cost.
        rates: Dilation of the pyramid's three 3 x 3 branches at output stride 16; doubled at 8 (section 3.3).
        multi_grid: Factors on the dilation of the last stage's blocks (section 3.2.1; Table 3's best).
        width: Channels of each branch.
    """

    backbone: str = "resnet50"
    output_stride: int = 16
    rates: tuple[int, ...] = (6, 12, 18)
    multi_grid: tuple[int, ...] = (1, 2, 4)
    width: int = 256

    def __post_init__(self) -> None:
        check_backbone(self.backbone)
        if self.output_stride not in (8, 16) or not self.rates or not self.multi_grid:
            raise DataError(
                f"output_stride = {self.output_stride}, rates = {self.rates}, multi_grid = {self.multi_grid}",
                "output_stride 8 or 16, and at least one rate and one factor",
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
