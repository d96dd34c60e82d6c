"""Verdiff-Net whole: the prior network and the denoiser, built from one configuration."""

from __future__ import annotations

from dataclasses import dataclass

from verdiff.errors import DataError
from verdiff.train.networks.blocks import NORMS
from verdiff.train.networks.denoiser import Denoiser
from verdiff.train.networks.model import SegmentationModel
from verdiff.train.networks.msfm import POOLINGS
from verdiff.train.networks.prior import PriorNet


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of the two networks; the ``[network]`` table of a model's TOML file.

    Attributes:
        prior_widths: Channels of the prior U-Net at strides 1, 2, 4, ...
        denoiser_widths: Channels of the denoiser at strides ``denoiser_stride`` x 1, 2, 4, ...
        denoiser_stride: 1 (the paper) or 2 (a third of the cost a step).
        fusion_width: Channels of the denoiser's last fusion at full resolution, for stride 2.
        condition: ``"decoder"`` or ``"stem"``: which of the prior network's maps the denoiser sees.
        norm: ``"group"`` (MedSegDiff's), ``"batch"``, which an export folds into the convolutions, or ``"channel"``.
        pooling: ``"field"`` (the paper's Eq. 12) or ``"body"``: what the MSFM's choice is averaged over.
    """

    prior_widths: tuple[int, ...] = (16, 32, 64, 128, 192)
    denoiser_widths: tuple[int, ...] = (24, 48, 96)
    denoiser_stride: int = 2
    fusion_width: int = 16
    condition: str = "decoder"
    norm: str = "group"
    pooling: str = "field"

    def __post_init__(self) -> None:
        for key, value, known in (("norm", self.norm, tuple(NORMS)), ("pooling", self.pooling, POOLINGS)):
            if value not in known:
                raise DataError(f"{key} = {value!r}", f"one of {', '.join(known)}", "correct [network]")
        if self.denoiser_stride not in (1, 2) or self.condition not in ("decoder", "stem"):
            raise DataError(
                f"denoiser_stride = {self.denoiser_stride}, condition = {self.condition!r}",
                "denoiser_stride 1 or 2, condition 'decoder' or 'stem'",
                "correct the [network] table of the configuration",
            )
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
            classes, config.prior_widths, config.features, config.condition, config.norm, config.pooling
        )
        self.denoiser: Denoiser = Denoiser(
            classes,
            config.denoiser_widths,
            config.denoiser_stride,
            tuple(sorted(config.features)),
            config.fusion_width,
            norm=config.norm,
        )
