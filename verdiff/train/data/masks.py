"""Masks on the model's pixels: as one label a pixel, and as the share of each pixel that a structure covers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from verdiff.imaging.slicing import SlicePlan
from verdiff.imaging.volume import Array, Geometry
from verdiff.train.data.cases import IGNORE
from verdiff.train.data.layout import Description

# A pixel of which so much is labelled "ignore" is ignored.
_IGNORED_SHARE = 0.01


def finer(plan: SlicePlan, mask: Geometry) -> SlicePlan:
    """A scan's plan for a mask that has other pixels over the same field of view."""
    if mask.shape == plan.source_shape:
        return plan
    slices, rows, cols = (mask.shape[axis] for axis in plan.permutation)
    spacing = tuple(mask.spacing_mm[2 - axis] for axis in plan.permutation)
    return replace(
        plan,
        source_shape=mask.shape,
        slices=slices,
        scan_rows=rows,
        scan_cols=cols,
        pixel_spacing_mm=(float(spacing[1]), float(spacing[2])),
    )


def label_map(planes: Array, description: Description) -> np.ndarray:
    """Ids of a data set as uint8 label map of the same shape: channel order + 1, :data:`IGNORE` where it says so."""
    labels = np.zeros(planes.shape, np.uint8)
    for channel, value in enumerate(description.labels.values(), start=1):
        labels[planes == value] = channel
    if description.ignore is not None:
        labels[planes == description.ignore] = IGNORE
    return labels


def labels_on(plan: SlicePlan, planes: Array, description: Description) -> np.ndarray:
    """The mask on the model's pixels, uint8 [slices, H, W]: the structure that covers most of one, and half of it.

    Args:
        plan: The mask's.
        planes: Its ids, [slices, rows, columns].
        description: Which ids there are; pixels that touch an ignored one are :data:`IGNORE`.
    """
    labels = np.zeros((len(planes), plan.padded_rows, plan.padded_cols), np.uint8)
    # One structure at a time: a CT with every vertebra its own label would take tens of gigabytes as one-hot floats.
    most = np.zeros(labels.shape, np.float32)
    for channel, value in enumerate(description.labels.values(), start=1):
        covered = _covered(plan, planes == value)
        better = covered > most
        labels[better] = channel
        most[better] = covered[better]
    if description.ignore is not None:
        labels[_covered(plan, planes == description.ignore) > 2 * _IGNORED_SHARE - 1] = IGNORE
    return labels


def share_covered(plan: SlicePlan, planes: Array, description: Description) -> np.ndarray:
    """The share of each of the model's pixels that a structure covers, uint8 [slices, K, H, W], 255 for all of it."""
    shares = [(_covered(plan, planes == value) + 1) * 127.5 for value in description.labels.values()]
    return np.stack([np.rint(share).astype(np.uint8) for share in shares], axis=1)


def _covered(plan: SlicePlan, mask: Array) -> np.ndarray:
    """-1 where a pixel is outside, 1 where it is inside: to_model pads with the darkest value, which is outside."""
    covered: np.ndarray = plan.to_model(2 * mask.astype(np.float32) - 1)[:, 0]
    return covered
