"""A volume seen through overlapping windows, and their maps put together again with Gaussian weights.

A window's centre counts most (nnU-Net's Gaussian importance weighting, Isensee et al. 2021, Methods). The windows form
a grid and the Gaussian is a product over the axes, so the weights along each axis can be divided by their sum there
once and for all: together the windows weigh 1 everywhere, nothing is divided at the end, and a voxel under one window
alone has that window's value, bit for bit. Windows are visited slab by slab, and what no later window can change is
handed on, so that only the slices under the present windows are held.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from verdiff.errors import VerdiffError

Maps: TypeAlias = NDArray[np.float32]
Shape: TypeAlias = tuple[int, int, int]
Read: TypeAlias = Callable[[slice], Maps]
"""Slices ``start:stop`` of the volume, [n, H, W]."""

Predict: TypeAlias = Callable[[Maps], Maps]
"""Windows [n, 1, D, H, W] -> maps [n, K, D, H, W] that may be averaged: probabilities, or a prior in [-1, 1]."""

OVERLAP = 0.5
# Of a window's length: the standard deviation of its weights, as nnU-Net has it.
SIGMA = 1 / 8
# Of the weight at the centre: the least, so that a voxel at the volume's very corner keeps a weight to divide by.
LEAST_WEIGHT = 1e-3


@dataclass(frozen=True)
class Window:
    """One window: where it lies, and how much its maps count there.

    Attributes:
        place: Slices, rows and columns of the volume, each as long as the patch.
        weights: One line of weights an axis, float32; over all windows of a volume their products sum to 1.
    """

    place: tuple[slice, slice, slice]
    weights: tuple[Maps, Maps, Maps]

    @property
    def shares(self) -> Maps:
        """The weight of every voxel of the window, [D, H, W]."""
        slices, rows, cols = self.weights
        shares: Maps = slices[:, None, None] * rows[:, None] * cols
        return shares


def sliding(shape: Shape, patch: Shape, overlap: float = OVERLAP) -> list[Window]:
    """The windows that cover a volume, by slices, then rows, then columns.

    Along each axis they are as few as leave at least ``overlap`` of a patch in common with the next one, evenly spread
    from one end to the other.

    Args:
        shape: Slices, rows and columns of the volume; on no axis less than the patch.
        patch: Slices, rows and columns of a window.
        overlap: Share of a patch that neighbours have in common, from 0 to less than 1.

    Raises:
        VerdiffError: The volume is smaller than a patch, the patch is empty, or there is no such overlap.
    """
    if not 0 <= overlap < 1 or any(not 1 <= window <= length for length, window in zip(shape, patch, strict=True)):
        raise VerdiffError(
            f"a volume of {_by(shape)}, a patch of {_by(patch)} and an overlap of {overlap!r}",
            "a patch of one voxel or more that fits into the volume, and an overlap from 0 to less than 1",
            "pad the volume to the size of the patch, or correct the model's manifest",
        )
    slices, rows, cols = (_line(length, window, overlap) for length, window in zip(shape, patch, strict=True))
    return [Window((z, y, x), (a, b, c)) for z, a in slices for y, b in rows for x, c in cols]


def fuse_windows(
    shape: Shape,
    patch: Shape,
    read: Read,
    predict: Predict,
    *,
    overlap: float = OVERLAP,
    batch: int = 1,
) -> Iterator[tuple[slice, Maps]]:
    """Maps of a whole volume from those of its windows, a few finished slices at a time.

    Held at any time: the slices under the windows of one slab, a patch deep, with their maps, and ``batch`` windows
    with theirs. The result does not depend on ``batch`` where ``predict`` does not.

    Args:
        shape: Slices, rows and columns of the volume, [D, H, W].
        patch: Slices, rows and columns of a window.
        read: Gives slices of the volume, float32 [n, H, W]; asked for each slice once, from first to last.
        predict: The network.
        overlap: Share of a patch that neighbouring windows have in common.
        batch: Windows handed to ``predict`` at once; the last of a slab may be fewer.

    Yields:
        Which slices, and their maps float32 [K, n, H, W]: in order, each slice once. The array is the caller's own.

    Raises:
        VerdiffError: See :func:`sliding`.
    """
    slabs = _slabs(sliding(shape, patch, overlap))
    depth = patch[0]
    image = np.empty((depth, *shape[1:]), np.float32)
    held: Maps | None = None
    fresh = depth
    for index, windows in enumerate(slabs):
        start = windows[0].place[0].start
        image[depth - fresh :] = read(slice(start + depth - fresh, start + depth))
        for first in range(0, len(windows), batch):
            chosen = windows[first : first + batch]
            maps = predict(np.stack([image[:, *window.place[1:]] for window in chosen])[:, None])
            if held is None:
                held = np.zeros((maps.shape[1], depth, *shape[1:]), np.float32)
            for window, map_ in zip(chosen, maps, strict=True):
                held[:, :, *window.place[1:]] += map_ * window.shares
        assert held is not None
        fresh = slabs[index + 1][0].place[0].start - start if index + 1 < len(slabs) else depth
        yield slice(start, start + fresh), held[:, :fresh].copy()
        for kept in range(depth - fresh):
            image[kept] = image[kept + fresh]
            held[:, kept] = held[:, kept + fresh]
        held[:, depth - fresh :] = 0


def count_windows(shape: Shape, patch: Shape, overlap: float = OVERLAP) -> int:
    """How many windows :func:`sliding` gives."""
    return math.prod(_count(length, window, overlap) for length, window in zip(shape, patch, strict=True))


def _slabs(windows: list[Window]) -> list[list[Window]]:
    """The windows by their first slice."""
    starts = sorted({window.place[0].start for window in windows})
    return [[window for window in windows if window.place[0].start == start] for start in starts]


def _count(length: int, window: int, overlap: float) -> int:
    step = max(1, math.floor(window * (1 - overlap)))
    return 1 + -(-(length - window) // step)


def _line(length: int, window: int, overlap: float) -> list[tuple[slice, Maps]]:
    """Along one axis: where the windows lie, and the share of each voxel that each of them has."""
    count = _count(length, window, overlap)
    starts = [round(index * (length - window) / max(1, count - 1)) for index in range(count)]
    offset = (np.arange(window) - (window - 1) / 2) / (window * SIGMA)
    bell = np.maximum(np.exp(-(offset**2) / 2), LEAST_WEIGHT)
    total = np.zeros(length)
    for start in starts:
        total[start : start + window] += bell
    places = [slice(start, start + window) for start in starts]
    return [(place, (bell / total[place]).astype(np.float32)) for place in places]


def _by(shape: Shape) -> str:
    return " x ".join(map(str, shape))
