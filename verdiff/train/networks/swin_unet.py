"""Swin-Unet (Cao et al., ECCV Workshops 2022), its Swin transformer stages from transformers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from verdiff.errors import DataError
from verdiff.settings import setting
from verdiff.train.networks.comparator import AtFixedSize, Comparator, Logits, SinglePassSettings

PATCH = 4


@dataclass(frozen=True)
class SwinUNetConfig(SinglePassSettings):
    """The ``[network]`` table of Swin-Unet; the defaults are the paper's (section 4.2, Swin-T without pretraining)."""

    size: tuple[int, int] = setting(
        (224, 224), "Rows and columns that every image is resized to, multiples of the window at the coarsest stage."
    )
    width: int = setting(96, "Channels at stride 4; they double at each further stage.")
    depths: tuple[int, ...] = setting(
        (2, 2, 2, 2), "Blocks of the encoder's stages at strides 4, 8, 16 and so on; the last is the bottleneck."
    )
    heads: tuple[int, ...] = setting((3, 6, 12, 24), "Attention heads of the stages.")
    window: int = setting(7, "Rows and columns of an attention window, in tokens.")

    def __post_init__(self) -> None:
        coarsest = PATCH * 2 ** (len(self.depths) - 1) * self.window
        if len(self.size) != 2 or any(side < 1 or side % coarsest for side in self.size):
            raise DataError(
                f"size = {self.size} with a window of {self.window} and {len(self.depths)} stages",
                f"two multiples of {coarsest}, so that every stage is whole windows",
                "correct [network]",
            )
        if len(self.depths) != len(self.heads) or any(
            (self.width * 2**stage) % heads for stage, heads in enumerate(self.heads)
        ):
            raise DataError(
                f"width = {self.width}, depths = {self.depths}, heads = {self.heads}",
                "as many heads as depths, and heads that divide the stage's width (doubled at each stage)",
                "correct [network]",
            )

    @property
    def multiple(self) -> int:
        """The network resizes its input itself; 16 bounds the number of sizes that a runtime meets."""
        return 16


class SwinUNet(Comparator):
    """The whole network at its fixed input size, resized to and from the image's.

    Without the paper's stochastic depth: its draws are not a function of the iteration, as all of a run's are.

    Raises:
        ModuleNotFoundError: transformers is not installed.
    """

    def __init__(self, classes: int, config: SwinUNetConfig) -> None:
        super().__init__(classes, config, Logits(AtFixedSize(_SwinUNet(classes, config), config.size)))


class _SwinUNet(nn.Module):
    """Figure 1 of the paper: [N, 1, *size] -> logits [N, K, *size].

    Skips are taken behind a stage's blocks, as the figure draws them; the published code takes them before.
    """

    def __init__(self, classes: int, config: SwinUNetConfig) -> None:
        from transformers import SwinConfig
        from transformers.models.swin.modeling_swin import SwinEmbeddings, SwinPatchMerging, SwinStage

        super().__init__()
        settings = SwinConfig(
            image_size=config.size,
            patch_size=PATCH,
            num_channels=1,
            embed_dim=config.width,
            depths=list(config.depths),
            num_heads=list(config.heads),
            window_size=config.window,
            drop_path_rate=0.0,
        )
        # Plain matrix products: they export as they are, and their cost can be counted.
        settings._attn_implementation = "eager"
        widths = [config.width * 2**stage for stage in range(len(config.depths))]
        self.grids = [
            (config.size[0] // PATCH // 2**stage, config.size[1] // PATCH // 2**stage) for stage in range(len(widths))
        ]

        def stage(index: int) -> Any:
            depth = config.depths[index]
            heads = config.heads[index]
            return SwinStage(settings, widths[index], self.grids[index], depth, heads, [0.0] * depth, downsample=None)

        self.embed = SwinEmbeddings(settings)
        self.encoder = nn.ModuleList(stage(index) for index in range(len(widths)))
        self.merge = nn.ModuleList(SwinPatchMerging(width) for width in widths[:-1])
        self.norm = nn.LayerNorm(widths[-1])
        self.expand, self.fuse, self.decoder = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for index in range(len(widths) - 2, -1, -1):
            self.expand.append(PatchExpanding(widths[index + 1], 2))
            self.fuse.append(nn.Linear(2 * widths[index], widths[index]))
            self.decoder.append(stage(index))
        self.norm_up = nn.LayerNorm(widths[0])
        self.enlarge = PatchExpanding(widths[0], PATCH)
        self.score = nn.Conv2d(widths[0], classes, 1, bias=False)
        self.apply(_initialise)

    def forward(self, image: Tensor) -> Tensor:
        tokens, _ = self.embed(image)
        skips = []
        for index, stage in enumerate(self.encoder):
            if index:
                tokens = self.merge[index - 1](tokens, self.grids[index - 1])
            tokens = stage(tokens, self.grids[index])[0]
            skips.append(tokens)
        tokens = self.norm(skips.pop())
        for expand, fuse, stage in zip(self.expand, self.fuse, self.decoder, strict=True):
            coarse, fine = self.grids[len(skips)], self.grids[len(skips) - 1]
            tokens = fuse(torch.cat([expand(tokens, coarse), skips.pop()], dim=2))
            tokens = stage(tokens, fine)[0]
        tokens = self.enlarge(self.norm_up(tokens), self.grids[0])
        rows, cols = (side * PATCH for side in self.grids[0])
        scores: Tensor = self.score(tokens.transpose(1, 2).unflatten(2, (rows, cols)))
        return scores


class PatchExpanding(nn.Module):
    """Tokens [N, rows * cols, C] -> [N, factor^2 * rows * cols, C_out]: the paper's upsampling (section 3.4).

    A linear layer makes each token's ``factor`` x ``factor`` children. At a factor of 2 they have half its channels,
    at the last one, of 4, all of them.
    """

    def __init__(self, channels: int, factor: int) -> None:
        super().__init__()
        self.factor, self.width = factor, channels // 2 if factor == 2 else channels
        self.expand = nn.Linear(channels, factor**2 * self.width, bias=False)
        self.norm = nn.LayerNorm(self.width)

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        rows, cols = grid
        children = self.expand(tokens).unflatten(2, (self.factor, self.factor, self.width))
        children = children.unflatten(1, (rows, cols)).permute(0, 1, 3, 2, 4, 5)
        tokens = self.norm(children.reshape(-1, self.factor**2 * rows * cols, self.width))
        return tokens


def _initialise(module: nn.Module) -> None:
    # The published code's; transformers initialises only models that are built whole.
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
