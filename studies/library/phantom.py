"""Scans of any size that need no data: a column of vertebrae, discs and a canal in a body, in a modality's numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from verdiff.bundle import Manifest
from verdiff.errors import DataError
from verdiff.imaging import Geometry, Volume, write_array

# Pixels of the scan over pixels of the model: a 512 x 512 x 800 CT then has slices of about 700 x 450 model pixels.
PITCH = 0.87
# Signal of T2-weighted MR, and Hounsfield units of CT: air, muscle, vertebra, disc, canal, and the noise of each.
SIGNALS = {"MR": (20, 250, 500, 350, 900, 25), "CT": (-1000, 50, 400, 90, 20, 20)}
VERTEBRA_MM, DISC_MM = 27.0, 8.0


def phantom(manifest: Manifest, size: tuple[int, int, int], *, seed: int) -> Volume:
    """A scan that a model takes as it is: isotropic, of its modality, near its pixel size, along the patient's axes.

    Args:
        manifest: The model's.
        size: Voxels from right to left, from front to back and from feet to head.
        seed: Seed of the noise.

    Raises:
        DataError: A model of films, or one that takes every pixel size.
    """
    if manifest.modality not in SIGNALS or manifest.view == "film" or manifest.spacing_mm is None:
        raise DataError(
            f"a {manifest.view} model of {manifest.modality} at {manifest.spacing_mm} mm",
            "a model that cuts MR or CT volumes into slices of one pixel size",
            "choose another model with --model",
        )
    pitch = PITCH * manifest.spacing_mm
    array = np.empty(size[::-1], np.int16)
    noise = np.random.default_rng(seed).normal(scale=SIGNALS[manifest.modality][-1], size=array.shape[1:])
    parts = _anatomy(manifest.modality, array.shape[1:], pitch)
    for index, plane in enumerate(array):
        in_disc = index * pitch % (VERTEBRA_MM + DISC_MM) >= VERTEBRA_MM
        np.add(parts[int(in_disc)], np.roll(noise, 17 * index), out=plane, casting="unsafe")
    if manifest.modality == "MR":
        np.maximum(array, 0, out=array)
    return Volume(array, Geometry(size, (pitch, pitch, pitch)), manifest.modality)


def write_phantom(path: Path, manifest: Manifest, size: tuple[int, int, int], *, seed: int) -> None:
    """Write a :func:`phantom`.

    Raises:
        DataError: See :func:`phantom`.
        OutputError: The file cannot be written.
    """
    scan = phantom(manifest, size, seed=seed)
    write_array(scan.array, scan, path)


def _anatomy(modality: str, shape: tuple[int, int], pitch: float) -> list[NDArray[np.float64]]:
    """An axial plane through a vertebra and one through a disc, [y, x]."""
    air, muscle, vertebra, disc, canal, _ = SIGNALS[modality]
    y, x = (pitch * (np.arange(length) - (length - 1) / 2) for length in shape)
    y, x = y[:, None], x[None, :]
    half_y, half_x = (0.46 * pitch * length for length in shape)
    ground = np.where((x / half_x) ** 2 + (y / half_y) ** 2 < 1, float(muscle), float(air))
    ground[(x / 11) ** 2 + ((y - 27) / 8) ** 2 < 1] = canal
    body = (x / 22) ** 2 + (y / 17) ** 2 < 1
    return [np.where(body, float(signal), ground) for signal in (vertebra, disc)]
