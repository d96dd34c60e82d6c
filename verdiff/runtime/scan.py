"""A scan as the networks take it, and its way to a model's grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from verdiff.bundle.objects import stated
from verdiff.imaging import plan_slices
from verdiff.imaging.volume_plan import VolumePlan, plan_volume

if TYPE_CHECKING:
    from verdiff.bundle import Manifest
    from verdiff.imaging import Geometry, SlicePlan
    from verdiff.imaging.picture import Box


@dataclass(frozen=True)
class Scan:
    """A scan as the networks take it.

    Attributes:
        plan: Whole slices and their grid.
        planes: The slices in their own pixels, [slices, rows, cols].
        bounds: Intensities that become -1 and 1.
        ids: Label id of each class index, uint8 [K + 1].
        multiple: What the networks' rows and columns are multiples of.
    """

    plan: SlicePlan
    planes: NDArray[np.generic]
    bounds: tuple[float, float]
    ids: NDArray[np.uint8]
    multiple: int


def slices_of(manifest: Manifest, geometry: Geometry, picture: Box | None = None) -> SlicePlan:
    """The way of a scan, or of the part that shows anything, to the grid of a model that takes slices, and back."""
    return plan_slices(
        geometry,
        view=manifest.view,  # type: ignore[arg-type]
        spacing_mm=manifest.spacing_mm,
        multiple=manifest.multiple,
        picture=picture,
    )


def plan_for(manifest: Manifest, geometry: Geometry) -> VolumePlan:
    """A scan's way to the grid of a model with ``manifest.volume``, and back."""
    volume = stated(manifest.volume, "volume")
    return plan_volume(
        geometry,
        view=manifest.view,  # type: ignore[arg-type]
        spacing_mm=volume.spacing_mm,
        patch=volume.patch,
        crop=volume.crop,
    )
