"""A spine of simple solids along a curve, whose vertebrae are known by construction."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from verdiff.imaging import Geometry, Volume, write_array

VERTEBRA, DISC, CANAL = 1, 2, 3
LABELS = {"vertebra": VERTEBRA, "disc": DISC, "canal": CANAL}
PITCH_MM, BODY_MM, TOP_MM = 33.0, 25.0, 6.0
# Voxel axes x, y, z run to posterior, inferior, left, as in a sagittal stack.
SAGITTAL = (0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0)

Array = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Phantom:
    """Labels [z, y, x], the truth (numbers from the lowest up) and the grid; arrays are copies to change at will."""

    labels: Array
    truth: Array
    geometry: Geometry
    along_mm: NDArray[np.float64]
    across_mm: NDArray[np.float64]


def write_scan(path: Path) -> Path:
    """Bright vertebrae, middling elsewhere: the tiny model finds the first and takes the rest for its second."""
    made = spine(4, slices=12, spacing=2.0)
    grey = np.full(made.labels.shape, 540)
    grey[made.labels == VERTEBRA] = 1000
    noise = np.random.default_rng(2).integers(-10, 10, grey.shape)
    volume = Volume((grey + noise).astype(np.int16), made.geometry)
    write_array(volume.array, volume, path)
    return path


@lru_cache(maxsize=4)
def _built(count: int, slices: int, spacing: float) -> Phantom:
    rows, cols = round((count * PITCH_MM + 30) / spacing), round(92 / spacing)
    geometry = Geometry((cols, rows, slices), (spacing, spacing, spacing), (-30.0, 40.0, 900.0), SAGITTAL)
    lateral, down, back = np.indices((slices, rows, cols), dtype=np.float64) * spacing
    lateral -= lateral.max() / 2
    at = np.arange(-30, count * PITCH_MM + 60, 0.5)
    curve = np.stack([at, 26 + 9 * np.sin(at / 45)], axis=1)
    arc = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))])
    arc -= np.interp(0.0, at, arc)
    tangent = np.gradient(curve, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    position = np.stack([down.ravel(), back.ravel()], axis=1)
    nearest = cKDTree(curve).query(position)[1]
    offset = position - curve[nearest]
    across = (offset[:, 1] * tangent[nearest, 0] - offset[:, 0] * tangent[nearest, 1]).reshape(lateral.shape)
    along = arc[nearest].reshape(lateral.shape) - TOP_MM
    index = np.floor(along / PITCH_MM)
    within = along - index * PITCH_MM
    inside = (index >= 0) & (index < count)
    body = (within < BODY_MM) & (np.abs(across) < 15) & (np.abs(lateral) < 19)
    disc = (within > BODY_MM + 1.5) & (within < PITCH_MM - 1.5) & (np.abs(across) < 14) & (np.abs(lateral) < 18)
    canal = np.hypot(across - 23, lateral) < 7
    pedicle = (within > 3) & (within < 13) & (np.abs(np.abs(lateral) - 12) < 4) & (across > 13) & (across < 36)
    lamina = (within > 8) & (within < 24) & (np.abs(lateral) < 16) & (across > 31) & (across < 37)
    process = (within > 12) & (within < 26) & (np.abs(lateral) < 4) & (across > 36) & (across < 56)
    labels = np.zeros(lateral.shape, np.uint8)
    labels[inside & disc] = DISC
    labels[canal] = CANAL
    bone = inside & (body | pedicle | lamina | process)
    labels[bone] = VERTEBRA
    truth = np.where(bone, count - index, 0).astype(np.uint8)
    return Phantom(labels, truth, geometry, along, across)


def spine(count: int = 5, *, slices: int = 21, spacing: float = 2.0) -> Phantom:
    """``count`` whole vertebrae with a disc below each; 21 slices show them whole, 7 the midline without pedicles."""
    made = _built(count, slices, spacing)
    return Phantom(made.labels.copy(), made.truth.copy(), made.geometry, made.along_mm, made.across_mm)


def overlap(instances: Array, truth: Array, number: int) -> float:
    """Dice of one vertebra, whether it was taken for complete or not."""
    found, true = np.isin(instances, (number, 100 + number)), truth == number
    return float(2 * (found & true).sum() / (found.sum() + true.sum()))
