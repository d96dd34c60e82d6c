"""The grid the anatomy is worked out on: upright, cropped to the spine, about a millimetre, whatever the scan's is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from verdiff.anatomy.libraries import library
from verdiff.imaging import Geometry, SlicePlan, acquisition_view, plan_slices

Mask = NDArray[np.bool_]
Labels = NDArray[np.integer]

# Two voxels of a smaller pitch than this become one; a facet joint is 2 to 4 mm wide.
_PITCH_MM = 0.75


@dataclass(frozen=True)
class AnatomicalFrame:
    """The way between a scan's array and the working grid [right to left, top to bottom, front to back].

    Attributes:
        plan: Puts the scan's array upright.
        crop: The box of the upright array that holds every structure.
        factors: Voxels of the scan in one of the working grid, along each axis.
        spacing_mm: Spacing of the working grid along each axis.
        open_top, open_bottom: Whether the box ends where the scan does, so that a vertebra may go on beyond it.
    """

    plan: SlicePlan
    crop: tuple[slice, slice, slice]
    factors: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    open_top: bool
    open_bottom: bool

    def reduced(self, mask: Mask) -> Mask:
        """A mask of the scan on the working grid: true where at least half of the voxels are."""
        part = self.plan.extract(mask)[self.crop]
        part = np.pad(part, [(0, -n % factor) for n, factor in zip(part.shape, self.factors, strict=True)], "edge")
        (a, b, c), (i, j, k) = part.shape, self.factors
        blocks = part.reshape(a // i, i, b // j, j, c // k, k)
        counts = blocks.sum(axis=(1, 3, 5), dtype=np.int32)
        half: Mask = counts * 2 >= i * j * k
        return half

    def restored(self, labels: Labels, mask: Mask) -> NDArray[np.uint8]:
        """Labels of the working grid on the scan's, uint8 [z, y, x], for the voxels of ``mask``.

        A voxel of the mask takes the label of the working voxel it lies in, or else of the nearest one that has a
        label: none is lost to the coarser grid.
        """
        nearest = labels
        if not labels.all() and labels.any():
            at = library("scipy.ndimage").distance_transform_edt(
                labels == 0, self.spacing_mm, return_distances=False, return_indices=True
            )
            nearest = labels[tuple(at)]
        whole = np.zeros(mask.shape, np.uint8)
        target = self.plan.extract(whole)[self.crop]
        fine = nearest.astype(np.uint8)
        for axis, factor in enumerate(self.factors):
            fine = np.repeat(fine, factor, axis)
        target[...] = fine[tuple(slice(n) for n in target.shape)]
        whole[~mask] = 0
        return whole


def frame_of(mask: Mask, geometry: Geometry) -> AnatomicalFrame:
    """The working grid for the structures of ``mask`` [z, y, x], which has at least one voxel.

    Sagittal, or for a single plane as it is: rows run from top to bottom, as in a film.
    """
    film = geometry.size[2] == 1 and acquisition_view(geometry) == "film"
    plan = plan_slices(geometry, view="film" if film else "sagittal", spacing_mm=None)
    upright = plan.extract(mask)
    crop = []
    for axis in range(3):
        filled = np.flatnonzero(upright.any(axis=tuple(other for other in range(3) if other != axis)))
        crop.append(slice(int(filled[0]), int(filled[-1]) + 1))
    pitch = (plan.slice_spacing_mm, *plan.pixel_spacing_mm)
    factors = tuple(max(1, round(_PITCH_MM / spacing)) for spacing in pitch)
    rows = crop[1]
    return AnatomicalFrame(
        plan,
        (crop[0], rows, crop[2]),
        (factors[0], factors[1], factors[2]),
        (pitch[0] * factors[0], pitch[1] * factors[1], pitch[2] * factors[2]),
        rows.start == 0,
        rows.stop == upright.shape[1],
    )
