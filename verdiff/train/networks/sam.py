"""SAM's image encoder (Kirillov et al., ICCV 2023) from transformers, with a mask head, trained from scratch."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from verdiff.errors import DataError
from verdiff.settings import Bounds, setting
from verdiff.train.networks.blocks import group_norm
from verdiff.train.networks.comparator import AtFixedSize, Comparator, Logits, SinglePassSettings

PATCH = 16


@dataclass(frozen=True)
class SamConfig(SinglePassSettings):
    """The ``[network]`` table of SAM.

    SAM's smallest encoder, ViT-B, is ``size = 1024, width = 768, depth = 12, heads = 12, window = 14``: 89 M parameters
    and 0.7 TFLOP an image. The default is a ViT of the tiny size (192 channels) that sees 512 x 512 pixels.
    """

    size: int = setting(512, "Rows and columns that every image is resized to, a multiple of 16.")
    width: int = setting(192, "Channels of a token.")
    depth: int = setting(12, "Transformer layers.")
    heads: int = setting(3, "Attention heads, which divide the width.")
    window: int = setting(16, "Rows and columns of an attention window, in tokens.")
    global_layers: tuple[int, ...] = setting(
        (2, 5, 8, 11),
        "Layers that attend to the whole image, counted from 0; SAM spaces four of them evenly.",
        Bounds(0),
    )
    neck: int = setting(256, "Channels of the encoder's output, a multiple of 8.")

    def __post_init__(self) -> None:
        if self.size < PATCH or self.size % PATCH or self.width % self.heads or self.neck % 8:
            raise DataError(
                f"size = {self.size}, width = {self.width}, heads = {self.heads}, neck = {self.neck}",
                f"a size that is a multiple of {PATCH}, heads that divide the width, a neck that is a multiple of 8",
                "correct [network]",
            )
        if any(not 0 <= layer < self.depth for layer in self.global_layers):
            raise DataError(
                f"global_layers = {self.global_layers} of {self.depth} layers",
                f"numbers from 0 to {self.depth - 1}",
                "correct [network]",
            )

    @property
    def multiple(self) -> int:
        """The network resizes its input itself; 16 bounds the number of sizes that a runtime meets."""
        return 16


class Sam(Comparator):
    """Encoder and mask head at SAM's fixed input size, resized to and from the image's.

    Raises:
        ModuleNotFoundError: transformers is not installed.
    """

    def __init__(self, classes: int, config: SamConfig) -> None:
        super().__init__(classes, config, Logits(AtFixedSize(_Sam(classes, config), (config.size, config.size))))


class _Sam(nn.Module):
    """Image [N, 1, size, size] -> logits [N, K, size / 4, size / 4], SAM's own mask resolution.

    SAM's mask decoder answers prompts (points, boxes), of which there are none here. What is left of it, two transposed
    convolutions that enlarge the embedding four times (appendix A, lightweight mask decoder) and one readout a mask, is
    the head: without prompts the readout's weights have nothing to depend on, so they are a 1 x 1 convolution.
    """

    def __init__(self, classes: int, config: SamConfig) -> None:
        from transformers import SamVisionConfig
        from transformers.models.sam.modeling_sam import SamVisionEncoder

        super().__init__()
        settings = SamVisionConfig(
            hidden_size=config.width,
            output_channels=config.neck,
            num_hidden_layers=config.depth,
            num_attention_heads=config.heads,
            num_channels=1,
            image_size=config.size,
            patch_size=PATCH,
            window_size=config.window,
            global_attn_indexes=list(config.global_layers),
            # The library's own value, 1e-10, is for weights that are loaded: from it nothing learns.
            initializer_range=0.02,
        )
        # Plain matrix products: they export as they are, and their cost can be counted.
        settings._attn_implementation = "eager"
        encoder = SamVisionEncoder(settings)
        self.embed, self.position = encoder.patch_embed, encoder.pos_embed
        self.layers, self.neck = encoder.layers, encoder.neck
        half, quarter = config.neck // 4, config.neck // 8
        self.head = nn.Sequential(
            nn.ConvTranspose2d(config.neck, half, 2, stride=2),
            group_norm(half),
            nn.GELU(),
            nn.ConvTranspose2d(half, quarter, 2, stride=2),
            nn.GELU(),
            nn.Conv2d(quarter, classes, 1),
        )

    def forward(self, image: Tensor) -> Tensor:
        tokens = self.embed(image) + self.position
        for layer in self.layers:
            tokens = layer(tokens)
        logits: Tensor = self.head(self.neck(tokens))
        return logits
