"""STAPLE: one mask from several, each weighed by how reliable it proves to be.

Warfield, Zou, Wells, "Simultaneous truth and performance level estimation", IEEE TMI 23 (2004), as ITK implements it
for one structure at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from verdiff.errors import InputError
from verdiff.imaging.itk import simpleitk
from verdiff.imaging.volume import Array


def staple(masks: Array, label_ids: Sequence[int], *, iterations: int = 100) -> NDArray[np.float32]:
    """Fuse masks [R, z, y, x] of label ids by expectation maximisation, structure by structure.

    A structure that no mask has stays empty; voxels that all masks agree on are as certain as the data allow.

    Returns:
        Float32 [K, z, y, x], how likely each voxel belongs to each structure of ``label_ids``.

    Raises:
        InputError: If there are fewer than two masks or no structure to fuse.
    """
    if masks.ndim != 4 or masks.shape[0] < 2 or not label_ids:
        raise InputError(
            f"masks of shape {masks.shape} and {len(label_ids)} structures",
            "at least two masks [R, z, y, x] and one label id",
            "draw more samples, or use the mean of their probabilities",
        )
    probabilities = np.zeros((len(label_ids), *masks.shape[1:]), dtype=np.float32)
    for channel, label in enumerate(label_ids):
        binary = (masks == label).astype(np.uint8)
        # Where all agree there is nothing to estimate, and where the structure fills the image ITK divides by the empty
        # background.
        agreed = (binary == binary[0]).all()
        probabilities[channel] = binary[0] if agreed else _binary(binary, iterations)
    return probabilities


def _binary(masks: NDArray[np.uint8], iterations: int) -> NDArray[np.float32]:
    sitk = simpleitk()
    filter_ = sitk.STAPLEImageFilter()
    filter_.SetForegroundValue(1.0)
    filter_.SetMaximumIterations(iterations)
    image = filter_.Execute([sitk.GetImageFromArray(mask) for mask in masks])
    probability: NDArray[np.float32] = sitk.GetArrayFromImage(image).astype(np.float32)
    return probability
