"""The outlines of a binary plane, exactly: along the edges of its pixels, holes joined to what surrounds them.

An outline through pixel centres, or halfway between them, cuts corners; along the edges it encloses just the pixels.
DICOM's closed planar contours hold no holes: a hole is joined to its surroundings by a channel of no width, the keyhole
of PS3.3, C.8.8.6.3.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

Corners = NDArray[np.float64]
# A step along an edge with the pixel on its left, by the side of the pixel that it runs along.
_Point = tuple[int, int]


def outlines(plane: NDArray[np.bool_]) -> list[Corners]:
    """The closed outlines of a plane, each [points, 2] in pixels as x (column), y (row); a pixel's centre is whole.

    Pixels that touch at a corner alone are apart. The first point is not repeated at the end.

    Args:
        plane: Truth values [rows, columns].
    """
    loops = [_straightened(loop) for loop in _loops(plane)]
    signed = [(_area(loop), loop) for loop in loops]
    outer = [(area, loop) for area, loop in signed if area > 0]
    holes: dict[int, list[Corners]] = defaultdict(list)
    for area, loop in signed:
        if area < 0:
            # The smallest outline around a hole is the one it lies in.
            around = [(size, index) for index, (size, each) in enumerate(outer) if size > -area and _holds(each, loop)]
            holes[min(around)[1]].append(loop)
    return [_joined(loop, holes[index]) - 0.5 for index, (_, loop) in enumerate(outer)]


def _loops(plane: NDArray[np.bool_]) -> list[list[_Point]]:
    """The edges between pixels inside and outside, linked; corner (x, y) is the upper left one of pixel [y, x]."""
    padded = np.pad(np.asarray(plane, bool), 1)
    inside = padded[1:-1, 1:-1]
    follows: dict[_Point, list[_Point]] = defaultdict(list)
    # Around a pixel: along its top to the right, down its right side, and so on; x to the right, y downwards.
    sides = (
        (padded[:-2, 1:-1], (0, 0), (1, 0)),
        (padded[1:-1, 2:], (1, 0), (1, 1)),
        (padded[2:, 1:-1], (1, 1), (0, 1)),
        (padded[1:-1, :-2], (0, 1), (0, 0)),
    )
    for neighbour, start, end in sides:
        for y, x in zip(*np.nonzero(inside & ~neighbour), strict=True):
            follows[int(x) + start[0], int(y) + start[1]].append((int(x) + end[0], int(y) + end[1]))
    loops = []
    while follows:
        first = min(follows)
        loop = [first]
        at = _next(follows, first, None)
        while at != first:
            loop.append(at)
            at = _next(follows, at, loop[-2])
        loops.append(loop)
    return loops


def _next(follows: dict[_Point, list[_Point]], at: _Point, before: _Point | None) -> _Point:
    """Where the outline goes on; where two pixels touch at a corner it turns around its own."""
    ends = follows[at]
    chosen = 0
    if len(ends) > 1 and before is not None:
        came = at[0] - before[0], at[1] - before[1]
        # With the pixel on the right hand, that is the turn to the right.
        right = -came[1], came[0]
        chosen = ends.index((at[0] + right[0], at[1] + right[1]))
    end = ends.pop(chosen)
    if not ends:
        del follows[at]
    return end


def _straightened(loop: list[_Point]) -> Corners:
    """Without the points between two steps of one direction."""
    points = np.array(loop, np.float64)
    steps = np.roll(points, -1, axis=0) - points
    corner = np.any(steps != np.roll(steps, 1, axis=0), axis=1)
    return points[corner]


def _area(loop: Corners) -> float:
    """Signed area of a polygon, above zero for an outer outline."""
    x, y = loop[:, 0], loop[:, 1]
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def _holds(outer: Corners, hole: Corners) -> bool:
    """Whether a point just inside the hole's first corner lies within a polygon (by crossings of a ray)."""
    x, y = hole[0] + 0.25 * np.sign((hole[1] - hole[0]) + (hole[-1] - hole[0]))
    x0, y0 = outer[:, 0], outer[:, 1]
    y1 = np.roll(y0, -1)
    # Sides are upright or level; a ray to the right crosses the upright ones.
    crossed = (y0 > y) != (y1 > y)
    return int(np.count_nonzero(crossed & (np.where(crossed, x0, np.inf) > x))) % 2 == 1


def _joined(outer: Corners, holes: list[Corners]) -> Corners:
    """One polygon of an outline and its holes, each reached by the shortest channel from what there is."""
    for hole in sorted(holes, key=lambda each: tuple(each.min(axis=0))):
        gaps = ((outer[:, None, :] - hole[None, :, :]) ** 2).sum(axis=2)
        here, there = np.unravel_index(int(gaps.argmin()), gaps.shape)
        turned = np.roll(hole, -int(there), axis=0)
        outer = np.concatenate([outer[: here + 1], turned, turned[:1], outer[here:]])
    return outer
