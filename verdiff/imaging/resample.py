"""In-plane resampling as two matrix products.

One formula everywhere: the exported pipeline graph computes the same matrices. The filter is the triangle of bilinear
interpolation, widened by the reduction when shrinking so that nothing aliases (Pillow's and PyTorch's antialiased
bilinear); weights at the border are renormalised.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from verdiff.imaging.volume import Array

# Rows and columns of a plane.
Part = tuple[slice, slice]
# Outputs, the inputs they need, and the weights between them.
Band = tuple[slice, slice, NDArray[np.float32]]

# Planes taken at a time: their float32 copies stay small, and near the processor's cache.
_CHUNK_BYTES = 4 << 20
# Outputs of a line computed by one product: long enough for BLAS, short enough to skip most of the zeros.
_BAND = 32
# Multiplications in one product. OpenBLAS runs up to so many on the calling thread: waking its others costs more than
# it brings here, a hundred times more beside an inference engine's own threads, and their number would change the bits.
_PRODUCT = 1 << 18


@lru_cache(maxsize=32)
def resize_matrix(n_out: int, n_in: int) -> NDArray[np.float32]:
    """Weights [n_out, n_in] that resample a line; rows sum to 1. The field of view stays, the pixel pitch changes.

    With scale = n_out / n_in, support = max(1, 1 / scale) and centre_i = (i + 0.5) / scale - 0.5:
    w_ij = max(0, 1 - |j - centre_i| / support), then each row divided by its sum. Read-only (cached).
    """
    scale = n_out / n_in
    support = max(1.0, 1.0 / scale)
    centre = (np.arange(n_out)[:, None] + 0.5) / scale - 0.5
    weights = np.maximum(0.0, 1.0 - np.abs(np.arange(n_in)[None, :] - centre) / support)
    matrix: NDArray[np.float32] = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    matrix.flags.writeable = False
    return matrix


def resize_planes(
    planes: Array, height: int, width: int, *, source: Part | None = None, target: Part | None = None
) -> NDArray[np.float32]:
    """Planes [..., H, W] of any numeric type resampled to float32 [..., height, width].

    Never holds more than a chunk of the input as float32, and nothing as float64.

    Args:
        planes: What to resample.
        height: Rows of the result.
        width: Columns of the result.
        source: Rows and columns outside of which ``planes`` is zero, so that they need no work.
        target: Rows and columns of the result that are wanted; elsewhere it may be left zero.
    """
    rows, cols = planes.shape[-2:]
    flat = planes.reshape(-1, rows, cols)
    down = _reach(height, rows, source and source[0], target and target[0])
    across = _reach(width, cols, source and source[1], target and target[1])
    whole = down.outputs == slice(0, height) and across.outputs == slice(0, width)
    result = (np.empty if whole else np.zeros)((flat.shape[0], height, width), dtype=np.float32)
    chunk = max(1, _CHUNK_BYTES // max(1, 4 * rows * cols))
    for start in range(0, flat.shape[0], chunk):
        part = np.ascontiguousarray(flat[start : start + chunk], dtype=np.float32)
        goal = result[start : start + chunk]
        # The axis that shrinks more goes first: the second product then has less to do.
        if height * cols <= rows * width:
            between = np.empty((len(part), height, cols), dtype=np.float32)
            _resize_rows(part, between, down, across.inputs)
            _resize_cols(between, goal, across, down.outputs)
        else:
            between = np.empty((len(part), rows, width), dtype=np.float32)
            _resize_cols(part, between, across, down.inputs)
            _resize_rows(between, goal, down, across.outputs)
    return result.reshape(*planes.shape[:-2], height, width)


@dataclass(frozen=True)
class _Reach:
    """What of one axis is computed: ``outputs`` from ``inputs``, as the bands of a matrix or, without any, as it is."""

    outputs: slice
    inputs: slice
    bands: tuple[Band, ...] | None


def _reach(n_out: int, n_in: int, source: slice | None, target: slice | None) -> _Reach:
    source, target = source or slice(0, n_in), target or slice(0, n_out)
    if n_out == n_in:
        both = slice(max(source.start, target.start), min(source.stop, target.stop))
        return _Reach(both, both, None)
    bands = tuple(
        band
        for band in _bands(n_out, n_in)
        if band[0].start < target.stop
        and band[0].stop > target.start
        and band[1].start < source.stop
        and band[1].stop > source.start
    )
    if not bands:
        return _Reach(slice(0, 0), slice(0, 0), bands)
    (first_out, first_in, _), (last_out, last_in, _) = bands[0], bands[-1]
    return _Reach(slice(first_out.start, last_out.stop), slice(first_in.start, last_in.stop), bands)


def _resize_rows(part: NDArray[np.float32], out: NDArray[np.float32], down: _Reach, cols: slice) -> None:
    if down.bands is None:
        out[:, down.outputs, cols] = part[:, down.inputs, cols]
        return
    for outputs, inputs, weights in down.bands:
        for tile in _tiles(cols, weights):
            np.matmul(weights, part[:, inputs, tile], out=out[:, outputs, tile])


def _resize_cols(part: NDArray[np.float32], out: NDArray[np.float32], across: _Reach, rows: slice) -> None:
    if across.bands is None:
        out[:, rows, across.outputs] = part[:, rows, across.inputs]
        return
    for outputs, inputs, weights in across.bands:
        for tile in _tiles(rows, weights):
            np.matmul(part[:, tile, inputs], weights.T, out=out[:, tile, outputs])


def _tiles(lines: slice, weights: NDArray[np.float32]) -> Iterator[slice]:
    """Runs of lines for one product; they depend on one plane's size and parts alone, and so do the result's bits."""
    step = max(1, _PRODUCT // weights.size)
    for start in range(lines.start, lines.stop, step):
        yield slice(start, min(start + step, lines.stop))


@lru_cache(maxsize=32)
def _bands(n_out: int, n_in: int) -> tuple[Band, ...]:
    """The matrix cut into runs of outputs with the inputs they need: the rest of it is zeros."""
    matrix = resize_matrix(n_out, n_in)
    bands = []
    for start in range(0, n_out, _BAND):
        rows = matrix[start : start + _BAND]
        used = np.flatnonzero(rows.any(axis=0))
        inputs = slice(int(used[0]), int(used[-1]) + 1)
        bands.append((slice(start, start + rows.shape[0]), inputs, np.ascontiguousarray(rows[:, inputs])))
    return tuple(bands)
