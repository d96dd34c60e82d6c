"""STAPLE: one mask from several, each weighed by how reliable it proves to be.

Warfield, Zou, Wells, "Simultaneous truth and performance level estimation", IEEE TMI 23 (2004), as ITK implements it
for one structure at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from verdiff.errors import InputError
from verdiff.imaging.itk import simpleitk
from verdiff.imaging.volume import Array


@dataclass(frozen=True, eq=False)
class Consensus:
    """What several masks agree on.

    Args:
        label_ids: The structures, in the order of the channels below.
        probabilities: Float32 [K, z, y, x], how likely each voxel belongs to each structure.
        sensitivity: Float64 [R, K], how much of each structure mask r finds (NaN where no mask has it).
        specificity: Float64 [R, K], how much of the rest mask r leaves out (NaN where no mask has it).
    """

    label_ids: tuple[int, ...]
    probabilities: NDArray[np.float32]
    sensitivity: NDArray[np.float64]
    specificity: NDArray[np.float64]

    @property
    def labels(self) -> NDArray[np.uint8]:
        """The most likely structure of each voxel [z, y, x]; background, 0, has what the likeliest one leaves."""
        best = self.probabilities.max(axis=0)
        ids = np.asarray(self.label_ids, dtype=np.uint8)[self.probabilities.argmax(axis=0)]
        return np.where(best > 0.5, ids, np.uint8(0))


def staple(masks: Array, label_ids: Sequence[int], *, iterations: int = 100) -> Consensus:
    """Fuse masks [R, z, y, x] of label ids by expectation maximisation, structure by structure.

    A structure that no mask has stays empty; voxels that all masks agree on are as certain as the data allow.

    Raises:
        InputError: If there are fewer than two masks or no structure to fuse.
    """
    if masks.ndim != 4 or masks.shape[0] < 2 or not label_ids:
        raise InputError(
            f"masks of shape {masks.shape} and {len(label_ids)} structures",
            "at least two masks [R, z, y, x] and one label id",
            "draw more samples, or use the mean of their probabilities",
        )
    raters, structures = masks.shape[0], len(label_ids)
    probabilities = np.zeros((structures, *masks.shape[1:]), dtype=np.float32)
    sensitivity = np.full((raters, structures), np.nan)
    specificity = np.full((raters, structures), np.nan)
    for channel, label in enumerate(label_ids):
        binary = (masks == label).astype(np.uint8)
        if not binary.any():
            continue
        if (binary == binary[0]).all():
            # Nothing to estimate, and where the structure fills the image ITK divides by the empty background.
            probabilities[channel], sensitivity[:, channel], specificity[:, channel] = binary[0], 1.0, 1.0
            continue
        found = _binary(binary, iterations)
        probabilities[channel], sensitivity[:, channel], specificity[:, channel] = found
    return Consensus(tuple(label_ids), probabilities, sensitivity, specificity)


def _binary(
    masks: NDArray[np.uint8], iterations: int
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
    sitk = simpleitk()
    filter_ = sitk.STAPLEImageFilter()
    filter_.SetForegroundValue(1.0)
    filter_.SetMaximumIterations(iterations)
    image = filter_.Execute([sitk.GetImageFromArray(mask) for mask in masks])
    probability = sitk.GetArrayFromImage(image).astype(np.float32)
    return probability, np.asarray(filter_.GetSensitivity()), np.asarray(filter_.GetSpecificity())
