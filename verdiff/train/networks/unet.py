"""U-Net (Ronneberger et al., MICCAI 2015), from MONAI."""

from __future__ import annotations

from dataclasses import dataclass

from verdiff.errors import DataError
from verdiff.settings import setting
from verdiff.train.networks.comparator import Comparator, Logits, SinglePassSettings

LEVELS = 5


@dataclass(frozen=True)
class UNetConfig(SinglePassSettings):
    """The ``[network]`` table of the U-Net."""

    widths: tuple[int, ...] = setting(
        (32, 64, 128, 256, 512),
        "Channels at strides 1, 2, 4, 8 and 16. The paper has 64, 128, 256, 512, 1024, at four times the cost.",
    )

    def __post_init__(self) -> None:
        if len(self.widths) != LEVELS:
            raise DataError(
                f"widths of {len(self.widths)} levels", f"{LEVELS}, as in the paper's Figure 1", "correct [network]"
            )

    @property
    def multiple(self) -> int:
        """Four max-poolings: 16."""
        return 2 ** (LEVELS - 1)


class UNet(Comparator):
    """MONAI's ``BasicUNet`` in 2D: two 3 x 3 convolutions a level, max-pooling, transposed convolutions.

    It differs from the paper in padding its convolutions, so that the mask is as large as the image, and in instance
    norm behind each: Verdiff-Net trains its comparators with batch norm at batch size 1 (section 3.3), where the two
    are the same while training, and instance norm does not change when training ends.

    Raises:
        ModuleNotFoundError: MONAI is not installed.
    """

    def __init__(self, classes: int, config: UNetConfig) -> None:
        from monai.networks.nets.basic_unet import BasicUNet, UpCat

        network = BasicUNet(
            spatial_dims=2,
            in_channels=1,
            out_channels=classes,
            features=(*config.widths, config.widths[0]),
            act=("relu", {"inplace": True}),
        )
        for block in network.modules():
            if isinstance(block, UpCat):
                # Sizes are multiples of 16, so nothing is ever odd; the check would fix the sizes of an exported graph.
                block.is_pad = False
        super().__init__(classes, config, Logits(network))
