"""nnU-Net's two-dimensional network (Isensee et al., Nature Methods 2021), MONAI's DynUNet with deep supervision."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from verdiff.errors import DataError
from verdiff.settings import Bounds, setting
from verdiff.train.networks.comparator import Comparator, SinglePassSettings
from verdiff.train.networks.model import PriorOutput

FEWEST_LEVELS = 4


@dataclass(frozen=True)
class NnUNetConfig(SinglePassSettings):
    """The ``[network]`` table of nnU-Net; the sizes are those that Dataset101 gives."""

    planned: bool = setting(
        True, "Plan of `widths`, `pools`, pixel spacing, crop and batch from the data set when a run begins."
    )
    memory_gb: float = setting(8.0, "Memory in GB that the plan may spend of a graphics card.", Bounds(0, above=True))
    widths: tuple[int, ...] = setting(
        (32, 64, 128, 256, 512, 512, 512), "Channels of each level, from the image's resolution down."
    )
    pools: tuple[int, int] = setting(
        (6, 6), "How often rows and columns are halved; the axis with fewer stops being halved first.", Bounds(0)
    )

    def __post_init__(self) -> None:
        if len(self.pools) != 2 or len(self.widths) != max(self.pools) + 1 or len(self.widths) < FEWEST_LEVELS:
            raise DataError(
                f"widths of {len(self.widths)} levels and pools = {self.pools}",
                f"two pools, one level more than the larger, {FEWEST_LEVELS} levels at least",
                "correct [network]",
            )

    @property
    def multiple(self) -> int:
        """What the more often halved axis has to be a multiple of; the other axis is held to it too."""
        return int(2 ** max(self.pools))

    @property
    def multiples(self) -> tuple[int, int]:
        """What rows and columns of a training image have to be multiples of."""
        return int(2 ** self.pools[0]), int(2 ** self.pools[1])


class NnUNet(Comparator):
    """The network of ``config``: strided 3 x 3 convolutions, instance norm, leaky ReLU, transposed convolutions.

    Raises:
        ModuleNotFoundError: MONAI is not installed.
    """

    def __init__(self, classes: int, config: NnUNetConfig) -> None:
        super().__init__(classes, config, _DeeplySupervised(classes, config))


class _DeeplySupervised(nn.Module):
    """The parts of a DynUNet in its own order.

    DynUNet's forward keeps its deep-supervision maps in a list of the module, which cannot be exported, and resamples
    them to the full size, where the loss wants them at their own. All decoder levels but the coarsest have a head
    while training: nnU-Net gives no loss to the two lowest resolutions, of which one is the bottleneck (online
    methods, network training).
    """

    def __init__(self, classes: int, config: NnUNetConfig) -> None:
        from monai.networks.nets.dynunet import DynUNet

        super().__init__()
        levels = len(config.widths)
        strides = [(1, 1), *((1 + (i < config.pools[0]), 1 + (i < config.pools[1])) for i in range(levels - 1))]
        network = DynUNet(
            spatial_dims=2,
            in_channels=1,
            out_channels=classes,
            kernel_size=[3] * levels,
            strides=strides,
            upsample_kernel_size=strides[1:],
            filters=list(config.widths),
            deep_supervision=True,
            deep_supr_num=levels - 3,
        )
        self.enter, self.down, self.bottleneck = network.input_block, network.downsamples, network.bottleneck
        self.up, self.head = network.upsamples, network.output_block
        self.auxiliary_heads = network.deep_supervision_heads

    def forward(self, image: Tensor) -> PriorOutput:
        skips = [self.enter(image)]
        for down in self.down:
            skips.append(down(skips[-1]))
        h, maps = self.bottleneck(skips[-1]), []
        for up in self.up:
            h = up(h, skips.pop())
            maps.append(h)
        logits = self.head(maps.pop())
        if not self.training:
            return PriorOutput(logits)
        return PriorOutput(logits, (), tuple(head(maps.pop()) for head in self.auxiliary_heads))
