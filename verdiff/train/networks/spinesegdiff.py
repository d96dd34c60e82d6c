"""SpineSegDiff: a pre-segmentation starts a truncated chain, whose denoiser sees the image at five levels.

From "Diffusion-Based Semantic Segmentation of Lumbar Spine MRI Scans of Lower Back Pain Patients" (arXiv 2411.10755),
whose denoiser and image encoder are those of Diff-UNet (Xing et al. 2023) in 2D.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from verdiff.errors import DataError
from verdiff.settings import setting
from verdiff.train.networks.blocks import TimeEmbedding
from verdiff.train.networks.model import PriorOutput, SegmentationModel
from verdiff.train.networks.plain_unet import DIFF_UNET_SLOPE, DoubleConv, PlainUNet, UpBlock

LEVELS = 5


@dataclass(frozen=True)
class SpineSegDiffConfig:
    """Sizes of SpineSegDiff's three networks; the ``[network]`` table of SpineSegDiff."""

    presegmentation_widths: tuple[int, ...] = setting(
        (16, 32, 64, 128, 128),
        "Channels of the pre-segmentation at strides 1, 2, 4 and so on; nnU-Net's plan has 32, 64, 128, 256, 512, 512.",
    )
    widths: tuple[int, ...] = setting(
        (16, 16, 32, 64, 128),
        "Channels of image encoder and denoiser at strides 1, 2, 4, 8, 16; Diff-UNet has 64, 64, 128, 256, 512.",
    )
    head_width: int = setting(16, "Channels before the denoiser's last layer; Diff-UNet has 64.")
    embedding: int = setting(128, "Size of the time embedding; Diff-UNet has 512.")

    def __post_init__(self) -> None:
        sizes = (*self.presegmentation_widths, *self.widths, self.head_width, self.embedding)
        if len(self.widths) != LEVELS or len(self.presegmentation_widths) < 2 or min(sizes) < 1:
            raise DataError(
                f"widths = {list(self.widths)}, presegmentation_widths = {list(self.presegmentation_widths)}, "
                f"head_width = {self.head_width}, embedding = {self.embedding}",
                f"{LEVELS} widths, two presegmentation_widths or more, all of at least 1",
                "correct the [network] table of the configuration",
            )

    @property
    def features(self) -> dict[int, int]:
        """Channels of the condition features by stride; at stride 1 two maps lie one behind the other."""
        return {1: 2 * self.widths[0], **{2**level: self.widths[level] for level in range(1, LEVELS)}}

    @property
    def multiple(self) -> int:
        """Height and width of every input are multiples of this."""
        return int(2 ** (max(LEVELS, len(self.presegmentation_widths)) - 1))


class PreSegmentation(nn.Module):
    """All that depends on the image alone: image [N, 1, H, W] -> :class:`PriorOutput`.

    The logits are those of an nnU-Net-style U-Net with deep supervision, the features those of an encoder of its own
    (Diff-UNet's "feature encoder"), one map a level. Diff-UNet also puts the image beside x_t before the denoiser's
    first convolution; a convolution being linear, the image's share of it is computed here, once a slice, and lies in
    the first half of the stride-1 feature.
    """

    def __init__(self, classes: int, config: SpineSegDiffConfig) -> None:
        super().__init__()
        self.unet = PlainUNet(classes, config.presegmentation_widths)
        self.share = nn.Conv2d(1, config.widths[0], 3, padding=1, bias=False)
        self.encoder = nn.ModuleList([DoubleConv(1, config.widths[0], DIFF_UNET_SLOPE)])
        self.encoder.extend(DoubleConv(narrow, wide, DIFF_UNET_SLOPE) for narrow, wide in pairwise(config.widths))

    def forward(self, image: Tensor) -> PriorOutput:
        output: PriorOutput = self.unet(image)
        maps = [self.encoder[0](image)]
        for block in list(self.encoder)[1:]:
            maps.append(block(functional.max_pool2d(maps[-1], 2)))
        first = torch.cat([self.share(image), maps[0]], dim=1)
        return output._replace(features=(first, *maps[1:]))


class DiffUNetDenoiser(nn.Module):
    """x_t [N, K, H, W], timestep [N], prior, features -> logits of x0 [N, K, H, W].

    Diff-UNet's denoising module in 2D: the image encoder's map is added behind the block of each of the five levels,
    the time embedding inside every block. The prior mask is where the chain starts; the denoiser itself does not see
    it, so that argument is unused.
    """

    def __init__(self, classes: int, config: SpineSegDiffConfig) -> None:
        super().__init__()
        widths, dim = config.widths, config.embedding
        self.time = TimeEmbedding(dim)
        self.encoder = nn.ModuleList([DoubleConv(classes, widths[0], DIFF_UNET_SLOPE, embedding=dim)])
        self.encoder.extend(
            DoubleConv(narrow, wide, DIFF_UNET_SLOPE, embedding=dim) for narrow, wide in pairwise(widths)
        )
        outs = (*widths[-2:0:-1], config.head_width)
        lows = (widths[-1], *outs[:-1])
        self.decoder = nn.ModuleList(
            UpBlock(low, skip, out, DIFF_UNET_SLOPE, embedding=dim)
            for low, skip, out in zip(lows, widths[-2::-1], outs, strict=True)
        )
        self.head = nn.Conv2d(config.head_width, classes, 1)

    def forward(self, x: Tensor, timestep: Tensor, prior: Tensor, features: tuple[Tensor, ...]) -> Tensor:
        embedding = self.time(timestep)
        share, first = features[0].chunk(2, dim=1)
        h = self.encoder[0](x, embedding, share) + first
        skips = [h]
        for block, feature in zip(list(self.encoder)[1:], features[1:], strict=True):
            h = block(functional.max_pool2d(h, 2), embedding) + feature
            skips.append(h)
        h = skips.pop()
        for block in self.decoder:
            h = block(h, skips.pop(), embedding)
        out: Tensor = self.head(h)
        return out


class SpineSegDiff(SegmentationModel):
    """SpineSegDiff for K foreground classes.

    Its training, chain and ensemble are configuration: ``[process] name = "ddpm"``, ``[sampling] start = "prior"`` with
    an explicit ``start_step``, ``fusion = "steps"`` or ``"steps-published"`` (docs/systems-diffusion.md).
    """

    def __init__(self, classes: int, config: SpineSegDiffConfig) -> None:
        super().__init__()
        self.classes, self.config = classes, config
        self.prior = PreSegmentation(classes, config)
        self.denoiser = DiffUNetDenoiser(classes, config)
