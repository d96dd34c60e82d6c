"""Is this array a mask that was taken for a scan? Zero and a few whole numbers, each filling areas of its own."""

from __future__ import annotations

import numpy as np

from verdiff.imaging.volume import Array

# A mask of every vertebra and disc has some sixty labels; an image has more grey values in any of its slices.
_MOST_LABELS = 64
# Of neighbours of which one at least is no background: the least share that is equal within a mask.
_LEAST_EQUAL = 0.7
_LEAST_PIXELS = 30
_PLANES = 24


def labels_of_mask(array: Array) -> int | None:
    """How many labels an array has if it looks like a mask, else None.

    Args:
        array: Intensities [z, y, x].
    """
    planes = array[np.unique(np.linspace(0, len(array) - 1, min(len(array), _PLANES)).astype(int))]
    values: Array = np.unique(planes[0])
    for plane in planes[1:]:
        if len(values) > _MOST_LABELS:
            return None
        values = np.union1d(values, np.unique(plane))
    if not 2 <= len(values) <= _MOST_LABELS or values[0] != 0 or not np.array_equal(values, np.rint(values)):
        return None
    compared = equal = 0
    for axis in (1, 2):
        first, second = np.delete(planes, -1, axis), np.delete(planes, 0, axis)
        inside = (first != values[0]) | (second != values[0])
        compared += int(np.count_nonzero(inside))
        equal += int(np.count_nonzero(inside & (first == second)))
    return len(values) if compared >= _LEAST_PIXELS and equal >= _LEAST_EQUAL * compared else None
