"""Verdiff-Net whole: the prior network and the denoiser, built from one configuration."""

from __future__ import annotations

from dataclasses import dataclass

from verdiff.errors import DataError
from verdiff.settings import Among, OneOf, check_limits, setting
from verdiff.train.networks.blocks import NORMS, RESAMPLINGS
from verdiff.train.networks.denoiser import Denoiser
from verdiff.train.networks.model import SegmentationModel
from verdiff.train.networks.msfm import POOLINGS
from verdiff.train.networks.prior import PriorNet


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of the two networks; the ``[network]`` table of Verdiff-Net."""

    prior_widths: tuple[int, ...] = setting(
        (16, 32, 64, 128, 192), "Channels of the prior network at strides 1, 2, 4 and so on."
    )
    denoiser_widths: tuple[int, ...] = setting(
        (24, 48, 96), "Channels of the denoiser at `denoiser_stride` times 1, 2, 4 and so on."
    )
    denoiser_stride: int = setting(
        2, "Pixels that the denoiser folds into channels: 1 is the paper's, 2 costs a third a step.", Among((1, 2))
    )
    fusion_width: int = setting(16, "Channels of the denoiser's last fusion at full resolution, for stride 2.")
    condition: str = setting(
        "decoder", "Which of the prior network's maps the denoiser sees.", OneOf(("decoder", "stem"))
    )
    norm: str = setting(
        "group",
        "Normalisation: group is MedSegDiff's, an export folds batch into the convolutions, channel takes each pixel.",
        OneOf(tuple(NORMS)),
    )
    pooling: str = setting(
        "field",
        "What the multi-scale module is averaged over: the whole field (the paper's equation 12), or the body alone.",
        OneOf(POOLINGS),
    )
    resampling: str = setting(
        "plain",
        "How maps change their size: plain is MedSegDiff's, smooth lets a mask depend less on the grid of pixels.",
        OneOf(RESAMPLINGS),
    )
    msfm: bool = setting(True, "Whether the multi-scale module is there, or one convolution (the paper's table 2).")
    nsa: bool = setting(True, "Whether the noise semantic adapters are there (the same table).")

    def __post_init__(self) -> None:
        check_limits(type(self), vars(self), "[network]")
        if self.denoiser_stride * 2 ** (len(self.denoiser_widths) - 1) > 2 ** (len(self.prior_widths) - 1):
            raise DataError(
                f"{len(self.denoiser_widths)} denoiser levels from stride {self.denoiser_stride} on",
                f"no stride beyond the prior network's {2 ** (len(self.prior_widths) - 1)}",
                "give prior_widths more levels or denoiser_widths fewer",
            )

    @property
    def features(self) -> dict[int, int]:
        """Channels of the condition features by stride."""
        if self.condition == "stem":
            return {1: self.denoiser_widths[0] if self.denoiser_stride == 1 else self.fusion_width}
        strides = {self.denoiser_stride * 2**level: width for level, width in enumerate(self.denoiser_widths)}
        return strides if self.denoiser_stride == 1 else {1: self.fusion_width, **strides}

    @property
    def multiple(self) -> int:
        """Height and width of every input are multiples of this."""
        return 2 ** (len(self.prior_widths) - 1)


class VerdiffNet(SegmentationModel):
    """The two networks of Verdiff-Net (section 2.1) for K foreground classes."""

    def __init__(self, classes: int, config: NetworkConfig) -> None:
        super().__init__()
        self.classes, self.config = classes, config
        self.prior = PriorNet(
            classes,
            config.prior_widths,
            config.features,
            config.condition,
            norm=config.norm,
            pooling=config.pooling if config.msfm else None,
            resampling=config.resampling,
        )
        self.denoiser: Denoiser = Denoiser(
            classes,
            config.denoiser_widths,
            config.denoiser_stride,
            tuple(sorted(config.features)),
            config.fusion_width,
            norm=config.norm,
            resampling=config.resampling,
            nsa=config.nsa,
        )
