"""Whatever a caller calls a scan, as a checked :class:`~verdiff.imaging.volume.Volume`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from verdiff.errors import InputError
from verdiff.imaging import checks
from verdiff.imaging.itk import Image, simpleitk
from verdiff.imaging.volume import IDENTITY, Array, Geometry, Volume, geometry_of
from verdiff.imaging.voxels import native, single


def volume_from(
    scan: Volume | Image | tuple[Array, Sequence[float], Sequence[float] | Array | None],
) -> Volume:
    """The scan as a checked Volume.

    Args:
        scan: A Volume; a SimpleITK image; or (array [z, y, x], spacing in mm along x, y, z, direction as nine
            row-major cosines or [3, 3], None for the identity, of which a note is made), placed at the origin.
            Arrays of any number type and byte order; truth values count as 0 and 1.

    Raises:
        InputError: For anything `read_volume` would refuse in a file: 4D, colour, one voxel, non-finite or
            constant intensities, an absurd spacing, a sheared direction; and for an array that is empty, holds no
            numbers, has masked values or values beyond 32-bit floats.
    """
    if isinstance(scan, Volume):
        name = str(scan.source or "the scan")
        array = usable_array(scan.array, name)
        volume = scan if array is scan.array else replace(scan, array=array)
    elif isinstance(scan, tuple):
        volume = _from_tuple(scan)
    elif hasattr(scan, "GetDirection") and hasattr(scan, "GetSpacing"):
        sitk = simpleitk()

        checks.check_scalar(scan.GetNumberOfComponentsPerPixel(), "the SimpleITK image")
        image = checks.as_three_dimensional(scan, "the SimpleITK image")
        geometry = replace(geometry_of(image), oriented=scan.GetDimension() > 2)
        volume = Volume(single(sitk.GetArrayFromImage(image), "the SimpleITK image"), geometry)
    else:
        raise InputError(
            f"a scan of type {type(scan).__name__}",
            "a verdiff Volume, a SimpleITK image, or (array, spacing_mm, direction)",
            "read files with verdiff.imaging.read_volume",
        )
    checks.check_volume(volume, str(volume.source or "the scan"))
    return volume


def usable_array(values: Any, name: str) -> Array:
    """Whatever numpy takes for an array, as plain numbers in the machine's byte order, float32 where they are floats.

    Truth values become 0 and 1. Nothing is copied that is right already.

    Args:
        values: The intensities.
        name: How to call them in messages.

    Raises:
        InputError: For what is no array of numbers, is empty, has masked values, or leaves the range of 32-bit floats.
    """
    if isinstance(values, np.ma.MaskedArray):
        if masked := int(np.count_nonzero(np.ma.getmaskarray(values))):
            raise InputError(
                f"{name} is a masked array with {masked} values that are masked",
                "a value for every voxel",
                "fill them first, for example with array.filled(array.min())",
            )
        values = values.data
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{name} is of type {type(values).__name__} and is no array ({error})",
            "an array [z, y, x] of numbers in the host's memory",
            "convert it with numpy.asarray; bring tensors to the host first",
        ) from error
    if array.dtype == np.bool_:
        array = array.astype(np.uint8)
    if array.dtype.kind not in "iuf":
        raise InputError(
            f"{name} has pixels of type {array.dtype}",
            "integer or floating-point grey values",
            "save it with a plain numeric pixel type, or convert it with array.astype",
        )
    if array.size == 0:
        raise InputError(
            f"{name} is empty: an array of shape {array.shape}", "at least a plane of voxels", "pass the whole scan"
        )
    return single(native(array), name)


def _from_tuple(scan: tuple[Any, ...]) -> Volume:
    if len(scan) != 3:
        raise InputError(
            f"a tuple of {len(scan)} items", "(array, spacing_mm, direction)", "pass None for an unknown direction"
        )
    array = usable_array(scan[0], "the array")
    try:
        spacing = [float(value) for value in scan[1]]
        cosines = IDENTITY if scan[2] is None else tuple(float(value) for value in np.asarray(scan[2]).ravel())
    except (TypeError, ValueError) as error:
        raise InputError(
            f"the spacing {scan[1]!r:.60} and the direction {scan[2]!r:.60} ({error})",
            "three spacings (x, y, z) in mm and nine direction cosines",
            "pass numbers; None for an unknown direction",
        ) from error
    if array.ndim != 3 or len(spacing) != 3 or len(cosines) != 9:
        raise InputError(
            f"an array of {array.ndim} dimensions, {len(spacing)} spacings and {len(cosines)} cosines",
            "an array [z, y, x], three spacings (x, y, z) in mm and nine direction cosines",
            "add a leading axis to a single slice; take one time point or channel of a 4D array",
        )
    depth, height, width = array.shape
    geometry = Geometry(
        (width, height, depth),
        (spacing[0], spacing[1], spacing[2]),
        direction=cosines,
        oriented=scan[2] is not None or depth > 1,
    )
    notes = ("no direction was given; x is taken to run to the left, y to posterior, z to superior",)
    return Volume(array, geometry, notes=notes if scan[2] is None and depth > 1 else ())
