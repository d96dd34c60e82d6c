"""The fusion ``staple``: samples as raters whose reliability is estimated, slice by slice."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from verdiff.diffusion import Fused, background_and_labels, fuse_mean


def fuse_staple(x0hat: NDArray[np.float32]) -> Fused:
    """The samples' masks fused by STAPLE (:func:`verdiff.imaging.staple.staple`); one sample is its own answer.

    Each slice by itself, so that the answer does not depend on how many are worked on at once. The spread is that of
    the samples, as in :func:`verdiff.diffusion.fuse_mean`.

    Args:
        x0hat: The last x0hat of each sample on [-1, 1], [M, n, K, H, W].
    """
    mean = fuse_mean(x0hat)
    if len(x0hat) == 1:
        return mean
    from verdiff.imaging.staple import staple

    labels = np.stack([background_and_labels((sample + 1) / 2) for sample in x0hat])
    structures = range(1, x0hat.shape[2] + 1)
    slices = [staple(labels[:, index : index + 1], list(structures)) for index in range(x0hat.shape[1])]
    probabilities = np.stack([each[:, 0] for each in slices])
    np.clip(probabilities, 0.0, 1.0, out=probabilities)
    return Fused(probabilities, mean.spread)
