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

# Finer surfaces are no clearer on a screen, and many times larger.
_PITCH_MM = 0.9
_STEPS = 65535
# Fewer voxels than this make specks.
_SPECK = 8


@dataclass(frozen=True, eq=False)
class Shape:
    """One structure to turn.

    Attributes:
        name: ``"L4"``, ``"disc-below-L4"``, ``"canal"``.
        label: The id of the model's structure it is part of, whose colour it has.
        surface: Its surface.
    """

    name: str
    label: int
    surface: Surface


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
