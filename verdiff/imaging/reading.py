"""Read a scan or a mask: one function for every format, one precise error for every way a file can be wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from verdiff.errors import InputError
from verdiff.imaging import checks, dicom, film, metaimage, nifti, nifti_forms, nrrd
from verdiff.imaging.atomic import full_suffix
from verdiff.imaging.dicom_folder import is_of_the_system
from verdiff.imaging.dicom_header import begins_as_dicom
from verdiff.imaging.dicom_zip import ZIP_SUFFIX, is_zip
from verdiff.imaging.orientation import FORMS, axis_code, parse_orientation, refuse_other_code
from verdiff.imaging.volume import Volume

NIFTI_SUFFIXES = (".nii", ".nii.gz")
MEDICAL_SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")
FILM_SUFFIXES = (".png", ".jpg", ".jpeg")
DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
_OTHER_SUFFIXES = (*NIFTI_SUFFIXES, *MEDICAL_SUFFIXES, *FILM_SUFFIXES)
# A label may lie this far from the whole number it is: a slope or an interpolation rounds.
_LABEL_TOLERANCE = 1e-3


def read_volume(
    path: str | Path, *, modality: str | None = None, orientation: str | None = None, time_point: int | None = None
) -> Volume:
    """Read a scan: NIfTI, NRRD, MetaImage, a DICOM file, a folder or zip of one DICOM series, or a PNG/JPEG film.

    The modality is what DICOM states, "XR" for films, and None where the format does not carry it. A film has no
    scale: its pixel counts as 1 mm.

    Args:
        path: File or folder.
        modality: Overrules what the file says.
        orientation: What to take where a file leaves its orientation open: "qform" or "sform" of a NIfTI whose two
            contradict each other, or three letters for where the voxel axes run, such as "RAS" (to the patient's
            right, to anterior, to superior), of a file that states none. It never overrules what a file states.
        time_point: Which volume to take, from 1, of a DICOM series that holds several: time points, echoes and the
            like, in the order of what the frames say of them.

    Raises:
        InputError: If the file is missing, truncated, damaged or no image; holds several volumes, colour or a single
            voxel; has NaN, infinite or constant intensities; states an impossible spacing, a sheared orientation, no
            orientation, or two that contradict each other; or if a folder holds no series or more than one.
    """
    return _read(Path(path), modality, orientation, labels=False, time_point=time_point)


def read_labels(path: str | Path, *, orientation: str | None = None) -> Volume:
    """Read a mask: any format of `read_volume`; it may be empty, and holds whole numbers (as int32 at most).

    Args:
        path: File or folder.
        orientation: See :func:`read_volume`.

    Raises:
        InputError: See :func:`read_volume`; and if a voxel is further than 0.001 from a whole number of at least zero.
    """
    volume = _read(Path(path), None, orientation, labels=True)
    array = volume.array
    if array.dtype.kind == "f":
        whole = np.rint(array)
        off = np.abs(array - whole) > _LABEL_TOLERANCE
        if off.any():
            raise InputError(
                f"{path} has {np.count_nonzero(off)} voxels that are not whole numbers, {array[off][0]:g} among them",
                "a label mask",
                "pass the mask, not the scan",
            )
        array = whole
    if array.min() < 0 or array.max() > np.iinfo(np.int32).max:
        raise InputError(
            f"{path} has labels from {array.min():g} to {array.max():g}", "labels of at least 0", "pass the mask"
        )
    return replace(volume, array=array.astype(np.int32) if array.dtype.kind == "f" else array)


def _read(
    path: Path, modality: str | None, orientation: str | None, *, labels: bool, time_point: int | None = None
) -> Volume:
    choice = parse_orientation(orientation)
    try:
        if not path.exists():
            raise InputError(f"there is no file or folder {path}", "a scan to read", "check the path")
        volume = _read_dicom(path, choice, time_point) or _read_by_kind(path, choice)
        if time_point is not None and volume.identity is None:
            raise InputError(
                f"time point {time_point} of {path}, which is no DICOM",
                "a DICOM series that holds several volumes",
                "leave it out",
            )
    except (OSError, ValueError) as error:
        # A name with a zero byte is a ValueError.
        why = (isinstance(error, OSError) and error.strerror) or error
        raise InputError(f"{path} cannot be opened: {why}", "a readable file", "check its permissions") from error
    except MemoryError as error:
        raise InputError(
            f"{path} does not fit into memory", "a scan that this machine can hold", "crop it, or use another machine"
        ) from error
    checks.check_volume(volume, str(path), allow_constant=labels)
    return volume if modality is None else replace(volume, modality=modality)


def files_of(scan: Path) -> list[Path]:
    """The files that a scan lies in: those of a folder, sorted, or one with those that its header names.

    What a system leaves in folders is left out, and a file whose header cannot be read is itself alone.

    Raises:
        OSError: The scan is not there or cannot be opened.
    """
    if scan.is_dir():
        return sorted(path for path in scan.iterdir() if path.is_file() and not is_of_the_system(path))
    if not scan.is_file():
        raise FileNotFoundError(scan)
    kinds = {".nrrd": nrrd, ".nhdr": nrrd, ".mha": metaimage, ".mhd": metaimage}
    try:
        kind = kinds.get(full_suffix(scan))
        return [scan, *(kind.voxel_files(scan) if kind else [])]
    except InputError:
        return [scan]


def _read_dicom(path: Path, choice: str | None, time_point: int | None) -> Volume | None:
    """A folder or zip of one DICOM series, or one of its files, by its suffix or its first bytes; None for the rest."""
    suffix = full_suffix(path)
    read: Callable[[Path, int | None], Volume]
    if path.is_dir():
        read = dicom.read_folder
    elif not path.is_file() or path.stat().st_size == 0 or path.name.startswith("._") or _is_directory_file(path):
        return None
    elif suffix == ZIP_SUFFIX or (suffix not in _OTHER_SUFFIXES and is_zip(path)):
        read = dicom.read_zip
    elif suffix in DICOM_SUFFIXES or (suffix not in _OTHER_SUFFIXES and begins_as_dicom(path)):
        read = dicom.read_file
    else:
        return None
    return _as_stated(read(path, time_point), path, choice)


def _is_directory_file(path: Path) -> bool:
    return path.name.upper() == "DICOMDIR"


def _read_by_kind(path: Path, choice: str | None) -> Volume:
    if not path.is_file():
        raise InputError(f"{path} is no ordinary file", "an image file or a folder", "save the scan as a file first")
    suffix = full_suffix(path)
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty", "an image", "copy or export the file again")
    if _is_directory_file(path):
        raise InputError(
            f"{path} lists the files of a medium and holds no image itself",
            "the folder of one series",
            "pass the folder that holds the files of the series",
        )
    if path.name.startswith("._"):
        raise InputError(
            f"{path} holds what macOS keeps beside a file, no image", "the scan", f"pass {path.name[2:]} instead"
        )
    if suffix in NIFTI_SUFFIXES:
        return _read_nifti(path, choice)
    if suffix in (".nrrd", ".nhdr"):
        return nrrd.read(path, choice)
    if suffix in (".mha", ".mhd"):
        return metaimage.read(path, choice)
    if suffix in FILM_SUFFIXES:
        return _as_stated(film.read(path), path, choice)
    raise InputError(
        f"{path} is not an image of a known kind",
        f"{', '.join(_OTHER_SUFFIXES)}, a DICOM file, or a folder or zip of one series",
        "convert it to one of these",
    )


def _as_stated(volume: Volume, path: Path, choice: str | None) -> Volume:
    """A scan of a format that states its orientation once; the user's choice may only say the same."""
    if choice is not None and choice not in FORMS and volume.modality == "XR":
        raise InputError(
            f"the orientation {choice} for {path}, which is a film",
            "an orientation for a volume that leaves it open",
            "leave --orientation out",
        )
    refuse_other_code(str(path), choice, axis_code(volume.geometry.matrix))
    return volume


def _read_nifti(path: Path, choice: str | None) -> Volume:
    header = nifti.read_header(path)
    geometry, notes = nifti_forms.geometry(header, path, choice)
    checks.check_geometry(geometry, str(path))
    array = nifti.read_array(path, header)
    return Volume(array, geometry, None, path, header.raw, (*notes, *header.remarks))
