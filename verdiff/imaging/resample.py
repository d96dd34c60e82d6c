"""In-plane resampling as two matrix products.

One formula everywhere: the exported pipeline graph computes the same matrices. The filter is the triangle of bilinear
interpolation, widened by the reduction when shrinking so that nothing aliases (Pillow's and PyTorch's antialiased
bilinear); weights at the border are renormalised.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from verdiff.imaging.volume import Array

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


def resize_planes(planes: Array, height: int, width: int) -> NDArray[np.float32]:
    """Planes [..., H, W] of any numeric type resampled to float32 [..., height, width].

    Never holds more than a chunk of the input as float32, and nothing as float64.
    """
    rows, cols = planes.shape[-2:]
    flat = planes.reshape(-1, rows, cols)
    result = np.empty((flat.shape[0], height, width), dtype=np.float32)
    chunk = max(1, _CHUNK_BYTES // max(1, 4 * rows * cols))
    for start in range(0, flat.shape[0], chunk):
        part = np.ascontiguousarray(flat[start : start + chunk], dtype=np.float32)
        target = result[start : start + chunk]
        # The axis that shrinks more goes first: the second product then has less to do.
        if height * cols <= rows * width:
            _resize_cols(_resize_rows(part, np.empty((len(part), height, cols), dtype=np.float32)), target)
        else:
            _resize_rows(_resize_cols(part, np.empty((len(part), rows, width), dtype=np.float32)), target)
    return result.reshape(*planes.shape[:-2], height, width)


def _resize_rows(part: NDArray[np.float32], out: NDArray[np.float32]) -> NDArray[np.float32]:
    if part.shape[1] == out.shape[1]:
        out[:] = part
    else:
        for outputs, inputs, weights in _bands(out.shape[1], part.shape[1]):
            for cols in _tiles(part.shape[2], weights):
                np.matmul(weights, part[:, inputs, cols], out=out[:, outputs, cols])
    return out


def _resize_cols(part: NDArray[np.float32], out: NDArray[np.float32]) -> NDArray[np.float32]:
    if part.shape[2] == out.shape[2]:
        out[:] = part
    else:
        for outputs, inputs, weights in _bands(out.shape[2], part.shape[2]):
            for rows in _tiles(part.shape[1], weights):
                np.matmul(part[:, rows, inputs], weights.T, out=out[:, rows, outputs])
    return out


def _tiles(length: int, weights: NDArray[np.float32]) -> Iterator[slice]:
    """Runs of lines for one product; they depend on one plane's size alone, and so do the result's bits."""
    step = max(1, _PRODUCT // weights.size)
    for start in range(0, length, step):
        yield slice(start, min(start + step, length))


@lru_cache(maxsize=32)
def _bands(n_out: int, n_in: int) -> tuple[tuple[slice, slice, NDArray[np.float32]], ...]:
    """The matrix cut into runs of outputs with the inputs they need: the rest of it is zeros."""
    matrix = resize_matrix(n_out, n_in)
    bands = []
    for start in range(0, n_out, _BAND):
        rows = matrix[start : start + _BAND]
        used = np.flatnonzero(rows.any(axis=0))
        inputs = slice(int(used[0]), int(used[-1]) + 1)
        bands.append((slice(start, start + rows.shape[0]), inputs, np.ascontiguousarray(rows[:, inputs])))
    return tuple(bands)
