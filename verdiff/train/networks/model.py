"""What every system's network is to training, validation and export: a prior, and for a diffusion a denoiser."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn


class PriorOutput(NamedTuple):
    """What a network says about an image.

    Attributes:
        logits: [N, K, H, W], in 3D [N, K, D, H, W]: K structures, each a sigmoid of its own.
        features: Condition features for the denoiser by ascending stride, [N, C_i, H / stride_i, W / stride_i].
        auxiliary: Logits at lower resolution while training with deep supervision, the finest first.
    """

    logits: Tensor
    features: tuple[Tensor, ...] = ()
    auxiliary: tuple[Tensor, ...] = ()


class NetworkSettings(Protocol):
    """A system's ``[network]`` table: a frozen dataclass of plain values."""

    @property
    def multiple(self) -> int:
        """Height and width of every input are multiples of this."""
        ...

    @property
    def features(self) -> dict[int, int]:
        """Channels of the condition features by stride; empty for a single-pass model."""
        ...


class SegmentationModel(nn.Module):
    """A system's network for K foreground structures.

    Attributes:
        classes: K.
        prior: Image [N, 1, H, W] or [N, 1, D, H, W] in [-1, 1] -> :class:`PriorOutput`. Of a single-pass model it is
            the whole network.
        denoiser: (x_t [N, K, H, W], timestep [N], prior f [N, K, H, W] in [-1, 1], features) -> the raw output
            [N, K, H, W], whose meaning is :mod:`verdiff.train.prediction`'s business; None for a single-pass model.
    """

    classes: int
    config: Any
    prior: nn.Module
    denoiser: nn.Module | None

    def forward(self, x: Tensor, timestep: Tensor, prior: Tensor, features: tuple[Tensor, ...]) -> Tensor:
        """One denoiser pass; the prior network is called on its own, once an image."""
        assert self.denoiser is not None, "a single-pass model has no denoiser"
        raw: Tensor = self.denoiser(x, timestep, prior, features)
        return raw

    def parameters_by_part(self) -> dict[str, int]:
        """Number of parameters of each network."""
        parts = {"prior": self.prior, "denoiser": self.denoiser}
        return {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items() if part is not None}
