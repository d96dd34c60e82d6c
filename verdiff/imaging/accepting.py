"""Whatever a caller calls a scan, as a checked :class:`~verdiff.imaging.volume.Volume`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from verdiff.errors import InputError
from verdiff.imaging import checks
from verdiff.imaging.itk import Image, simpleitk
from verdiff.imaging.volume import IDENTITY, Array, Geometry, Volume, geometry_of


def volume_from(
    scan: Volume | Image | tuple[Array, Sequence[float], Sequence[float] | Array | None],
) -> Volume:
    """The scan as a checked Volume.

    Args:
        scan: A Volume; a SimpleITK image; or (array [z, y, x], spacing in mm along x, y, z, direction as nine
            row-major cosines or [3, 3], None for the identity), placed at the origin.

    Raises:
        InputError: For anything `read_volume` would refuse in a file: 4D, colour, one voxel, non-finite or
            constant intensities, an absurd spacing, a sheared direction.
    """
    if isinstance(scan, Volume):
        volume = scan
    elif isinstance(scan, tuple):
        volume = _from_tuple(scan)
    elif hasattr(scan, "GetDirection") and hasattr(scan, "GetSpacing"):
        sitk = simpleitk()

        checks.check_scalar(scan.GetNumberOfComponentsPerPixel(), "the SimpleITK image")
        image = checks.as_three_dimensional(scan, "the SimpleITK image")
        volume = Volume(sitk.GetArrayFromImage(image), geometry_of(image))
    else:
        raise InputError(
            f"a scan of type {type(scan).__name__}",
            "a verdiff Volume, a SimpleITK image, or (array, spacing_mm, direction)",
            "read files with verdiff.imaging.read_volume",
        )
    checks.check_volume(volume, str(volume.source or "the scan"))
    return volume


def _from_tuple(scan: tuple[Any, ...]) -> Volume:
    if len(scan) != 3:
        raise InputError(
            f"a tuple of {len(scan)} items", "(array, spacing_mm, direction)", "pass None for an unknown direction"
        )
    array, spacing = np.asarray(scan[0]), [float(value) for value in scan[1]]
    cosines = IDENTITY if scan[2] is None else tuple(float(value) for value in np.asarray(scan[2]).ravel())
    if array.ndim != 3 or len(spacing) != 3 or len(cosines) != 9:
        raise InputError(
            f"an array of {array.ndim} dimensions, {len(spacing)} spacings and {len(cosines)} cosines",
            "an array [z, y, x], three spacings (x, y, z) in mm and nine direction cosines",
            "add a leading axis to a single slice; take one time point or channel of a 4D array",
        )
    depth, height, width = array.shape
    geometry = Geometry((width, height, depth), (spacing[0], spacing[1], spacing[2]), direction=cosines)
    return Volume(array, geometry)
