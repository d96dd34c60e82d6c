"""The pictures in a preview: a slice with outlined structures, a slice with glowing uncertainty."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from verdiff.imaging.intensity import IntensityRule, intensity_bounds
from verdiff.imaging.padding import darkest_intensity
from verdiff.imaging.resample import resize_planes
from verdiff.imaging.volume import Array, Volume

Colour: TypeAlias = tuple[int, int, int]

# Distinguishable for the colour-blind and on grey (after Okabe and Ito), brightened for a dark page.
PALETTE: tuple[Colour, ...] = (
    (255, 190, 60),
    (80, 200, 255),
    (255, 105, 150),
    (90, 225, 155),
    (190, 150, 255),
    (255, 140, 75),
    (235, 235, 110),
)
_HEAT = np.array([(8, 8, 20), (70, 20, 110), (165, 45, 120), (235, 95, 75), (252, 175, 80), (252, 250, 190)], float)
_BONE_WINDOW = (-220.0, 700.0)
# Drawn this much larger, then reduced: smooth outlines without a drawing library.
FINE = 2


def window(volume: Volume) -> tuple[float, float]:
    """The intensities shown as black and white."""
    # NIfTI does not name the modality, but only Hounsfield units go this far below zero.
    if volume.modality == "CT" or (volume.modality is None and darkest_intensity(volume.array) <= -500):
        return _BONE_WINDOW
    return intensity_bounds(volume.array, IntensityRule("percentile", 0.5, 99.7))


def outlined(grey: Array, plane: Array, colours: Mapping[int, Colour]) -> Array:
    """The slice [rows, cols] in grey with each structure lightly filled and outlined, as [rows, cols, 3]."""
    picture = np.repeat(grey[..., None], 3, axis=2)
    for label, colour in colours.items():
        mask = resize_planes((plane == label).astype(np.uint8), *grey.shape) >= 0.5
        inner = mask
        for _ in range(FINE + 1):
            inner = _eroded(inner)
        picture[mask] = 0.86 * picture[mask] + 0.14 * np.asarray(colour)
        picture[mask & ~inner] = colour
    return picture


def _eroded(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    padded = np.pad(mask, 1)
    centre = padded[1:-1, 1:-1] & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return centre


def heat(values: Array) -> Array:
    """Values in [0, 1] as colours [..., 3]."""
    steps = np.linspace(0, 1, len(_HEAT))
    return np.stack([np.interp(values, steps, _HEAT[:, channel]) for channel in range(3)], axis=-1)


def heated(grey: Array, uncertainty: Array) -> Array:
    """The slice [rows, cols] dimmed, with the uncertain places (1 = undecided) glowing, as [rows, cols, 3]."""
    opacity = np.clip(uncertainty * 2.5, 0, 1)[..., None]
    return 0.4 * grey[..., None] * (1 - opacity) + heat(uncertainty) * opacity
