"""Where a structure meets the end of the field of view: what lies beyond is not in its volume."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from verdiff.imaging.slicing import acquisition_view
from verdiff.imaging.volume import Geometry

# Towards lower and higher LPS coordinates of each axis.
_SIDES = (("right", "left"), ("anterior", "posterior"), ("inferior", "superior"))
_PICTURE = (("left", "right"), ("top", "bottom"))


def sides_cut(mask: NDArray[np.bool_], geometry: Geometry) -> tuple[str, ...]:
    """The sides of the field of view that a mask [z, y, x] reaches, so that it may go on beyond.

    Args:
        mask: Mask of one structure.
        geometry: Its grid.

    Returns:
        Of ``left``, ``right``, ``anterior``, ``posterior``, ``inferior``, ``superior``, the patient's; of a film
        ``left``, ``right``, ``top``, ``bottom``, the picture's. An axis is called after the direction nearest to it.
    """
    found: list[str] = []
    direction, film = geometry.matrix, geometry.size[2] == 1 and acquisition_view(geometry) == "film"
    for axis in range(3):
        if geometry.size[axis] == 1:
            continue
        if film:
            low, high = _PICTURE[axis]
        else:
            along = int(np.abs(direction[:, axis]).argmax())
            low, high = _SIDES[along] if direction[along, axis] > 0 else _SIDES[along][::-1]
        planes = np.moveaxis(mask, 2 - axis, 0)
        found += [side for side, plane in ((low, planes[0]), (high, planes[-1])) if plane.any()]
    return tuple(dict.fromkeys(found))
