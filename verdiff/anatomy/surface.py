"""Closed, smooth surfaces of label masks, in the scan's own millimetres."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from verdiff.anatomy.libraries import library
from verdiff.errors import InputError
from verdiff.imaging import Geometry

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

# Taubin's two factors: the second, negative one undoes the shrinking of the first. Pass band 1 / 0.5 - 1 / 0.526.
_SHRINK, _GROW, _ROUNDS = 0.5, -0.526, 10
# The mask is softened before, in voxels; no voxel's centre changes sides, or what is one voxel thin would be lost.
_SOFT, _SIDE = 0.7, 0.05
# Slices this much thicker than the pixel are interpolated by shape first: smoothing cannot undo their terraces.
_THICK = 1.5
_HALF_VOXEL = 0.5


@dataclass(frozen=True, eq=False)
class Surface:
    """Triangles around one structure.

    Attributes:
        vertices_mm: float64 [n, 3], LPS as in DICOM and ITK. RAS, as in NIfTI, has the signs of x and y changed.
        triangles: int64 [m, 3]; counter-clockwise seen from outside. Each edge belongs to two of them.
    """

    vertices_mm: Floats
    triangles: NDArray[np.int64]

    @property
    def volume_ml(self) -> float:
        """Volume enclosed, by the divergence theorem."""
        a, b, c = (self.vertices_mm[self.triangles[:, corner]] - self.vertices_mm[0] for corner in range(3))
        return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6000)


def surface_of(mask: Mask, geometry: Geometry) -> Surface:
    """The surface of a mask.

    Marching cubes (Lewiner et al. 2003, doi 10.1080/10867651.2003.10487582) of the softened mask, smoothed by Taubin's
    lambda | mu (1995, doi 10.1145/218380.218473), where no vertex leaves the half voxel around where it was, as in
    constrained elastic surface nets (Gibson 1998, doi 10.1007/BFb0056277): details stay, the staircase goes. Slices
    much thicker than the pixel are interpolated by shape before (Raya and Udupa 1990, doi 10.1109/42.52980). Beyond
    the scan there is nothing, so the surface is closed at its border.

    Args:
        mask: [z, y, x], with at least one voxel.
        geometry: Its grid.

    Raises:
        InputError: The mask is empty, not of the grid's shape, or a single plane without thickness.
        BackendError: The extra ``[anatomy]`` is not installed.
    """
    if mask.shape != geometry.shape or geometry.size[2] == 1 or not mask.any():
        raise InputError(
            f"a mask of shape {mask.shape} with {int(mask.sum())} voxels",
            f"voxels in a volume of shape {geometry.shape}",
            "make surfaces of structures that are there; a film has none",
        )
    box = []
    for axis in range(3):
        filled = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        box.append(slice(int(filled[0]), int(filled[-1]) + 1))
    field, scale, shift = _field(np.pad(mask[tuple(box)], 1), geometry.spacing_mm[::-1])
    vertices, triangles, _, _ = library("skimage.measure").marching_cubes(field, 0.0, gradient_direction="ascent")
    index = vertices.astype(np.float64) * scale + shift
    index = _smoothed(index, triangles, np.asarray(geometry.spacing_mm[::-1]))
    index += [part.start - 1 for part in box]
    return oriented(Surface(geometry.index_to_mm(index[:, ::-1]), triangles.astype(np.int64)))


def oriented(surface: Surface) -> Surface:
    """The closed surface with triangles that run counter-clockwise seen from outside.

    Which way round they come depends on the handedness of the scan's axes.
    """
    return surface if surface.volume_ml > 0 else replace(surface, triangles=surface.triangles[:, ::-1])


def _field(mask: Mask, spacing: tuple[float, ...]) -> tuple[NDArray[np.float32], Floats, Floats]:
    """A field that is positive inside, and what takes its indices to the mask's: index * scale + shift."""
    thick = int(np.argmax(spacing))
    others = [s for axis, s in enumerate(spacing) if axis != thick]
    parts = round(spacing[thick] / min(others))
    scale, shift = np.ones(3), np.zeros(3)
    if spacing[thick] < _THICK * max(others) or parts < 2:
        soft = library("scipy.ndimage").gaussian_filter(mask.astype(np.float32) - 0.5, _SOFT)
        field: NDArray[np.float32] = np.where(mask, np.maximum(soft, _SIDE), np.minimum(soft, -_SIDE))
        return field, scale, shift
    scale[thick] = 1 / parts
    return np.moveaxis(_by_shape(np.moveaxis(mask, thick, 0), others, spacing[thick], parts), 0, thick), scale, shift


def _by_shape(mask: Mask, pixel_mm: list[float], slice_mm: float, parts: int) -> NDArray[np.float32]:
    """Signed distance to each slice's outline, positive inside, interpolated linearly between slices."""
    distance = library("scipy.ndimage").distance_transform_edt
    signed = np.full(mask.shape, -slice_mm, np.float32)
    for index, plane in enumerate(mask):
        if plane.any():
            signed[index] = distance(plane, pixel_mm) - distance(~plane, pixel_mm)
    # Bounded, so that a slice that ends the structure ends it half a slice on, however wide it is.
    np.clip(signed, -slice_mm, slice_mm, out=signed)
    at = np.arange((len(mask) - 1) * parts + 1)
    lower = np.minimum(at // parts, len(mask) - 2)
    weight = (at / parts - lower).astype(np.float32)[:, None, None]
    field: NDArray[np.float32] = (1 - weight) * signed[lower] + weight * signed[lower + 1]
    # A vertex on a grid point would be shared by triangles that are points: the outline keeps clear of it.
    field[np.abs(field) < 1e-3] = -1e-3
    return field


def _smoothed(index: Floats, triangles: NDArray[np.integer], spacing: Floats) -> Floats:
    sparse = library("scipy.sparse")
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    n = len(index)
    beside = sparse.coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(n, n)).tocsr()
    beside = sparse.diags(1 / np.maximum(np.asarray(beside.sum(axis=1)).ravel(), 1)) @ beside
    start = index * spacing
    moved, reach = start.copy(), _HALF_VOXEL * spacing
    for _ in range(_ROUNDS):
        for factor in (_SHRINK, _GROW):
            moved += factor * (beside @ moved - moved)
            np.clip(moved, start - reach, start + reach, out=moved)
    smooth: Floats = moved / spacing
    return smooth
