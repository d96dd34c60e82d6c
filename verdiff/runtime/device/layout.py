"""Where every array of a call lies in the one block of device memory, and so how large that is, before it is taken."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

# TensorRT takes tensor addresses and its own memory at this alignment.
ALIGNMENT = 256


@dataclass(frozen=True)
class DeviceFeature:
    """A condition feature as the engines hold it: [N, channels, H / stride, W / stride]."""

    name: str
    channels: int
    stride: int
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class Need:
    """What one shape of call needs room for.

    Attributes:
        batch: Images of a network call.
        rows: Rows of a padded slice.
        cols: Columns of a padded slice.
        classes: Foreground channels.
        features: Condition features.
        steps: Rows of the sampler's table; 0 for a model without a denoiser.
        noises: Steps that take noise, the start among them.
        samples: Ensemble members of a slice.
        kept: x0hat a sample keeps for fusion: the last one, or one a step.
        chunks: Chunks of ``batch`` slices whose conditions stay at once.
        sample_chunks: Chunks whose samples stay at once.
        activations: Bytes the networks work in.
    """

    batch: int
    rows: int
    cols: int
    classes: int
    features: tuple[DeviceFeature, ...]
    steps: int
    noises: int
    samples: int
    kept: int
    chunks: int
    sample_chunks: int
    activations: int

    @property
    def pixels(self) -> int:
        """Pixels of a padded slice."""
        return self.rows * self.cols

    @property
    def values(self) -> int:
        """Numbers in one batch of maps [B, K, H, W], the largest count that a kernel is given."""
        return self.batch * self.classes * self.pixels

    def alone(self) -> Need:
        """The same need with room for one chunk of slices only."""
        return replace(self, chunks=1, sample_chunks=1)


@dataclass(frozen=True)
class Region:
    """One array in the block.

    Attributes:
        offset: Bytes from the block's beginning.
        shape: Shape of the whole array.
        dtype: Type of its elements.
        stride: Bytes between entries of the first axis; rows of a table start aligned.
    """

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    stride: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.shape[0] * self.stride

    @property
    def count(self) -> int:
        """Elements of one entry of the first axis."""
        return math.prod(self.shape[1:])


@dataclass(frozen=True)
class Layout:
    """Every array of the device path, by name; see :func:`layout_of`."""

    regions: dict[str, Region]
    size: int

    def __getitem__(self, name: str) -> Region:
        return self.regions[name]


def layout_of(need: Need) -> Layout:
    """Lay out the arrays of one shape of call.

    ``image`` [B, 1, H, W]; ``prior`` and the features a chunk, and again as ``in:...`` in the order of a batch's pairs;
    ``x`` [2, B, K, H, W] and ``x0hat`` [2 or a row a step, B, K, H, W], read and written in turn; ``noise`` of the
    start and of each noisy step; ``samples`` [chunks, kept, samples, B, K, H, W]; ``answer``: probabilities,
    spread and uncertainty of a chunk;
    ``flags`` [1 + steps]: whether the prior and each step gave only finite numbers; ``row``, ``timestep`` and ``on``,
    the sampler's table; ``activations``.
    """
    regions: dict[str, Region] = {}
    end = 0
    for name, shape, dtype in _arrays(need):
        kind = np.dtype(dtype)
        stride = math.prod(shape[1:]) * kind.itemsize
        if shape[0] > 1:
            stride = aligned(stride)
        regions[name] = Region(end, shape, kind, stride)
        end = aligned(end + shape[0] * stride)
    return Layout(regions, end)


def aligned(size: int) -> int:
    """``size`` rounded up to the alignment."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def _arrays(need: Need) -> Iterator[tuple[str, tuple[int, ...], DTypeLike]]:
    batch, plane = need.batch, (need.rows, need.cols)
    maps = (batch, need.classes, *plane)
    yield "image", (1, batch, 1, *plane), np.float32
    yield "prior", (need.chunks, *maps), np.float32
    shapes = {f.name: (batch, f.channels, need.rows // f.stride, need.cols // f.stride) for f in need.features}
    for feature in need.features:
        yield feature.name, (need.chunks, *shapes[feature.name]), feature.dtype
    yield "answer", (1, batch, need.classes + 2, *plane), np.float32
    yield "flags", (1, 1 + need.steps), np.int32
    if need.steps:
        yield "in:prior", (1, *maps), np.float32
        for feature in need.features:
            yield f"in:{feature.name}", (1, *shapes[feature.name]), feature.dtype
        yield "x", (2, *maps), np.float32
        yield "x0hat", (max(2, need.kept), *maps), np.float32
        yield "noise", (need.noises, *maps), np.float32
        yield "samples", (need.sample_chunks, need.kept, need.samples, *maps), np.float32
        yield "row", (need.steps, 5), np.float32
        yield "timestep", (need.steps, batch), np.float32
        yield "on", (1, 2), np.float32
    yield "activations", (1, max(1, need.activations)), np.uint8
