"""How far the surface of a probability map lies from the true one, and the same surface moved outwards or inwards.

All of it happens on one grid of near-cubes over the scan, so what is measured on patients with a true mask (the
distance by which the surface has to be moved) and what is made for a new scan (the moved surface) are the same thing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verdiff.anatomy.libraries import library
from verdiff.anatomy.surface import Surface, oriented
from verdiff.errors import InputError
from verdiff.imaging import Geometry
from verdiff.imaging.itk import simpleitk

Floats = NDArray[np.float32]
Steps = NDArray[np.float64]
Counts = NDArray[np.int64]

# Edge of a cube, mm. A larger field of view has larger cubes, so that memory stays bounded.
CUBE_MM = 0.75
MOST_CUBES = 32_000_000


@dataclass(frozen=True, eq=False)
class DistanceField:
    """Distance of each cube's centre from the surface at which a probability map has its level.

    Attributes:
        signed_mm: float32 [z, y, x]; negative inside.
        geometry: The cubes, which fill the scan's own extent.
    """

    signed_mm: Floats
    geometry: Geometry


def distance_field(probability: Floats, geometry: Geometry, *, level: float) -> DistanceField | None:
    """The distances of a probability map's surface, or None where it nowhere reaches the level.

    The map is interpolated linearly, the exact Euclidean distance is that of Maurer et al. (2003, doi
    10.1109/TPAMI.2003.1177156), and the surface lies between the cubes, so it is known to half of one.

    Args:
        probability: [z, y, x], 0 to 1.
        geometry: Its grid; a single plane has no depth to measure in.
        level: Where the surface is.

    Raises:
        InputError: The map is not of the grid's shape, or a single plane.
    """
    if probability.shape != geometry.shape or 1 in geometry.size:
        raise InputError(
            f"a map of shape {probability.shape} for distances",
            f"a volume of shape {geometry.shape} with at least two planes each way",
            "make surfaces of scans with depth; a film has none",
        )
    cubes = cubes_of(geometry)
    finer = probability
    for axis, count in enumerate(cubes.shape):
        finer = _interpolated(finer, axis, count)
    inside = finer >= level
    if not inside.any():
        return None
    if inside.all():
        return DistanceField(np.full(cubes.shape, -max(cubes.size) * _edge(cubes), np.float32), cubes)
    # To the centre of the nearest cube on the other side; the surface runs half a cube before that.
    signed = np.where(inside, -_distance_to(~inside, cubes), _distance_to(inside, cubes))
    return DistanceField(signed - np.copysign(np.float32(_edge(cubes) / 2), signed), cubes)


def cubes_of(geometry: Geometry) -> Geometry:
    """A grid of near-cubes over the same extent, voxel borders included."""
    extent = [n * s for n, s in zip(geometry.size, geometry.spacing_mm, strict=True)]
    edge = max(CUBE_MM, (math.prod(extent) / MOST_CUBES) ** (1 / 3))
    counts = [max(2, round(length / edge)) for length in extent]
    spacing = [length / count for length, count in zip(extent, counts, strict=True)]
    first = [0.5 * n / count - 0.5 for n, count in zip(geometry.size, counts, strict=True)]
    origin = geometry.index_to_mm(first)
    return Geometry(
        (counts[0], counts[1], counts[2]),
        (spacing[0], spacing[1], spacing[2]),
        (float(origin[0]), float(origin[1]), float(origin[2])),
        geometry.direction,
    )


def in_cubes(mask: NDArray[np.bool_], cubes: Geometry) -> NDArray[np.bool_]:
    """A mask [z, y, x] in the cubes that fill its extent: each takes the voxel that its centre lies in."""
    taken = [((2 * np.arange(count) + 1) * n) // (2 * count) for n, count in zip(mask.shape, cubes.shape, strict=True)]
    found: NDArray[np.bool_] = mask[np.ix_(*taken)]
    return found


@dataclass(frozen=True, eq=False)
class SurfaceErrors:
    """How the surface of a structure's probability map lies to its true surface, in one patient.

    The true surface is the faces between cubes of the structure and others. Where the scan ends is no surface: what
    goes on beyond it was not drawn. Distances are rounded up to hundredths of a millimetre, so that a few thousand
    steps are all of them.

    Attributes:
        faces_mm: Distances of faces of the true surface from the surface of the map, rising; positive outside,
            infinite where the map has no surface.
        faces: How many faces are at most that far out, for each.
        wrong_mm: Depths below the surface of the map of cubes that are not the structure, falling.
        wrong: How many of them are at least that deep, for each.
        held: How many cubes the surface of the map holds in all.
    """

    faces_mm: Steps
    faces: Counts
    wrong_mm: Steps
    wrong: Counts
    held: int

    def outward_mm(self, share: float) -> float:
        """How far the surface has to be moved outwards to hold a share of the true surface; 0 if it does already."""
        if not len(self.faces):
            return 0.0
        needed = math.ceil(share * int(self.faces[-1]) - 1e-9)
        return max(0.0, float(self.faces_mm[np.searchsorted(self.faces, needed)]))

    def inward_mm(self, share: float) -> float:
        """How far it has to be moved inwards so that no more of what it held than the rest is wrong and still within.

        With a share of 0.99, at most a hundredth of the volume within the surface as it was.
        """
        too_many = np.flatnonzero(self.wrong > (1 - share) * self.held + 1e-9)
        return float(self.wrong_mm[too_many[0]]) if len(too_many) else 0.0

    def covered(self, margin_mm: float) -> float:
        """Share of the true surface that the surface moved outwards by a margin holds."""
        if not len(self.faces):
            return 1.0
        steps = int(np.searchsorted(self.faces_mm, margin_mm, side="right"))
        return float(self.faces[steps - 1] / self.faces[-1]) if steps else 0.0

    def not_wrong(self, margin_mm: float) -> float:
        """Share of what the surface held that is not both wrong and within it, once it is moved inwards by a margin."""
        steps = int(np.count_nonzero(self.wrong_mm > margin_mm))
        return 1 - float(self.wrong[steps - 1] / self.held) if steps else 1.0


def surface_errors(field: DistanceField | None, truth: NDArray[np.bool_], geometry: Geometry) -> SurfaceErrors:
    """Compare a surface with the true structure.

    Args:
        field: Distances from the surface, from :func:`distance_field`; None where there is none.
        truth: The true structure in the scan's grid, [z, y, x].
        geometry: The grid of both.
    """
    if field is None:
        return SurfaceErrors(np.full(1, np.inf), np.ones(1, np.int64), np.zeros(0), np.zeros(0, np.int64), 0)
    cubes = in_cubes(truth, field.geometry)
    faces_mm, faces = np.unique(
        _hundredths(np.concatenate([_at_faces(field.signed_mm, cubes, axis) for axis in range(3)])), return_counts=True
    )
    inside = field.signed_mm < 0
    wrong_mm, wrong = np.unique(_hundredths(-field.signed_mm[inside & ~cubes]), return_counts=True)
    return SurfaceErrors(
        faces_mm,
        np.cumsum(faces, dtype=np.int64),
        wrong_mm[::-1],
        np.cumsum(wrong[::-1], dtype=np.int64),
        int(np.count_nonzero(inside)),
    )


def moved_surface(field: DistanceField, offset_mm: float) -> Surface | None:
    """The surface moved outwards, or by a negative offset inwards; None where nothing is left of it.

    Moved outwards it has no cavities: what lies within is within. Where the scan ends, the surface is closed.

    Raises:
        BackendError: The extra ``[anatomy]`` is not installed.
    """
    within = field.signed_mm <= offset_mm if offset_mm >= 0 else field.signed_mm < offset_mm
    if not within.any():
        return None
    values: Any = field.signed_mm - np.float32(offset_mm)
    if offset_mm >= 0:
        filled = library("scipy.ndimage").binary_fill_holes(within)
        values = np.where(filled & ~within, -np.float32(_edge(field.geometry)), values)
        within = filled
    box = []
    for axis in range(3):
        there = np.flatnonzero(within.any(axis=tuple(other for other in range(3) if other != axis)))
        box.append(slice(max(0, int(there[0]) - 1), int(there[-1]) + 2))
    # A vertex on a grid point would be shared by triangles that are points: the surface keeps clear of it, outside.
    values = np.where(np.abs(values) < 1e-3, -1e-3, values)[tuple(box)]
    values = np.pad(values, 1, constant_values=_edge(field.geometry))
    vertices, triangles, _, _ = library("skimage.measure").marching_cubes(values, 0.0)
    index = vertices.astype(np.float64) + [part.start - 1 for part in box]
    return oriented(Surface(field.geometry.index_to_mm(index[:, ::-1]), triangles.astype(np.int64)))


def _distance_to(mask: NDArray[np.bool_], cubes: Geometry) -> Floats:
    """Distance of each cube from the nearest of a mask, centre to centre, mm; right outside of the mask alone."""
    sitk = simpleitk()
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    image.SetSpacing(cubes.spacing_mm)
    measured = sitk.SignedMaurerDistanceMap(image, squaredDistance=False, useImageSpacing=True)
    found: Floats = sitk.GetArrayFromImage(measured)
    return found


def _edge(cubes: Geometry) -> float:
    return float(np.mean(cubes.spacing_mm))


def _interpolated(array: Floats, axis: int, count: int) -> Floats:
    """Linear interpolation at the centres of ``count`` cells that fill an axis; constant beyond the outermost."""
    n = array.shape[axis]
    at = np.clip((np.arange(count) + 0.5) * n / count - 0.5, 0, n - 1)
    lower = np.minimum(at.astype(np.int64), n - 2)
    weight = (at - lower).astype(np.float32).reshape([-1 if each == axis else 1 for each in range(3)])
    found: Floats = array.take(lower, axis) * (1 - weight) + array.take(lower + 1, axis) * weight
    return found


def _at_faces(values: Floats, truth: NDArray[np.bool_], axis: int) -> Floats:
    """Values at the faces across an axis between cubes of the structure and others, halfway between their centres."""
    values, truth = np.moveaxis(values, axis, 0), np.moveaxis(truth, axis, 0)
    faces = truth[1:] != truth[:-1]
    found: Floats = (values[1:][faces] + values[:-1][faces]) / 2
    return found


def _hundredths(values_mm: Floats) -> Steps:
    """Rounded up to 0.01 mm; what is equal but for the last bits of a sum stays equal."""
    rounded: Steps = np.ceil(values_mm.astype(np.float64) * 100 - 1e-3) / 100
    return rounded
