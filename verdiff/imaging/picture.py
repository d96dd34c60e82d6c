"""The part of a scan that shows anything: without the uniform margins that scanners and archives add around it."""

from __future__ import annotations

import numpy as np

from verdiff.imaging.volume import Array
from verdiff.imaging.voxels import native

Box = tuple[slice, slice, slice]


def picture_of(array: Array) -> Box:
    """The smallest box of an array [z, y, x] that holds every voxel brighter than the darkest.

    Margins say nothing about the patient, but they would move the percentiles of the intensities and the place of the
    spine on a network's grid of pixels, and so the mask. NaN and infinity count as margin where nothing brighter lies
    in their plane. An array in which nothing is brighter is a picture whole.
    """
    array = native(array)
    finite = np.isfinite(array) if array.dtype.kind == "f" else None
    least = array.min() if finite is None else array.min(where=finite, initial=np.inf)

    def shows(axis: int, at: int) -> bool:
        plane = np.moveaxis(array, axis, 0)[at]
        return bool(np.any((plane > least) & np.isfinite(plane)))

    # Most scans have no margin: then two planes of each axis are all that is looked at.
    box = []
    for axis, length in enumerate(array.shape):
        first = next((at for at in range(length) if shows(axis, at)), None)
        if first is None:
            return slice(0, array.shape[0]), slice(0, array.shape[1]), slice(0, array.shape[2])
        last = next(at for at in range(length - 1, -1, -1) if shows(axis, at))
        box.append(slice(first, last + 1))
    return box[0], box[1], box[2]
