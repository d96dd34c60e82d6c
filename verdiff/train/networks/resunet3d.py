"""3D ResUNet: the 3D U-Net with residual units, from MONAI.

SAFNet cites the weighted Res-UNet of Xiao et al. 2018 (ITME, section III), a 2D network for retinal vessels, for its
"3D ResUnet" and describes it as a U-Net whose every part has a residual connection. That description is built here.
The fixed weight map that gives the cited network its name belongs to fundus images and is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from verdiff.settings import Among, setting
from verdiff.train.networks.model import PriorOutput, SegmentationModel
from verdiff.train.networks.unet3d import UNet3dConfig


@dataclass(frozen=True)
class ResUNet3dConfig(UNet3dConfig):
    """The ``[network]`` table of the 3D ResUNet.

    MONAI's network halves rows and columns before its first level, so it has one level more than the 3D U-Net.
    """

    widths: tuple[int, ...] = setting((32, 64, 128, 256, 320), "Channels of each level.")
    depth_strides: tuple[int, ...] = setting(
        (1, 1, 2, 1),
        "What the slices are divided by from each level to the next, 1 or 2. Rows and columns are always halved.",
        Among((1, 2)),
    )
    units: int = setting(2, "Convolutions in each residual unit going down.")


class ResUNet3dPrior(nn.Module):
    """Image [N, 1, D, H, W] of the window's size -> :class:`PriorOutput` with logits [N, K, D, H, W].

    MONAI's ``UNet`` with ``num_res_units`` (Kerfoot et al. 2019): instance norm and PReLU.
    """

    def __init__(self, classes: int, config: ResUNet3dConfig) -> None:
        from monai.networks.nets.unet import UNet

        super().__init__()
        self.net = UNet(
            spatial_dims=3,
            in_channels=1,
            out_channels=classes,
            channels=config.widths,
            strides=config.steps,  # type: ignore[arg-type]  # a stride an axis, which its convolutions take
            num_res_units=config.units,
        )

    def forward(self, image: Tensor) -> PriorOutput:
        return PriorOutput(self.net(image))


class ResUNet3d(SegmentationModel):
    """3D ResUNet for K structures, in one pass."""

    def __init__(self, classes: int, config: ResUNet3dConfig) -> None:
        super().__init__()
        self.classes, self.config = classes, config
        self.prior, self.denoiser = ResUNet3dPrior(classes, config), None
