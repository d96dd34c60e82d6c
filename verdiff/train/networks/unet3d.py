"""3D U-Net (Çiçek et al. 2016, arXiv 1606.06650), from MONAI."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, nn

from verdiff.settings import Among, setting
from verdiff.train.networks.blocks3d import Size, VolumeSettings, refuse
from verdiff.train.networks.model import PriorOutput, SegmentationModel


@dataclass(frozen=True)
class UNet3dConfig(VolumeSettings):
    """The ``[network]`` table of the 3D U-Net. SAFNet's paper gives no widths for the models it compares with."""

    widths: tuple[int, ...] = setting(
        (32, 64, 128, 256),
        "Channels of each level. The 3D U-Net's paper has 64 after the first level, doubling from level to level.",
    )
    depth_strides: tuple[int, ...] = setting(
        (1, 2, 1),
        "What the slices are divided by from each level to the next, 1 or 2. Rows and columns are always halved. The "
        "paper halves all three; 18 slices can be halved once.",
        Among((1, 2)),
    )

    @property
    def strides(self) -> Size:
        within = 2 ** len(self.depth_strides)
        return math.prod(self.depth_strides), within, within

    @property
    def steps(self) -> list[Size]:
        """Slices, rows and columns are divided by these from each level to the next."""
        return [(stride, 2, 2) for stride in self.depth_strides]

    def __post_init__(self) -> None:
        levels = len(self.widths)
        if levels < 3 or len(self.depth_strides) != levels - 1 or not set(self.depth_strides) <= {1, 2}:
            raise refuse(
                f"widths = {list(self.widths)}, depth_strides = {list(self.depth_strides)}",
                "three levels or more, and from each to the next a stride of 1 or 2",
            )
        super().__post_init__()


class UNet3dPrior(nn.Module):
    """Image [N, 1, D, H, W] of the window's size -> :class:`PriorOutput` with logits [N, K, D, H, W].

    MONAI's ``DynUNet`` with the paper's levels: two 3 x 3 x 3 convolutions each, up again by transposed convolutions.
    Instance norm and leaky ReLU stand for its batch norm and ReLU, since windows come in small batches; it goes down by
    strided convolutions where the paper pools.
    """

    def __init__(self, classes: int, config: UNet3dConfig) -> None:
        from monai.networks.nets.dynunet import DynUNet

        super().__init__()
        self.net = DynUNet(
            spatial_dims=3,
            in_channels=1,
            out_channels=classes,
            kernel_size=[3] * len(config.widths),
            strides=[1, *config.steps],
            upsample_kernel_size=config.steps,
            filters=config.widths,
        )

    def forward(self, image: Tensor) -> PriorOutput:
        return PriorOutput(self.net(image))


class UNet3d(SegmentationModel):
    """3D U-Net for K structures, in one pass."""

    def __init__(self, classes: int, config: UNet3dConfig) -> None:
        super().__init__()
        self.classes, self.config = classes, config
        self.prior, self.denoiser = UNet3dPrior(classes, config), None
