"""What the picture shows around each vertebral body: edges by direction, in a frame that moves with the spine.

Edges count by their direction alone and not by which side is bright, so that contrasts differ little: histograms of
oriented gradients (Dalal and Triggs 2005, doi 10.1109/CVPR.2005.177), unsigned, in the plane of the spine's curve.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from verdiff.anatomy.column import Column
from verdiff.anatomy.frame import AnatomicalFrame
from verdiff.anatomy.segments import Segment
from verdiff.imaging.volume import Array

Floats = NDArray[np.float64]

# The patch reaches from half a pitch above the body's middle to two below it, and from one before it to 1.25 behind.
# A pitch is the usual distance from one body of the spine to the next.
DOWN, BACK = (-0.5, 2.0), (-1.0, 1.25)
CELLS, DIRECTIONS = (5, 5), 6
_SAMPLES = 32
# Slices this near to the curve are averaged.
_NEAR_MM = 5.0
# A cell of which less is within the picture says nothing.
_LEAST_SEEN = 0.5
# A cell's edges are weighed against those around it, and against this share of what the patch has on average.
_FLOOR = 0.2
SHAPE = ("tilt", "bend", "step", "height")
# Fewer bodies do not say what their usual distance is.
LEAST_BODIES = 3


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What is seen of one body.

    Attributes:
        features: [CELLS x DIRECTIONS + len(SHAPE)]; NaN where the picture ends.
        seen_below: How far below the body's lower end the picture goes on, in pitches, up to 1.
        pitch_mm: Distance to the next body that is usual in this spine.
        middle_mm: Row and column of the body's middle in the upright scan.
    """

    features: Floats
    seen_below: float
    pitch_mm: float
    middle_mm: tuple[float, float]


def surroundings(
    image: Array, frame: AnatomicalFrame, column: Column, bodies: Sequence[Segment]
) -> tuple[Surroundings, ...]:
    """What is seen of each body that has another above it; none where the mask has too few.

    Args:
        image: Intensities [z, y, x] of the scan, in any unit.
        frame: The working grid of the mask.
        column: The spine's curve in it.
        bodies: Bodies from the lowest up.
    """
    if len(bodies) < LEAST_BODIES:
        return ()
    upright = frame.plan.extract(image)
    pitches = np.array([frame.plan.slice_spacing_mm, *frame.plan.pixel_spacing_mm])
    points = _upright_mm(frame, column.points_mm)
    last = len(points) - 1
    middles = np.array([points[min(last, round(body.middle_mm))] for body in bodies])
    ways = middles[:-1, 1:] - middles[1:, 1:]
    steps = np.maximum(np.linalg.norm(ways, axis=1), 1e-6)
    pitch, down = float(np.median(steps)), ways / steps[:, None]
    found = []
    for index, (middle, along) in enumerate(zip(middles, down, strict=False)):
        plane = _plane(upright, middle[0] / pitches[0], pitches[0])
        patch, inside = _patch(plane, middle[1:], along, pitch, pitches[1:])
        above = down[min(index + 1, len(down) - 1)]
        shape = (
            along[1],
            above[0] * along[1] - above[1] * along[0],
            steps[index] / pitch,
            bodies[index].height_mm / pitch,
        )
        features = np.concatenate([_edges(patch, inside), shape])
        found.append(Surroundings(features, _seen_below(inside), pitch, (float(middle[1]), float(middle[2]))))
    return tuple(found)


def _upright_mm(frame: AnatomicalFrame, points_mm: Floats) -> Floats:
    """Points of the working grid in millimetres of the whole upright scan: its first voxel's centre is at zero."""
    pitches = np.array([frame.plan.slice_spacing_mm, *frame.plan.pixel_spacing_mm])
    factors, start = np.array(frame.factors), np.array([part.start for part in frame.crop])
    upright: Floats = (start + points_mm / np.array(frame.spacing_mm) * factors + (factors - 1) / 2) * pitches
    return upright


def _plane(upright: Array, at: float, spacing_mm: float) -> Floats:
    """Mean of the slices near a place, [rows, columns]."""
    reach = _NEAR_MM / spacing_mm
    near = np.flatnonzero(np.abs(np.arange(len(upright)) - at) <= reach)
    if not near.size:
        near = np.array([int(np.clip(round(at), 0, len(upright) - 1))])
    plane: Floats = np.asarray(upright[near[0] : near[-1] + 1]).mean(axis=0, dtype=np.float64)
    return plane


def _patch(
    plane: Floats, middle_mm: Floats, down: Floats, pitch_mm: float, spacing_mm: Floats
) -> tuple[Floats, NDArray[np.bool_]]:
    """Intensities around a body, and which of them lie within the picture; rows run down the spine."""
    back = np.array([-down[1], down[0]])
    rows, cols = ((np.arange(round((high - low) * _SAMPLES)) + 0.5) / _SAMPLES + low for low, high in (DOWN, BACK))
    at = middle_mm + pitch_mm * (rows[:, None, None] * down + cols[None, :, None] * back)
    values, inside = _between(plane, at / spacing_mm)
    halves = (len(rows) // 2, 2, len(cols) // 2, 2)
    patch = values.reshape(halves).mean(axis=(1, 3))
    for axis in (0, 1):
        patch = _softened(patch, axis)
    shown: NDArray[np.bool_] = np.asarray(inside.reshape(halves).all(axis=(1, 3)))
    return patch, shown


def _between(plane: Floats, index: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Bilinear values at fractional rows and columns [..., 2]; beyond the border its own value, and False."""
    limits = np.array(plane.shape) - 1
    inside: NDArray[np.bool_] = np.asarray(((index >= -0.5) & (index <= limits + 0.5)).all(axis=-1))
    clipped = np.clip(index, 0, limits)
    low = np.minimum(clipped.astype(np.intp), np.maximum(limits - 1, 0))
    high = np.minimum(low + 1, limits)
    part = clipped - low
    (r0, c0), (r1, c1), (a, b) = (np.moveaxis(each, -1, 0) for each in (low, high, part))
    upper = plane[r0, c0] * (1 - b) + plane[r0, c1] * b
    lower = plane[r1, c0] * (1 - b) + plane[r1, c1] * b
    values: Floats = upper * (1 - a) + lower * a
    return values, inside


def _softened(patch: Floats, axis: int) -> Floats:
    padded = np.pad(patch, [(int(axis == a), int(axis == a)) for a in range(2)], mode="edge")
    n = patch.shape[axis]
    first, middle, last = (np.take(padded, np.arange(shift, shift + n), axis) for shift in range(3))
    softened: Floats = (first + 2 * middle + last) / 4
    return softened


def _edges(patch: Floats, inside: NDArray[np.bool_]) -> Floats:
    """Strength of the edges by cell and direction, [cells x DIRECTIONS]."""
    across = [np.gradient(patch, axis=axis) for axis in range(2)]
    known = inside.copy()
    known[1:] &= inside[:-1]
    known[:-1] &= inside[1:]
    known[:, 1:] &= inside[:, :-1]
    known[:, :-1] &= inside[:, 1:]
    strength = np.hypot(*across) * known
    direction = (np.arctan2(across[0], across[1]) % np.pi) / np.pi * DIRECTIONS - 0.5
    low = np.floor(direction).astype(np.intp)
    part = direction - low
    cells = (np.arange(patch.shape[0]) * CELLS[0] // patch.shape[0])[:, None] * CELLS[1]
    cells = cells + np.arange(patch.shape[1]) * CELLS[1] // patch.shape[1]
    size = CELLS[0] * CELLS[1]
    sums = np.zeros(size * DIRECTIONS)
    for bins, weights in ((low, strength * (1 - part)), (low + 1, strength * part)):
        sums += np.bincount((cells * DIRECTIONS + bins % DIRECTIONS).ravel(), weights.ravel(), minlength=sums.size)
    share = np.bincount(cells.ravel(), known.ravel(), minlength=size) / np.bincount(cells.ravel(), minlength=size)
    found = sums.reshape(*CELLS, DIRECTIONS) / np.maximum(share, _LEAST_SEEN).reshape(*CELLS, 1)
    squares = np.pad((found**2).sum(axis=-1), 1, mode="edge")
    around = sum(squares[i : i + CELLS[0], j : j + CELLS[1]] for i in range(3) for j in range(3)) / 9
    floor = _FLOOR**2 * float((found**2).sum()) / size
    found = found / np.sqrt(around + floor + 1e-12)[..., None]
    found[share.reshape(CELLS) < _LEAST_SEEN] = np.nan
    return found.ravel()


def _seen_below(inside: NDArray[np.bool_]) -> float:
    """The part of the pitch below a body's lower end, from that end on, that lies wholly within the picture."""
    per = _SAMPLES // 2
    first, front, behind = round((0.5 - DOWN[0]) * per), round((-0.5 - BACK[0]) * per), round((0.5 - BACK[0]) * per)
    below = inside[first : first + per, front:behind].all(axis=1)
    return float(np.cumprod(below).sum() / per)
