"""Read a scan or a mask: one function for every format, one precise error for every way a file can be wrong."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from verdiff.errors import InputError
from verdiff.imaging import checks, dicom, nifti
from verdiff.imaging.atomic import full_suffix
from verdiff.imaging.itk import reason, simpleitk
from verdiff.imaging.volume import Array, Geometry, Volume, geometry_of

NIFTI_SUFFIXES = (".nii", ".nii.gz")
MEDICAL_SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")
FILM_SUFFIXES = (".png", ".jpg", ".jpeg")
DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")


def read_volume(path: str | Path, *, modality: str | None = None) -> Volume:
    """Read a scan: NIfTI, NRRD, MetaImage, one DICOM file, a folder with one DICOM series, or a PNG/JPEG film.

    The modality is what DICOM states, "XR" for films, and None where the format does not carry it. A film has no
    scale: its pixel counts as 1 mm.

    Args:
        path: File or folder.
        modality: Overrules what the file says.

    Raises:
        InputError: If the file is missing, truncated or no image; holds several volumes, colour or a single voxel;
            has NaN, infinite or constant intensities; states an impossible spacing or a sheared orientation; or if
            a folder holds no series or more than one.
    """
    return _read(Path(path), modality, labels=False)


def read_labels(path: str | Path) -> Volume:
    """Read a mask: any format of `read_volume`; it may be empty, and holds whole numbers (as int32 at most).

    Raises:
        InputError: As `read_volume`, and if a voxel is not a whole number of at least zero.
    """
    volume = _read(Path(path), None, labels=True)
    array = volume.array
    if array.dtype.kind == "f" and not np.array_equal(array, np.rint(array)):
        raise InputError(f"{path} has voxels that are not whole numbers", "a label mask", "pass the mask, not the scan")
    if array.min() < 0 or array.max() > np.iinfo(np.int32).max:
        raise InputError(
            f"{path} has labels from {array.min():g} to {array.max():g}", "labels of at least 0", "pass the mask"
        )
    whole = array.astype(np.int32) if array.dtype.kind == "f" else array
    return Volume(whole, volume.geometry, volume.modality, volume.source, volume.nifti_header)


def _read(path: Path, modality: str | None, *, labels: bool) -> Volume:
    if not path.exists():
        raise InputError(f"there is no file or folder {path}", "a scan to read", "check the path")
    try:
        volume = _read_by_kind(path)
    except OSError as error:
        raise InputError(
            f"{path} cannot be opened: {error.strerror or error}", "a readable file", "check its permissions"
        ) from error
    checks.check_volume(volume, str(path), allow_constant=labels)
    if modality is None:
        return volume
    return Volume(volume.array, volume.geometry, modality, volume.source, volume.nifti_header)


def _read_by_kind(path: Path) -> Volume:
    if path.is_dir():
        return dicom.read_folder(path)
    suffix = full_suffix(path)
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty", "an image", "copy or export the file again")
    if suffix in NIFTI_SUFFIXES:
        return _read_nifti(path)
    if suffix in MEDICAL_SUFFIXES:
        return _read_itk(path)
    if suffix in FILM_SUFFIXES:
        return _read_film(path)
    if suffix in DICOM_SUFFIXES or dicom.is_dicom(path):
        return dicom.read_file(path)
    raise InputError(
        f"{path} is not an image of a known kind",
        f"{', '.join((*NIFTI_SUFFIXES, *MEDICAL_SUFFIXES, *FILM_SUFFIXES))}, a DICOM file or a folder of one series",
        "convert it to one of these",
    )


def _read_nifti(path: Path) -> Volume:
    sitk = simpleitk()

    header = nifti.read_header(path)
    reader = sitk.ImageFileReader()
    reader.SetImageIO("NiftiImageIO")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise _unreadable(path, error) from error
    # ITK decides between qform and sform, as for every other reader that is built on it.
    size = (*header.size, 1, 1)[:3]
    spacing, origin, cosines = reader.GetSpacing(), reader.GetOrigin(), reader.GetDirection()
    flat = len(spacing) == 2
    geometry = Geometry(
        size=(size[0], size[1], size[2]),
        spacing_mm=(spacing[0], spacing[1], math.sqrt(spacing[0] * spacing[1]) if flat else spacing[2]),
        origin_mm=(origin[0], origin[1], 0.0 if flat else origin[2]),
        direction=(*cosines[:2], 0.0, *cosines[2:4], 0.0, 0.0, 0.0, 1.0) if flat else _upper_left(cosines),
    )
    checks.check_geometry(geometry, str(path))
    return Volume(nifti.read_array(path, header), geometry, None, path, header.raw)


def _upper_left(cosines: tuple[float, ...]) -> tuple[float, ...]:
    """The 3 x 3 of a 3 x 3 or 4 x 4 direction."""
    n = math.isqrt(len(cosines))
    return tuple(cosines[row * n + col] for row in range(3) for col in range(3))


def _read_itk(path: Path) -> Volume:
    sitk = simpleitk()

    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise _unreadable(path, error) from error
    checks.check_scalar(image.GetNumberOfComponentsPerPixel(), str(path))
    image = checks.as_three_dimensional(image, str(path))
    return Volume(_single(sitk.GetArrayFromImage(image)), geometry_of(image), None, path)


def _read_film(path: Path) -> Volume:
    sitk = simpleitk()

    if full_suffix(path) != ".png":
        # The decoder fills what is missing with grey and says so only on the terminal.
        data = path.read_bytes()
        if data[:2] == b"\xff\xd8" and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
            raise _unreadable(path, RuntimeError("the JPEG ends before its end marker"))
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise _unreadable(path, error) from error
    checks.check_scalar(image.GetNumberOfComponentsPerPixel(), str(path))
    array = sitk.GetArrayFromImage(image)[None]
    # The resolution stored in such files is a printer's, not the detector's.
    return Volume(array, Geometry((array.shape[2], array.shape[1], 1), (1.0, 1.0, 1.0)), "XR", path)


def _single(array: Array) -> Array:
    return array.astype(np.float32) if array.dtype == np.float64 else array


def _unreadable(path: Path, error: RuntimeError) -> InputError:
    why = reason(error)
    if "spacing" in str(error).lower():
        return InputError(
            f"{path} states an impossible voxel spacing ({why})",
            f"spacings between {checks.MIN_SPACING_MM:g} and {checks.MAX_SPACING_MM:g} mm",
            "write the true spacing into the header",
        )
    if "orthonormal" in str(error) or "determinant" in str(error):
        return InputError(
            f"{path} is sheared: its header has no orientation with axes at right angles",
            "voxel axes at right angles",
            "resample it onto an orthogonal grid first",
        )
    return InputError(
        f"{path} is truncated, damaged or not an image ({why})", "a complete image file", "copy or export it again"
    )
