"""FCN-8s (Long, Shelhamer, Darrell, CVPR 2015) on a ResNet."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from verdiff.settings import OneOf, check_limits, setting
from verdiff.train.networks.comparator import Comparator, Logits, SinglePassSettings
from verdiff.train.networks.resnet import BACKBONES, ResNet, widths_of


@dataclass(frozen=True)
class FCNConfig(SinglePassSettings):
    """The ``[network]`` table of the FCN."""

    backbone: str = setting(
        "resnet50",
        "Network below the head. The paper has VGG-16 (134 M parameters), of which later work kept the head alone.",
        OneOf(tuple(BACKBONES)),
    )

    def __post_init__(self) -> None:
        check_limits(type(self), vars(self), "[network]")

    @property
    def multiple(self) -> int:
        """The coarsest stride: 32."""
        return 32


class FCN(Comparator):
    """Scores at strides 32, 16 and 8, each brought to the next by a learned 2 x upsampling and added to it.

    Raises:
        ModuleNotFoundError: transformers is not installed.
    """

    def __init__(self, classes: int, config: FCNConfig) -> None:
        super().__init__(classes, config, Logits(_SkipScores(classes, config.backbone)))


class _SkipScores(nn.Module):
    """Section 4.2 and Figure 3 of the paper: 1 x 1 scores, those of the skips zero at first, fused coarse to fine."""

    def __init__(self, classes: int, backbone: str) -> None:
        super().__init__()
        self.backbone = ResNet(backbone)
        _, fine, middle, coarse = widths_of(backbone)
        self.score32 = nn.Conv2d(coarse, classes, 1)
        self.score16, self.score8 = nn.Conv2d(middle, classes, 1), nn.Conv2d(fine, classes, 1)
        self.up32, self.up16 = _bilinear_upsampling(classes), _bilinear_upsampling(classes)
        for score in (self.score16, self.score8):
            nn.init.zeros_(score.weight)

    def forward(self, image: Tensor) -> Tensor:
        _, fine, middle, coarse = self.backbone(image)
        scores = self.up32(self.score32(coarse)) + self.score16(middle)
        scores = self.up16(scores) + self.score8(fine)
        # The last upsampling is fixed in the paper, the others are learned (section 4.1).
        return functional.interpolate(scores, scale_factor=8.0, mode="bilinear", align_corners=False)


def _bilinear_upsampling(classes: int) -> nn.ConvTranspose2d:
    """[N, K, h, w] -> [N, K, 2h, 2w], a transposed convolution for each class that starts as bilinear interpolation."""
    layer = nn.ConvTranspose2d(classes, classes, 4, stride=2, padding=1, groups=classes, bias=False)
    tent = torch.tensor([0.25, 0.75, 0.75, 0.25])
    with torch.no_grad():
        layer.weight.copy_(torch.outer(tent, tent).expand_as(layer.weight))
    return layer
