"""Surfaces to turn: coarse enough to look at, packed for the page. Needs the extra ``[anatomy]``."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from verdiff.anatomy import Spine, Surface, surface_of
from verdiff.anatomy.roles import roles_of
from verdiff.anatomy.spine import CANAL_ID, DISCS_FROM
from verdiff.imaging import Geometry
from verdiff.imaging.volume import Array
from verdiff.page.payload import reduced
from verdiff.page.promises import key_of

# Finer surfaces are no clearer on a screen, and many times larger.
_PITCH_MM = 0.9
_STEPS = 65535
# The cubes that no-go surfaces are made of are 0.75 mm; they are smooth.
_NO_GO_PITCH_MM = 1.8
# Fewer voxels than this make specks.
_SPECK = 8


@dataclass(frozen=True, eq=False)
class Shape:
    """One structure to turn.

    Attributes:
        name: ``"L4"``, ``"disc-below-L4"``, ``"canal"``.
        label: The id of the model's structure it is part of, whose colour it has.
        surface: Its surface.
        side: ``"outer"`` or ``"inner"`` of a no-go surface; ``""`` of the structure itself.
    """

    name: str
    label: int
    surface: Surface
    side: str = ""


def shapes_of(labels: Array, geometry: Geometry, label_table: Mapping[int, str], spine: Spine | None) -> list[Shape]:
    """Surfaces of the vertebrae and what belongs to them, or of whole structures where no vertebrae are known.

    Args:
        labels: Label ids [z, y, x].
        geometry: Their grid; with depth.
        label_table: Names by label id.
        spine: The vertebrae of the mask, if they were found.
    """
    found: list[Shape] = []
    covered: set[int] = set()
    if spine is not None:
        roles = roles_of({name: label for label, name in label_table.items()})
        coarse, grid = reduced(spine.instances, geometry, _PITCH_MM)
        kinds = {CANAL_ID: roles.canal, DISCS_FROM: roles.discs}
        for name, number in spine.structures.items():
            kind = CANAL_ID if number == CANAL_ID else DISCS_FROM if number >= DISCS_FROM else 0
            of_kind = kinds.get(kind, roles.bones)
            if (shape := _shape(name, of_kind[0], coarse == number, grid)) is not None:
                found.append(shape)
        covered = {*roles.bones, *roles.discs, *roles.canal}
    coarse, grid = reduced(labels, geometry, _PITCH_MM)
    for label, name in label_table.items():
        if label not in covered and (shape := _shape(name, label, coarse == label, grid)) is not None:
            found.append(shape)
    return found


def no_go_shapes(moved: Mapping[str, Mapping[str, Surface]], label_table: Mapping[int, str]) -> list[Shape]:
    """No-go surfaces to turn, coarser than their files.

    Args:
        moved: Side -> structure -> surface.
        label_table: Names by label id.
    """
    ids = {name: label for label, name in label_table.items()}
    return [
        Shape(key_of(name, side), ids[name], coarser(surface, _NO_GO_PITCH_MM), side)
        for side, surfaces in moved.items()
        for name, surface in surfaces.items()
    ]


def coarser(surface: Surface, pitch_mm: float) -> Surface:
    """A surface of fewer triangles, to look at: the vertices in each cube of space are one, in their mean.

    Rossignac and Borrel 1993, doi 10.1007/978-3-642-78114-8_29. No vertex moves further than a cube's diagonal; on a
    smooth surface it is a fraction of that. Edges of more than two triangles may arise where two sheets meet.

    Args:
        surface: The surface.
        pitch_mm: Edge of a cube.
    """
    cubes = np.floor((surface.vertices_mm - surface.vertices_mm.min(axis=0)) / pitch_mm).astype(np.int64)
    flat = np.ravel_multi_index(cubes.T, cubes.max(axis=0) + 1)
    _, cube, count = np.unique(flat, return_inverse=True, return_counts=True)
    means = [np.bincount(cube, weights=along) / count for along in surface.vertices_mm.T]
    corners = cube[surface.triangles]
    # A triangle within a cube, or between two, is no more.
    kept = corners[(corners != np.roll(corners, 1, axis=1)).all(axis=1)]
    return Surface(np.stack(means, axis=1), kept)


def _shape(name: str, label: int, mask: Array, grid: Geometry) -> Shape | None:
    if np.count_nonzero(mask) < _SPECK:
        return None
    return Shape(name, label, surface_of(mask, grid))


def packed(surface: Surface) -> tuple[bytes, dict[str, object]]:
    """A surface as bytes, gzipped, and what they mean.

    The vertices come first, uint16 [n, 3] steps within their box, then the triangles, int32 [m, 3], each corner as its
    difference to the one before. Millimetres are NIfTI's (RAS).
    """
    vertices = surface.vertices_mm * (-1.0, -1.0, 1.0)
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    step = np.maximum(high - low, 1e-6) / _STEPS
    corners = surface.triangles.ravel()
    moves = np.diff(corners, prepend=0).astype("<i4")
    raw = np.rint((vertices - low) / step).astype("<u2").tobytes()
    about = {
        "vertices": len(vertices),
        "triangles": len(surface.triangles),
        "low": low.tolist(),
        "step": step.tolist(),
    }
    # Whole numbers of four bytes begin at a multiple of four.
    return gzip.compress(raw + bytes(-len(raw) % 4) + moves.tobytes(), 6, mtime=0), about
