"""What a page holds of a scan: voxels small enough to hand on, in the scan's own millimetres, without its header."""

from __future__ import annotations

import gzip
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from verdiff.imaging import Geometry, Volume
from verdiff.imaging.panels import window
from verdiff.imaging.volume import Array

# What a browser shows at ease, and the longest axis that WebGL 2 promises for a volume.
_MOST_VOXELS, _LONGEST = 16_000_000, 2048
# Grey levels kept: finer than any screen shows through a window that is a fifth of them.
_LEVELS = 1023
_BYTE = 255
_FAINTEST, _BRIGHTEST = 0.01, 99.99
_HEADER_BYTES, _DATA_FROM = 348, 352
_TYPES = {"|u1": (2, 8), "<i2": (4, 16)}
_SCANNER = 1
_MM = 2


@dataclass(frozen=True)
class Held:
    """A scan and its maps as a page holds them, each a NIfTI-1 file, gzipped.

    Attributes:
        scan, labels, uncertainty: The files; of uncertainty 0 to 255.
        window: Intensities shown as black and white.
        grid: Grid of all three.
        every: n along x, y and z, where every n-th voxel of the scan is held; 1 is all.
    """

    scan: bytes
    labels: bytes
    uncertainty: bytes
    window: tuple[float, float]
    grid: Geometry
    every: tuple[int, int, int]


def held_of(volume: Volume, labels: Array, uncertainty: Array, *, most: int = _MOST_VOXELS) -> Held:
    """The scan in at most ``most`` voxels: means of blocks of it, and of the maps the voxel in the middle of each.

    Args:
        volume: The scan.
        labels: Label ids [z, y, x] in its grid.
        uncertainty: uint8 [z, y, x], 255 for the most uncertain.
        most: Voxels held.
    """
    every = _every(volume.geometry, most)
    grid = _reduced_grid(volume.geometry, every)
    low, high = window(volume)
    scan, slope, least = _greys(_block_means(volume.array, every))
    return Held(
        nifti_gz(scan, grid, slope=slope, intercept=least),
        nifti_gz(_middles(labels, every).astype(np.uint8), grid),
        nifti_gz(_middles(uncertainty, every).astype(np.uint8), grid),
        (float(low), float(high)),
        grid,
        every,
    )


def reduced(array: Array, grid: Geometry, pitch_mm: float) -> tuple[Array, Geometry]:
    """Labels at about ``pitch_mm``, and their grid: the voxel in the middle of each block; coarser axes stay."""
    steps = [max(1, round(pitch_mm / pitch)) for pitch in grid.spacing_mm]
    every = (steps[0], steps[1], steps[2])
    return _middles(array, every), _reduced_grid(grid, every)


def nifti_gz(array: Array, grid: Geometry, *, slope: float = 1.0, intercept: float = 0.0) -> bytes:
    """An array as a NIfTI-1 file, gzipped, with nothing in its header but its grid and scale.

    Args:
        array: uint8 or int16 [z, y, x].
        grid: Its grid. One that does not say where the patient's sides are is laid out as it was read.
        slope, intercept: Intensity of a stored value: slope * value + intercept.
    """
    stored = np.ascontiguousarray(array)
    kind, bits = _TYPES[stored.dtype.newbyteorder("<").str]
    header = bytearray(_DATA_FROM)
    struct.pack_into("<i", header, 0, _HEADER_BYTES)
    struct.pack_into("<8h", header, 40, 3, *grid.size, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, kind, bits)
    struct.pack_into("<8f", header, 76, 1.0, *grid.spacing_mm, 0, 0, 0, 0)
    struct.pack_into("<3f", header, 108, _DATA_FROM, slope, intercept)
    struct.pack_into("<B", header, 123, _MM)
    struct.pack_into("<2h", header, 252, 0, _SCANNER)
    for row, values in enumerate(ras_affine(grid)[:3]):
        struct.pack_into("<4f", header, 280 + 16 * row, *values)
    struct.pack_into("4s", header, 344, b"n+1\0")
    # Without a time, so that the same scan gives the same page.
    return gzip.compress(bytes(header) + stored.astype(stored.dtype.newbyteorder("<")).tobytes(), 6, mtime=0)


def ras_affine(grid: Geometry) -> NDArray[np.float64]:
    """Indices x, y, z to millimetres as NIfTI has them, [4, 4]."""
    whole = np.eye(4)
    whole[:3, :3] = grid.matrix * np.asarray(grid.spacing_mm)
    whole[:3, 3] = grid.origin_mm
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ whole


def _every(grid: Geometry, most: int) -> tuple[int, int, int]:
    """Steps along x, y, z that keep the scan within limits, the finest axis coarsened first."""
    every = [1, 1, 1]

    def sizes() -> list[int]:
        return [-(-size // step) for size, step in zip(grid.size, every, strict=True)]

    while np.prod(sizes(), dtype=np.int64) > most or max(sizes()) > _LONGEST:
        long = [axis for axis in range(3) if sizes()[axis] > _LONGEST]
        among = long or [axis for axis in range(3) if sizes()[axis] > 1]
        every[min(among, key=lambda axis: grid.spacing_mm[axis] * every[axis])] += 1
    return every[0], every[1], every[2]


def _reduced_grid(grid: Geometry, every: tuple[int, int, int]) -> Geometry:
    size = [max(1, whole // step) for whole, step in zip(grid.size, every, strict=True)]
    spacing = [pitch * step for pitch, step in zip(grid.spacing_mm, every, strict=True)]
    origin = grid.index_to_mm([(step - 1) / 2 for step in every])
    return Geometry(
        (size[0], size[1], size[2]),
        (spacing[0], spacing[1], spacing[2]),
        (float(origin[0]), float(origin[1]), float(origin[2])),
        grid.direction,
        grid.oriented,
    )


def _blocks(array: Array, every: tuple[int, int, int]) -> Array:
    """[z, y, x] as [z, in z, y, in y, x, in x]; what does not fill a block at an end is left out."""
    shape = []
    for size, step in zip(array.shape, every[::-1], strict=True):
        shape += [max(1, size // step), min(size, step)]
    kept: Array = array[tuple(slice(0, shape[axis] * shape[axis + 1]) for axis in (0, 2, 4))]
    return kept.reshape(shape)


def _block_means(array: Array, every: tuple[int, int, int]) -> NDArray[np.float32]:
    if every == (1, 1, 1):
        return array.astype(np.float32)
    means: NDArray[np.float32] = _blocks(array, every).mean(axis=(1, 3, 5), dtype=np.float32)
    return means


def _middles(array: Array, every: tuple[int, int, int]) -> Array:
    blocks = _blocks(array, every)
    middle = [(size - 1) // 2 for size in blocks.shape[1::2]]
    found: Array = blocks[:, middle[0], :, middle[1], :, middle[2]]
    return found


def _greys(array: NDArray[np.float32]) -> tuple[NDArray[np.int16] | NDArray[np.uint8], float, float]:
    """Intensities as whole numbers from 0, with what takes them back: slope and intercept.

    Scans of eight bits stay what they are, in half the bytes.
    """
    least, most = float(array.min()), float(array.max())
    if most - least <= _BYTE and least.is_integer() and (array == np.rint(array)).all():
        return (array - least).astype(np.uint8), 1.0, least
    low, high = (float(value) for value in np.percentile(array, (_FAINTEST, _BRIGHTEST)))
    slope = (high - low) / _LEVELS or 1.0
    return np.clip(np.rint((array - low) / slope), 0, _LEVELS).astype(np.int16), slope, low
