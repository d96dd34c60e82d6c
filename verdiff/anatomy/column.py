"""The spine's own curve through the vertebral bodies, and what lies across it at every millimetre."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from verdiff.anatomy.frame import Mask
from verdiff.anatomy.libraries import library

Floats = NDArray[np.float64]
Spacing = tuple[float, float, float]

# Curves shorter than this wavelength are noise of the mask; a lordosis is 200 mm and more.
_WAVELENGTH_MM = 120.0
# A row's centre of mass weighs its voxels by depth to this power: bodies are the thickest part of every vertebra.
_DEPTH_POWER = 4
# Rows without a canal whose deepest voxel is shallower than this share of the deepest nearby hold processes only.
_SHALLOW = 0.45
_NEARBY_MM = 40.0
_TUBE_SHARE, _TUBE_MM = 0.75, (4.0, 12.0)
_TUBE_POINTS = 160
_RAY_MM, _RAY_STEP_MM, _RAY_GAP_MM = 40.0, 0.5, 2.0
VOID, BONE, DISC, CANAL, OUTSIDE = range(5)


@dataclass(frozen=True, eq=False)
class Column:
    """The curve, a point a millimetre from top to bottom, in millimetres of the working grid.

    Attributes:
        points_mm: [n, 3].
        tangents: Unit vectors [n, 3], downwards along the curve.
        sideways, backwards: Unit vectors [n, 3] across it.
        radius_mm: [n], of a tube that stays within the bodies.
    """

    points_mm: Floats
    tangents: Floats
    sideways: Floats
    backwards: Floats
    radius_mm: Floats

    def project(self, positions_mm: Floats) -> tuple[NDArray[np.intp], Floats, Floats]:
        """Index of the curve's nearest point, millimetre along the curve, and offset across it, of positions [m, 3].

        Beyond its ends the curve goes on straight: the millimetres are negative above its top.
        """
        index: NDArray[np.intp] = library("scipy.spatial").cKDTree(self.points_mm).query(positions_mm)[1]
        offset = positions_mm - self.points_mm[index]
        onward = np.einsum("ij,ij->i", offset, self.tangents[index])
        return index, index + onward, offset - onward[:, None] * self.tangents[index]


def tissues(bone: Mask, disc: Mask, canal: Mask) -> NDArray[np.uint8]:
    """The three masks as one array of BONE, DISC, CANAL and VOID."""
    found = np.zeros(bone.shape, np.uint8)
    for mask, code in ((canal, CANAL), (disc, DISC), (bone, BONE)):
        found[mask] = code
    return found


def column_of(tissue: NDArray[np.uint8], spacing_mm: Spacing) -> Column | None:
    """The curve through the bodies, or None where there is no bone.

    Each row's centre of mass, weighted by the fourth power of the distance to the surface, smoothed as a whole with
    the penalty on second differences of Whittaker (1923; Eilers 2003, doi 10.1021/ac034173t). Where the canal was
    found, only what lies before it counts.
    """
    ndimage = library("scipy.ndimage")
    solid = (tissue == BONE) | (tissue == DISC)
    if not (tissue == BONE).any():
        return None
    known = _before_canal(solid, tissue == CANAL, spacing_mm)
    depth = _depth(solid, spacing_mm)
    deepest = depth.max(axis=(0, 2))
    nearby = ndimage.maximum_filter1d(deepest, 2 * round(_NEARBY_MM / spacing_mm[1]) + 1)
    weighted = depth.astype(np.float64) ** _DEPTH_POWER
    weighted[:, (deepest < _SHALLOW * nearby) & ~known] = 0
    weights = weighted.sum(axis=(0, 2))
    rows = np.flatnonzero(weights)
    if rows.size == 0:
        return None
    part = slice(int(rows[0]), int(rows[-1]) + 1)
    centres = np.stack(
        [
            (weighted.sum(axis=2) * np.arange(weighted.shape[0])[:, None]).sum(axis=0),
            (weighted.sum(axis=0) * np.arange(weighted.shape[2])).sum(axis=1),
        ],
        axis=1,
    )[part] / np.maximum(weights[part, None], 1e-9)
    # Against the rows nearby, so that the small bodies of the neck bend the curve as much as a lumbar one does.
    trust = weights / np.maximum(ndimage.maximum_filter1d(weights, 2 * round(_NEARBY_MM / spacing_mm[1]) + 1), 1e-9)
    smooth = _smoothed(centres, trust[part], spacing_mm[1])
    heights = np.arange(part.start, part.stop, dtype=np.float64) * spacing_mm[1]
    path = np.stack([smooth[:, 0] * spacing_mm[0], heights, smooth[:, 1] * spacing_mm[2]], axis=1)
    width = ndimage.uniform_filter1d(nearby[part], round(_NEARBY_MM / spacing_mm[1]) + 1, mode="nearest")
    return _every_millimetre(path, np.clip(_TUBE_SHARE * width, *_TUBE_MM))


def profile(tissue: NDArray[np.uint8], column: Column, spacing_mm: Spacing) -> tuple[Floats, Floats]:
    """Share of bone and of disc in a round cut of the tube, at every millimetre of the curve, each [n] in [0, 1]."""
    turn = np.arange(_TUBE_POINTS) * np.pi * (3 - np.sqrt(5))
    out = np.sqrt((np.arange(_TUBE_POINTS) + 0.5) / _TUBE_POINTS)
    across = out[None, :, None] * column.radius_mm[:, None, None]
    positions = column.points_mm[:, None] + across * (
        np.cos(turn)[None, :, None] * column.sideways[:, None] + np.sin(turn)[None, :, None] * column.backwards[:, None]
    )
    found = _at(tissue, positions, spacing_mm)
    inside = np.maximum((found != OUTSIDE).sum(axis=1), 1)
    return (found == BONE).sum(axis=1) / inside, (found == DISC).sum(axis=1) / inside


def body_depth_mm(tissue: NDArray[np.uint8], column: Column, spacing_mm: Spacing) -> Floats:
    """Distance from the curve back to the end of the body, [n]: the canal, or a gap in the bone; NaN if neither."""
    steps = np.arange(0.0, _RAY_MM, _RAY_STEP_MM)
    rays = column.points_mm[:, None] + steps[None, :, None] * column.backwards[:, None]
    found = _at(tissue, rays, spacing_mm)
    empty = (found == VOID) | (found == OUTSIDE)
    gap = round(_RAY_GAP_MM / _RAY_STEP_MM)
    ends = np.stack([empty[:, i : empty.shape[1] - gap + i] for i in range(gap)]).all(axis=0)
    ends |= (found == CANAL)[:, : ends.shape[1]]
    at = np.where(ends.any(axis=1), ends.argmax(axis=1), -1)
    return np.where(at > 0, steps[at], np.nan)


def _at(tissue: NDArray[np.uint8], positions_mm: Floats, spacing_mm: Spacing) -> NDArray[np.uint8]:
    index = np.rint(positions_mm / np.asarray(spacing_mm)).astype(np.intp)
    inside = ((index >= 0) & (index < tissue.shape)).all(axis=-1)
    a, b, c = np.moveaxis(np.where(inside[..., None], index, 0), -1, 0)
    return np.where(inside, tissue[a, b, c], np.uint8(OUTSIDE))


def _depth(solid: Mask, spacing_mm: Spacing) -> Floats:
    """Distance to the nearest voxel that is not solid; what lies outside the grid is not known to be empty."""
    if solid.all():
        return np.full(solid.shape, min(n * s for n, s in zip(solid.shape, spacing_mm, strict=True)) / 2)
    depth: Floats = library("scipy.ndimage").distance_transform_edt(solid, spacing_mm)
    return depth


def _before_canal(solid: Mask, canal: Mask, spacing_mm: Spacing) -> Mask:
    """Empty ``solid`` behind the canal's middle; true for the rows, [rows], that the canal reaches."""
    counts = canal.sum(axis=(0, 2)).astype(np.float64)
    rows = np.flatnonzero(counts)
    reached = np.zeros(counts.size, bool)
    if rows.size == 0:
        return reached
    part = slice(int(rows[0]), int(rows[-1]) + 1)
    reached[part] = True
    middle = (canal.sum(axis=0) * np.arange(canal.shape[2])).sum(axis=1)[part] / np.maximum(counts[part], 1)
    smooth = _smoothed(middle[:, None], counts[part] / counts.max(), spacing_mm[1])[:, 0]
    front = np.full(canal.shape[1], np.inf)
    front[part] = smooth
    solid &= np.arange(canal.shape[2])[None, None, :] < front[None, :, None]
    return reached


def _smoothed(values: Floats, weights: Floats, step_mm: float) -> Floats:
    """Whittaker's smoother over rows: values [n, k], weights [n] in [0, 1]; rows of weight 0 are bridged."""
    n = len(values)
    if n < 3:
        return values
    stiffness = (_WAVELENGTH_MM / (2 * np.pi * step_mm)) ** 4
    bands = np.zeros((3, n))
    for offset, (first, second, third) in enumerate(((1.0, 4.0, 1.0), (-2.0, -2.0, 0.0), (1.0, 0.0, 0.0))):
        row = bands[2 - offset, offset:]
        row[: n - 2] += first
        if offset < 2:
            row[1 : n - 1] += second
        if offset < 1:
            row[2:n] += third
    bands *= stiffness
    # A trace of weight everywhere keeps the system definite where fewer than two rows count.
    bands[2] += weights + 1e-6
    smooth: Floats = library("scipy.linalg").solveh_banded(bands, (weights + 1e-6)[:, None] * values)
    return smooth


def _every_millimetre(path: Floats, radius_mm: Floats) -> Column:
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    at = np.arange(0.0, max(along[-1], 1.0) + 1e-9)
    points = np.stack([np.interp(at, along, path[:, axis]) for axis in range(3)], axis=1)
    tangents = np.gradient(points, axis=0) if len(path) > 1 else np.tile([0.0, 1.0, 0.0], (len(points), 1))
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    # Backwards is the grid's, made perpendicular; a spine never runs straight backwards.
    backwards = np.array([0.0, 0.0, 1.0]) - tangents * tangents[:, 2:]
    backwards /= np.linalg.norm(backwards, axis=1, keepdims=True)
    return Column(points, tangents, np.cross(tangents, backwards), backwards, np.interp(at, along, radius_mm))
