"""The pieces the 3D networks share: settings with a fixed window, convolutions, resizing within slices.

Slices lie far apart and are few, so every network here keeps their number wherever its paper does and strides within
them only. The window a network sees is fixed: its graph is exported at that size.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from verdiff.errors import DataError
from verdiff.settings import setting
from verdiff.train.networks.blocks import group_norm

Size = tuple[int, int, int]
NORMS = ("group", "batch")


@dataclass(frozen=True)
class VolumeSettings:
    """What the ``[network]`` table of every 3D system has."""

    patch: tuple[int, int, int] = setting(
        (18, 256, 128), "Slices, rows and columns of the window that the network sees; the default is SAFNet's."
    )

    @property
    def strides(self) -> Size:
        """Slices, rows and columns of a window are multiples of these."""
        raise NotImplementedError

    @property
    def multiple(self) -> int:
        """Rows and columns of a window are multiples of this."""
        return self.strides[1]

    @property
    def features(self) -> dict[int, int]:
        """None: the models of this kind answer in one pass."""
        return {}

    def __post_init__(self) -> None:
        fits = len(self.patch) == 3 and all(
            length >= stride and length % stride == 0 for length, stride in zip(self.patch, self.strides, strict=True)
        )
        if not fits:
            raise DataError(
                f"patch = {list(self.patch)}",
                f"slices, rows and columns in multiples of {', '.join(map(str, self.strides))}",
                "correct the [network] table of the configuration",
            )


def refuse(found: str, expected: str) -> DataError:
    """The error of a ``[network]`` table with a value that makes no network."""
    return DataError(found, expected, "correct the [network] table of the configuration")


def normalisation(kind: str, channels: int) -> nn.Module:
    """``"batch"`` (the papers') or ``"group"`` (independent of the batch) normalisation of [N, C, D, H, W]."""
    if kind not in NORMS:
        raise refuse(f"norm = {kind!r}", " or ".join(map(repr, NORMS)))
    return nn.BatchNorm3d(channels) if kind == "batch" else group_norm(channels)


def convolution(c_in: int, c_out: int, kernel: int = 3, *, stride: int = 1) -> nn.Conv3d:
    """``kernel`` cubed, padded, with ``stride`` within slices and every slice kept."""
    return nn.Conv3d(c_in, c_out, kernel, stride=(1, stride, stride), padding=kernel // 2)


def dilated(c_in: int, c_out: int, rate: int, size: Size) -> nn.Conv3d:
    """A 3 x 3 x 3 convolution with its taps ``rate`` apart, for a map of ``size``, less the taps that never reach it.

    Along an axis no longer than ``rate`` the two outer taps see only padding, wherever the kernel stands: they
    multiply zeros, and there the kernel is 1 long. The result is that of the full kernel, at a fraction of its cost:
    a rate of 18 on SAFNet's high-level map of 18 x 16 x 8 is a 1 x 1 x 1 convolution.
    """
    slices, rows, cols = (rate < length for length in size)
    kernel = 3 if slices else 1, 3 if rows else 1, 3 if cols else 1
    padding = rate * slices, rate * rows, rate * cols
    return nn.Conv3d(c_in, c_out, kernel, dilation=rate, padding=padding)


def cbr(layer: nn.Conv3d, norm: str) -> nn.Sequential:
    """SAFNet's "CBR" (equations 1 to 3): ``layer``, normalisation, ReLU."""
    return nn.Sequential(layer, normalisation(norm, layer.out_channels), nn.ReLU(inplace=True))


def resize_within_slices(x: Tensor, rows: int, cols: int) -> Tensor:
    """[N, C, D, H, W] -> [N, C, D, rows, cols], bilinear, slice by slice."""
    if x.shape[-2:] == (rows, cols):
        return x
    n, channels, slices = x.shape[:3]
    planes = functional.interpolate(x.flatten(1, 2), (rows, cols), mode="bilinear", align_corners=False)
    return planes.reshape(n, channels, slices, rows, cols)
