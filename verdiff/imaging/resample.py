"""In-plane resampling as two matrix products.

One formula everywhere: the exported pipeline graph computes the same matrices. The filter is the triangle of bilinear
interpolation, widened by the reduction when shrinking so that nothing aliases (Pillow's and PyTorch's antialiased
bilinear); weights at the border are renormalised.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from verdiff.imaging.volume import Array

# Planes converted to float32 at a time: keeps the copy of an integer or float16 volume small.
_CHUNK_BYTES = 32 << 20
# Outputs of a line computed by one product: long enough for BLAS, short enough to skip most of the zeros.
_BAND = 64


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
        result[start : start + chunk] = _resize(part, height, width)
    return result.reshape(*planes.shape[:-2], height, width)


def _resize(part: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    rows, cols = part.shape[-2:]
    # The axis that shrinks more goes first: the second product then has less to do.
    if height * cols <= rows * width:
        return _resize_cols(_resize_rows(part, height), width)
    return _resize_rows(_resize_cols(part, width), height)


def _resize_rows(part: NDArray[np.float32], height: int) -> NDArray[np.float32]:
    if part.shape[-2] == height:
        return part
    result = np.empty((part.shape[0], height, part.shape[2]), dtype=np.float32)
    for outputs, inputs, weights in _bands(height, part.shape[1]):
        np.matmul(weights, part[:, inputs], out=result[:, outputs])
    return result


def _resize_cols(part: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    if part.shape[-1] == width:
        return part
    # One product over all rows of all planes, where numpy would call BLAS once a plane.
    lines = part.reshape(-1, part.shape[-1])
    result = np.empty((lines.shape[0], width), dtype=np.float32)
    for outputs, inputs, weights in _bands(width, part.shape[2]):
        np.matmul(lines[:, inputs], weights.T, out=result[:, outputs])
    return result.reshape(*part.shape[:-1], width)


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
