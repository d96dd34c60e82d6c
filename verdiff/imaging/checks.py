"""What an image must be before anything is computed from it; each refusal names what was found and the way out."""

from __future__ import annotations

import math

import numpy as np

from verdiff.errors import InputError
from verdiff.imaging.itk import Image, simpleitk
from verdiff.imaging.volume import Array, Geometry, Volume

MIN_SPACING_MM = 0.01
MAX_SPACING_MM = 50.0
# A cosine between two voxel axes of 3e-4 moves a corner of a 500 mm scan by 0.15 mm: rounding and registration tools
# leave as much. The rest is float32's own rounding of a shear of 3e-4.
MAX_SHEAR = 3.2e-4
# Of a direction's length from one: a header has a few decimals of each cosine.
MAX_LENGTH = 1e-3


def check_scalar(components: int, name: str) -> None:
    """Refuse colour and vector images."""
    if components != 1:
        kind = {2: "complex or two-channel", 3: "RGB", 4: "RGBA"}.get(components, f"{components}-channel")
        raise InputError(
            f"{name} has {components} values a pixel ({kind})",
            "one grey value a pixel",
            "save it as a greyscale image",
        )


def as_three_dimensional(image: Image, name: str) -> Image:
    """The image with exactly three dimensions: a film gains a plane, a fourth dimension of length one is dropped.

    Raises:
        InputError: If there is more than one volume in it.
    """
    sitk = simpleitk()

    if image.GetDimension() == 2:
        spacing = image.GetSpacing()
        # A film has no thickness; its own pixel keeps the voxel near a cube.
        return sitk.JoinSeries(image, 0.0, math.sqrt(spacing[0] * spacing[1]))
    if image.GetDimension() > 3:
        check_dimensions(image.GetSize(), name)
        return sitk.Extract(image, [*image.GetSize()[:3], *([0] * (image.GetDimension() - 3))])
    return image


def check_dimensions(size: tuple[int, ...], name: str) -> None:
    """Refuse images that hold several volumes (time points, echoes, directions)."""
    if any(n > 1 for n in size[3:]):
        raise InputError(
            f"{name} has {len(size)} dimensions of sizes {' x '.join(map(str, size))}",
            "one three-dimensional volume",
            "extract one volume (one time point, echo or direction) and pass that file",
        )


def check_geometry(geometry: Geometry, name: str) -> None:
    """Refuse grids that are a point or a line, have an impossible spacing, or are sheared."""
    if sum(n > 1 for n in geometry.size) < 2:
        voxels = math.prod(geometry.size)
        raise InputError(
            f"{name} has {voxels} voxel{'s' if voxels != 1 else ''} ({' x '.join(map(str, geometry.size))})",
            "at least a plane of voxels",
            "check that the whole image was exported",
        )
    spacing_text = " x ".join(f"{value:g}" for value in geometry.spacing_mm)
    if not all(math.isfinite(value) and MIN_SPACING_MM <= value <= MAX_SPACING_MM for value in geometry.spacing_mm):
        raise InputError(
            f"{name} states a voxel spacing of {spacing_text} mm",
            f"spacings between {MIN_SPACING_MM:g} and {MAX_SPACING_MM:g} mm on every axis",
            "write the true spacing in millimetres into the file's header",
        )
    if not all(math.isfinite(value) for value in (*geometry.origin_mm, *geometry.direction)):
        raise InputError(
            f"{name} has an origin or direction that is not finite", "a finite position", "export the image again"
        )
    check_not_sheared(geometry.matrix, name)
    lengths = np.linalg.norm(geometry.matrix, axis=0)
    if not np.all(np.abs(lengths - 1) <= MAX_LENGTH):
        raise InputError(
            f"{name} has direction cosines of length {', '.join(f'{value:g}' for value in lengths)}",
            "cosines of length one; how far voxels lie apart is the spacing's to say",
            "divide each axis's cosines by their length, and correct the spacing if it was in them",
        )


def check_not_sheared(columns: Array, name: str) -> None:
    """Refuse voxel axes that are not at right angles; `columns` [3, 3] holds one axis a column, of any length."""
    norms = np.linalg.norm(columns, axis=0)
    if not np.all(np.isfinite(norms)) or norms.min() <= 0:
        raise InputError(
            f"{name} has a voxel axis of no length in its orientation",
            "three axes at right angles",
            "repair the orientation in the header, or export the image again",
        )
    cosines = np.abs((columns / norms).T @ (columns / norms) - np.eye(3))
    if cosines.max() > MAX_SHEAR:
        degrees = math.degrees(math.asin(min(1.0, float(cosines.max()))))
        raise InputError(
            f"{name} is sheared: two of its voxel axes are {degrees:.2f} degrees off a right angle",
            "voxel axes at right angles (a rigid orientation)",
            "resample it onto an orthogonal grid first (SimpleITK.Resample, or a gantry-tilt correction)",
        )


def check_intensities(array: Array, name: str, *, allow_constant: bool = False) -> None:
    """Refuse intensities that are not numbers, or that are the same everywhere."""
    if array.dtype.kind not in "biuf":
        raise InputError(
            f"{name} has pixels of type {array.dtype}",
            "integer or floating-point grey values",
            "save it with a plain numeric pixel type",
        )
    if array.dtype.kind == "f":
        bad = int(array.size - np.count_nonzero(np.isfinite(array)))
        if bad:
            raise InputError(
                f"{name} has {bad} voxels that are NaN or infinite",
                "finite intensities",
                "replace them by the background's value, or export the image again",
            )
    if not allow_constant and array.min() == array.max():
        raise InputError(
            f"{name} is constant: every voxel is {array.flat[0]:g}",
            "an image with contrast",
            "check that the pixels were exported and the right file was chosen",
        )


def check_volume(volume: Volume, name: str, *, allow_constant: bool = False) -> None:
    """All checks of geometry and intensities.

    Raises:
        InputError: With what was found, what was expected and what to do.
    """
    check_geometry(volume.geometry, name)
    check_intensities(volume.array, name, allow_constant=allow_constant)
