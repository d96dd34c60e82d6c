"""What a scan and a mask look like, in a few numbers: those of the training data stand beside those of a scan.

Training measures them of every case, a bundle keeps the least and the most of each, and the runtime compares.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verdiff.imaging.itk import simpleitk
from verdiff.imaging.slicing import SlicePlan
from verdiff.imaging.volume import Array

# Of the range between the two intensities that become -1 and 1: what is below it gives no signal.
DARK = 0.025
# Rows and columns of a mask that are looked at when its parts are counted: every second one.
_STRIDE = 2


def look_of_scan(plan: SlicePlan, array: Array, bounds: tuple[float, float]) -> dict[str, float]:
    """Height, length and width in mm of a scan as its model sees it, its slices, and the share that gives no signal.

    One slice says nothing of the width of the body it is from, so it has none.

    Args:
        plan: The model's slices of it.
        array: Its intensities [z, y, x].
        bounds: The intensities that become -1 and 1.
    """
    rows_mm, cols_mm = plan.pixel_spacing_mm
    found = {
        "rows_mm": plan.scan_rows * rows_mm,
        "columns_mm": plan.scan_cols * cols_mm,
        "dark_share": float(np.count_nonzero(array <= dark_below(bounds)) / array.size),
        "slices": float(plan.slices),
    }
    if plan.slices > 1:
        found["width_mm"] = plan.slices * plan.slice_spacing_mm
    return found


def look_of_mask(
    plan: SlicePlan, labels: Array, ids: Mapping[str, int], array: Array, bounds: tuple[float, float]
) -> dict[str, float]:
    """Largest area in a slice, volume and share without signal of each structure, and how far they hang together.

    Args:
        plan: The model's slices of the scan.
        labels: Label ids [z, y, x] on its grid.
        ids: Name -> id of each structure.
        array: The scan's intensities [z, y, x].
        bounds: The intensities that become -1 and 1.

    Returns:
        ``area_mm2.NAME``, ``volume_ml.NAME`` (of a scan of several slices), ``dark_share.NAME`` of each structure that
        is there, and, of a scan of several slices, ``largest_part``, the share of all structures together that hangs
        together.
    """
    planes, pixel_mm2 = plan.extract(labels), float(np.prod(plan.pixel_spacing_mm))
    dark = array <= dark_below(bounds)
    found: dict[str, float] = {}
    for name, number in ids.items():
        shown = planes == number
        counts = shown.sum(axis=(1, 2))
        total = int(counts.sum())
        if not total:
            continue
        found[f"area_mm2.{name}"] = float(counts.max()) * pixel_mm2
        if plan.slices > 1:
            found[f"volume_ml.{name}"] = total * pixel_mm2 * plan.slice_spacing_mm / 1000
        found[f"dark_share.{name}"] = float(np.count_nonzero((labels == number) & dark) / total)
    # In one slice a vertebra may be in pieces; across slices they hang together.
    if found and plan.slices > 1:
        found["largest_part"] = largest_part(np.isin(planes, list(ids.values())))
    return found


def dark_below(bounds: tuple[float, float]) -> float:
    """The intensity up to which a voxel counts as one without signal."""
    low, high = bounds
    return low + DARK * (high - low)


def largest_part(mask: NDArray[np.bool_]) -> float:
    """The share of a mask [slices, rows, columns] that its largest connected part has; 1 where there is nothing."""
    sitk: Any = simpleitk()
    coarse = np.ascontiguousarray(mask[:, ::_STRIDE, ::_STRIDE], dtype=np.uint8)
    total = int(coarse.sum())
    if not total:
        return 1.0
    parts = sitk.GetArrayFromImage(sitk.ConnectedComponent(sitk.GetImageFromArray(coarse), True))
    return float(np.bincount(parts.ravel())[1:].max() / total)
