"""What the two-dimensional comparators share: a model of one pass, and the fixed image size some of them have."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from verdiff.train.networks.model import PriorOutput, SegmentationModel


class SinglePassSettings:
    """A ``[network]`` table without a denoiser: no condition features."""

    @property
    def features(self) -> dict[int, int]:
        """Empty: there is no denoiser to condition."""
        return {}


class Comparator(SegmentationModel):
    """A model that answers in one pass: its prior is all of it, its denoiser is None."""

    def __init__(self, classes: int, config: Any, prior: nn.Module) -> None:
        super().__init__()
        self.classes, self.config = classes, config
        self.prior, self.denoiser = prior, None


class Logits(nn.Module):
    """A network [N, 1, H, W] -> logits [N, K, H, W] as a prior, without features and without deep supervision."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> PriorOutput:
        return PriorOutput(self.network(image))


class AtFixedSize(nn.Module):
    """A network for one image size, for images of any size: bilinear there, bilinear logits back.

    Image [N, 1, H, W] -> logits [N, K, H, W]. The image is stretched to ``size`` (rows, columns) whatever its shape,
    as those who compare such networks do; the distortion is undone on the logits.
    """

    def __init__(self, network: nn.Module, size: tuple[int, int]) -> None:
        super().__init__()
        self.network, self.size = network, size

    def forward(self, image: Tensor) -> Tensor:
        fitted = functional.interpolate(image, self.size, mode="bilinear", align_corners=False)
        logits: Tensor = self.network(fitted)
        return functional.interpolate(logits, image.shape[2:], mode="bilinear", align_corners=False)
