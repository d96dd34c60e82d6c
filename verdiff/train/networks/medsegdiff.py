"""MedSegDiff, first version (Wu et al., MIDL 2023, arXiv 2211.00611): dynamic conditional encoding and FF-parser.

The second version (MedSegDiff-V2, 2023), with its anchor and transformer conditions, is another network.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from verdiff.errors import DataError
from verdiff.settings import setting
from verdiff.train.networks.blocks import ResidualBlock, TimeEmbedding, Upsample, group_norm
from verdiff.train.networks.model import PriorOutput, SegmentationModel
from verdiff.train.networks.spectral import FFParser

STAGES = 4
# The middle two of the four stages, where the paper fuses what the image says with what the mask says.
FUSED = (2, 3)


@dataclass(frozen=True)
class MedSegDiffConfig:
    """Sizes of MedSegDiff's two networks; the ``[network]`` table of MedSegDiff."""

    widths: tuple[int, ...] = setting(
        (16, 32, 64, 96, 128),
        "Channels of the stem and the four stages of both encoders, at strides 1, 2, 4, 8, 16. The released code has "
        "six levels of 128 x (1, 1, 2, 2, 4, 4).",
    )
    blocks: tuple[int, ...] = setting(
        (1, 1, 1, 1), "Residual blocks in each stage of the image's encoder; the paper has 3, 4, 6, 3 (ResNet34)."
    )
    heads: int = setting(4, "Heads of the self-attention at the lowest resolution.")
    embedding: int = setting(128, "Size of the time embedding.")

    def __post_init__(self) -> None:
        wrong = len(self.widths) != STAGES + 1 or len(self.blocks) != STAGES
        if wrong or min(*self.widths, *self.blocks, self.heads, self.embedding) < 1 or self.widths[-1] % self.heads:
            raise DataError(
                f"widths = {list(self.widths)}, blocks = {list(self.blocks)}, heads = {self.heads}, "
                f"embedding = {self.embedding}",
                f"{STAGES + 1} widths and {STAGES} blocks of at least 1, the last width a multiple of heads",
                "correct the [network] table of the configuration",
            )

    @property
    def features(self) -> dict[int, int]:
        """Channels of the condition features by stride."""
        return {1: self.widths[0], 2 ** FUSED[0]: self.widths[FUSED[0]]}

    @property
    def multiple(self) -> int:
        """Height and width of every input are multiples of this."""
        return 2**STAGES


class Stage(nn.Module):
    """Half the size, then residual blocks: a stage of the conditional encoder."""

    def __init__(self, c_in: int, c_out: int, blocks: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(c_in, c_out, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(ResidualBlock(c_out, c_out) for _ in range(blocks))

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.down(x)
        for block in self.blocks:
            h = block(h)
        return h


class DynamicFusion(nn.Module):
    """A(m_I, m_x) = (LN(m_I) x LN(m'_x)) x m_I, m'_x = FF-parser(m_x): the paper's dynamic conditional encoding.

    Image features m_I and features m_x of the current mask, both [N, C, H, W], give the image features of this step.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.parser = FFParser(channels)
        # One group: mean and variance over all of C, H and W, a layer norm.
        self.norm_image, self.norm_mask = nn.GroupNorm(1, channels), nn.GroupNorm(1, channels)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        out: Tensor = self.norm_image(image) * self.norm_mask(self.parser(mask)) * image
        return out


class SelfAttention(nn.Module):
    """Attention among the pixels of [N, C, H, W], beside the identity; the backbone's, at its lowest resolution."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads, self.norm = heads, group_norm(channels)
        self.project, self.out = nn.Conv2d(channels, 3 * channels, 1), nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.out.weight)
        if self.out.bias is not None:
            nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        n, c, high, wide = x.shape
        each = c // self.heads
        q, k, v = self.project(self.norm(x)).reshape(n, 3 * self.heads, each, high * wide).chunk(3, dim=1)
        weights = torch.softmax(q.transpose(2, 3) @ k * each**-0.5, dim=-1)
        mixed = (v @ weights.transpose(2, 3)).reshape(n, c, high, wide)
        out: Tensor = x + self.out(mixed)
        return out


class ImageBranch(nn.Module):
    """All that depends on the image alone: image [N, 1, H, W] -> :class:`PriorOutput`.

    The paper's conditional encoder, unfused, with a light decoder and a head of its own, which the released code calls
    the calibration and trains beside the denoiser; here it gives the prior mask. Of the features, that at stride 1 is
    the image's share of the denoiser's first convolution (the released code puts the image beside x_t there); the
    other is the image's map up to the first fusion. What follows the first fusion changes with the step and so belongs
    to the denoiser, which has stages of its own for it.
    """

    def __init__(self, classes: int, config: MedSegDiffConfig) -> None:
        super().__init__()
        widths = config.widths
        self.share = nn.Conv2d(1, widths[0], 3, padding=1, bias=False)
        self.stem = nn.Sequential(nn.Conv2d(1, widths[0], 3, padding=1), ResidualBlock(widths[0], widths[0]))
        self.stages = nn.ModuleList(
            Stage(narrow, wide, blocks) for (narrow, wide), blocks in zip(pairwise(widths), config.blocks, strict=True)
        )
        self.up, self.decoder = nn.ModuleList(), nn.ModuleList()
        for narrow, wide in zip(widths[-2::-1], widths[:0:-1], strict=True):
            self.up.append(Upsample(wide, narrow))
            self.decoder.append(ResidualBlock(2 * narrow, narrow))
        self.norm, self.head = group_norm(widths[0]), nn.Conv2d(widths[0], classes, 1)

    def forward(self, image: Tensor) -> PriorOutput:
        maps = [self.stem(image)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        h = maps[-1]
        for up, block, skip in zip(self.up, self.decoder, maps[-2::-1], strict=True):
            h = block(torch.cat([up(h), skip], dim=1))
        logits = self.head(functional.silu(self.norm(h)))
        return PriorOutput(logits, (self.share(image), maps[FUSED[0]]))


class MedSegDiffDenoiser(nn.Module):
    """x_t [N, K, H, W], timestep [N], prior, features -> the raw output [N, K, H, W].

    The backbone is guided diffusion's U-Net (group norm, SiLU, residual blocks that the time embedding modulates). On
    its way down it hands its maps of the middle two stages, through the FF-parser, to the conditional encoder; that
    ends as E^I, which is added to the mask's own embedding E^x (equation 3) before the decoder. The prior mask has no
    part in the paper's chain, so that argument is unused.
    """

    def __init__(self, classes: int, config: MedSegDiffConfig) -> None:
        super().__init__()
        widths, dim = config.widths, config.embedding
        self.time = TimeEmbedding(dim)
        self.enter = nn.Conv2d(classes, widths[0], 3, padding=1)
        self.down = nn.ModuleList(nn.Conv2d(narrow, wide, 3, stride=2, padding=1) for narrow, wide in pairwise(widths))
        self.encoder = nn.ModuleList(ResidualBlock(width, width, dim) for width in widths)
        self.fusions = nn.ModuleList(DynamicFusion(widths[level]) for level in FUSED)
        self.condition = nn.ModuleList(
            Stage(widths[level - 1], widths[level], config.blocks[level - 1])
            for level in range(FUSED[0] + 1, STAGES + 1)
        )
        self.middle = nn.ModuleList(ResidualBlock(widths[-1], widths[-1], dim) for _ in range(2))
        self.attention = SelfAttention(widths[-1], config.heads)
        self.up, self.decoder = nn.ModuleList(), nn.ModuleList()
        for narrow, wide in zip(widths[-2::-1], widths[:0:-1], strict=True):
            self.up.append(Upsample(wide, narrow))
            self.decoder.append(ResidualBlock(2 * narrow, narrow, dim))
        self.norm, self.head = group_norm(widths[0]), nn.Conv2d(widths[0], classes, 3, padding=1)

    def forward(self, x: Tensor, timestep: Tensor, prior: Tensor, features: tuple[Tensor, ...]) -> Tensor:
        embedding = self.time(timestep)
        share, condition = features
        maps = [self.encoder[0](self.enter(x) + share, embedding)]
        for down, block in zip(self.down, list(self.encoder)[1:], strict=True):
            maps.append(block(down(maps[-1]), embedding))
        condition = self.fusions[0](condition, maps[FUSED[0]])
        condition = self.fusions[1](self.condition[0](condition), maps[FUSED[1]])
        h = maps[-1] + self.condition[1](condition)
        h = self.middle[1](self.attention(self.middle[0](h, embedding)), embedding)
        for up, block, skip in zip(self.up, self.decoder, maps[-2::-1], strict=True):
            h = block(torch.cat([up(h), skip], dim=1), embedding)
        out: Tensor = self.head(functional.silu(self.norm(h)))
        return out


class MedSegDiff(SegmentationModel):
    """MedSegDiff, first version, for K foreground classes; trained with ``[process] name = "ddpm"``."""

    def __init__(self, classes: int, config: MedSegDiffConfig) -> None:
        super().__init__()
        self.classes, self.config = classes, config
        self.prior = ImageBranch(classes, config)
        self.denoiser = MedSegDiffDenoiser(classes, config)
