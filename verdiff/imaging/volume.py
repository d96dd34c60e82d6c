"""The one type every image is held in: an array with the geometry that places it in the patient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from verdiff.errors import InputError
from verdiff.imaging.identity import Identity
from verdiff.imaging.itk import Image

Array: TypeAlias = NDArray[Any]
Triple: TypeAlias = tuple[float, float, float]

# DICOM codes of projection radiographs, and the one that verdiff gives to them all.
FILM = "XR"
FILM_MODALITIES = frozenset({FILM, "CR", "DX", "DR", "IO", "RF", "RG", "XA"})
IDENTITY: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True)
class Geometry:
    """Where the voxels of an image lie in the patient, in LPS millimetres as ITK has them.

    Args:
        size: Voxels along x, y, z.
        spacing_mm: Distance of voxel centres along x, y, z.
        origin_mm: Position of the centre of voxel (0, 0, 0).
        direction: 3 x 3 cosines, row major; column c is the direction in which voxel axis c runs.
        oriented: Whether it says where the patient's left, back and head are; a film does not.
    """

    size: tuple[int, int, int]
    spacing_mm: Triple
    origin_mm: Triple = (0.0, 0.0, 0.0)
    direction: tuple[float, ...] = IDENTITY
    oriented: bool = True

    @property
    def matrix(self) -> NDArray[np.float64]:
        """Direction cosines as [3, 3]."""
        return np.asarray(self.direction, dtype=np.float64).reshape(3, 3)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape [z, y, x] of the array that goes with this geometry."""
        return self.size[2], self.size[1], self.size[0]

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return math.prod(self.spacing_mm) / 1000.0

    def index_to_mm(self, index_xyz: Sequence[float] | Sequence[Sequence[float]] | Array) -> NDArray[np.float64]:
        """Positions in mm, [..., 3], of (fractional) voxel indices x, y, z, [..., 3]."""
        index = np.asarray(index_xyz, dtype=np.float64)
        offset: NDArray[np.float64] = (index * np.asarray(self.spacing_mm)) @ self.matrix.T
        return np.asarray(self.origin_mm) + offset

    def corners_mm(self) -> NDArray[np.float64]:
        """Positions in mm of the centres of the eight corner voxels, [8, 3]."""
        far = [n - 1.0 for n in self.size]
        return self.index_to_mm([[x, y, z] for z in (0.0, far[2]) for y in (0.0, far[1]) for x in (0.0, far[0])])

    def matches(self, other: Geometry, tolerance_mm: float = 1e-3) -> bool:
        """Whether both grids have the same size and their corners lie within `tolerance_mm` of each other."""
        return self.size == other.size and bool(np.abs(self.corners_mm() - other.corners_mm()).max() <= tolerance_mm)


@dataclass(frozen=True, eq=False)
class Volume:
    """An image: its intensities and where they lie.

    Args:
        array: Intensities [z, y, x].
        geometry: The grid, x, y, z.
        modality: "MR", "CT", "XR" (films), another DICOM code as it stands, or None where the file does not say.
        source: The file or folder it was read from.
        nifti_header: The 348 bytes of the NIfTI-1 header it was read with, so that a mask can carry them on.
        notes: What has to be said of how it was read: what the file left open and what was taken for it.
        identity: Whose image it is, where it was read from DICOM: its UIDs and the stored image of every slice.
    """

    array: Array
    geometry: Geometry
    modality: str | None = None
    source: Path | None = None
    nifti_header: bytes | None = field(default=None, repr=False)
    notes: tuple[str, ...] = ()
    identity: Identity | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.array.shape != self.geometry.shape:
            raise InputError(
                f"an array of shape {self.array.shape} with a geometry of shape {self.geometry.shape}",
                "an array [z, y, x] that fills its geometry (x, y, z)",
                "transpose the array, or give the geometry that belongs to it",
            )

    @property
    def film(self) -> bool:
        """Whether it is a radiograph, which has no depth; by its modality."""
        return self.modality in FILM_MODALITIES


def geometry_of(image: Image) -> Geometry:
    """The geometry of a three-dimensional SimpleITK image or information-only reader."""
    size, spacing, origin = image.GetSize(), image.GetSpacing(), image.GetOrigin()
    return Geometry(
        size=(int(size[0]), int(size[1]), int(size[2])),
        spacing_mm=(spacing[0], spacing[1], spacing[2]),
        origin_mm=(origin[0], origin[1], origin[2]),
        direction=tuple(image.GetDirection()),
    )
