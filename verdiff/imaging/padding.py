"""The number with which scanners and resampling tools fill what lies outside of the measured field: -1024 to -32768.

It is no intensity. Taken for one it shifts the percentiles of an MR and makes it look like a CT in Hounsfield units.
"""

from __future__ import annotations

import numpy as np

from verdiff.imaging.volume import Array

# Air has -1000 Hounsfield units; a padding value lies there or below.
_HIGHEST = -500.0
# The least share of the voxels that makes a value padding, and the most that may lie between it and half of it, as
# a part of the padding: where an interpolation has mixed the two. In a CT without padding air and lungs lie there.
_LEAST_SHARE = 1e-3
_MOST_BETWEEN = 0.25


def padding_below(array: Array) -> float | None:
    """The number up to which voxels are padding, or None where nothing is padded.

    Padding is the darkest value there is, if it is far below zero, many voxels have it, and hardly any lie between it
    and half of it. What does lie there is counted as padding too: it is mixed of padding and image at its edge.

    Args:
        array: Intensities [z, y, x] of any number type; NaN and infinity count as no padding.
    """
    if array.dtype.kind not in "if" or array.size == 0:
        return None
    darkest = float(array.min())
    if not np.isfinite(darkest) or darkest > _HIGHEST:
        return None
    middle = darkest / 2
    padded = between = 0
    for plane in array:
        padded += int(np.count_nonzero(plane == darkest))
        between += int(np.count_nonzero(plane <= middle))
    between -= padded
    if padded < _LEAST_SHARE * array.size or between > _MOST_BETWEEN * padded or padded + between == array.size:
        return None
    # A scan that was padded twice has a second value of this kind.
    second = padding_below(array[array > middle][None])
    return middle if second is None else second


def darkest_intensity(array: Array) -> float:
    """The lowest intensity of a scan that is not padding."""
    padding = padding_below(array)
    return float(array.min() if padding is None else array[array > padding].min())
