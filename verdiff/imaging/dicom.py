"""DICOM files and series, sorted by where their slices lie, through SimpleITK's GDCM."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from verdiff.errors import InputError
from verdiff.imaging import checks
from verdiff.imaging.itk import ImageFileReader, reason, simpleitk
from verdiff.imaging.volume import Array, Geometry, Volume, geometry_of

_FILM_MODALITIES = {"CR", "DX", "RF", "XA", "RG", "DR", "IO"}
# Slices may lie this far from even spacing, as a part of it, before one counts as missing.
_SPACING_TOLERANCE = 0.1
_ORIENTATION_TOLERANCE = 1e-3


@dataclass(frozen=True)
class _Slice:
    """What one file says about itself before its pixels are read."""

    path: Path
    series: str
    description: str
    modality: str
    size: tuple[int, ...]
    pixel_spacing: tuple[float, ...]
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    thickness: float
    inverted: float | None

    @property
    def normal(self) -> Array:
        return np.cross(self.orientation[:3], self.orientation[3:])


def is_dicom(path: Path) -> bool:
    """Whether a file starts as DICOM part 10 files do."""
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def read_file(path: Path) -> Volume:
    """One DICOM file: a film, a slice, or an enhanced multi-frame volume.

    Raises:
        InputError: If it is damaged, holds no image, or states an impossible geometry.
    """
    sitk = simpleitk()

    reader = _reader(path)
    try:
        reader.ReadImageInformation()
        image = reader.Execute()
    except RuntimeError as error:
        raise _unreadable(path, error) from error
    header = _header(path, reader)
    _check_pixel_spacing(header)
    checks.check_scalar(image.GetNumberOfComponentsPerPixel(), str(path))
    image = checks.as_three_dimensional(image, str(path))
    geometry = geometry_of(image)
    modality = _modality(header)
    if modality == "XR" and geometry.size[2] == 1:
        pitch = geometry.spacing_mm
        geometry = Geometry(geometry.size, (pitch[0], pitch[1], math.sqrt(pitch[0] * pitch[1])))
    elif geometry.size[2] == 1 and header.thickness > 0:
        # A slice on its own has no distance to a next one; ITK would call it 1 mm.
        pitch = geometry.spacing_mm
        geometry = replace(geometry, spacing_mm=(pitch[0], pitch[1], header.thickness))
    return Volume(_values(sitk.GetArrayFromImage(image), header), geometry, modality, path)


def read_folder(folder: Path) -> Volume:
    """The one series in a folder, its slices sorted by position along their normal.

    Raises:
        InputError: If there is no series or more than one; if slices differ in size, spacing or orientation, share a
            position, or leave a gap; if the gantry was tilted, or a file is damaged.
    """
    slices = _series(folder)
    if len(slices) == 1:
        single = read_file(slices[0].path)
        return Volume(single.array, single.geometry, single.modality, folder)
    slices = _sorted(slices, folder)
    geometry = _stack_geometry(slices, folder)
    first = _plane(slices[0])
    array = np.empty((len(slices), *first.shape), dtype=first.dtype)
    array[0] = first
    for index, one in enumerate(slices[1:], start=1):
        plane = _plane(one)
        if plane.dtype != array.dtype:
            # Rescale may be stated slice by slice, and with it the type that holds the values.
            wider = np.promote_types(plane.dtype, array.dtype)
            array = array.astype(np.float32 if wider == np.float64 else wider, copy=False)
        array[index] = plane
    return Volume(array, geometry, _modality(slices[0]), folder)


def _series(folder: Path) -> list[_Slice]:
    """The files of the one image series that lies in the folder itself."""
    found: dict[str, list[_Slice]] = {}
    damaged: list[Path] = []
    entries = sorted(folder.iterdir())
    for path in (entry for entry in entries if entry.is_file() and not entry.name.startswith(".")):
        if path.name.upper() == "DICOMDIR" or not is_dicom(path):
            continue
        reader = _reader(path)
        try:
            reader.ReadImageInformation()
        except RuntimeError:
            damaged.append(path)
            continue
        one = _header(path, reader)
        found.setdefault(one.series, []).append(one)
    if damaged:
        raise InputError(
            f"{len(damaged)} DICOM file{'s' if len(damaged) > 1 else ''} of {folder} cannot be read as an image, "
            f"{damaged[0].name} among them",
            "complete DICOM images of one series",
            "copy the series again, or move reports and other objects out of the folder",
        )
    if not found:
        inner = [entry.name for entry in entries if entry.is_dir()]
        where = f"; it has the folders {', '.join(inner[:5])}" if inner else ""
        raise InputError(
            f"{folder} holds no DICOM image{where}",
            "a folder that directly holds the files of one DICOM series",
            "pass the folder of the series itself",
        )
    if len(found) > 1:
        names = "; ".join(
            f"{len(files)} x {files[0].modality} '{files[0].description or 'no description'}' (series {series})"
            for series, files in sorted(found.items())
        )
        raise InputError(
            f"{folder} mixes {len(found)} series: {names}",
            "one DICOM series a folder",
            "move each series to a folder of its own and pass one of them",
        )
    return next(iter(found.values()))


def _sorted(slices: list[_Slice], folder: Path) -> list[_Slice]:
    first = slices[0]
    for one in slices:
        _check_pixel_spacing(one)
        if len(one.position) != 3 or len(one.orientation) != 6 or len(one.pixel_spacing) != 2:
            raise InputError(
                f"{one.path.name} in {folder} does not say where its pixels lie",
                "Image Position, Image Orientation (Patient) and Pixel Spacing in every file",
                "pass single films one by one; export a volume's slices with their positions",
            )
        turned = np.abs(np.subtract(one.orientation, first.orientation)).max() > _ORIENTATION_TOLERANCE
        if turned or one.size != first.size or one.pixel_spacing != first.pixel_spacing:
            what = "orientation" if turned else "size or pixel spacing"
            raise InputError(
                f"the slices {first.path.name} and {one.path.name} of {folder} differ in {what}",
                "one stack of parallel slices of one size",
                "move scouts and localisers out of the folder",
            )
    return sorted(slices, key=lambda one: (float(np.dot(one.normal, one.position)), one.path.name))


def _stack_geometry(slices: Sequence[_Slice], folder: Path) -> Geometry:
    first, last = slices[0], slices[-1]
    along = np.array([float(np.dot(first.normal, one.position)) for one in slices])
    steps = np.diff(along)
    step = float(np.median(steps))
    same = int(np.argmin(steps))
    if steps[same] < checks.MIN_SPACING_MM:
        raise InputError(
            f"the slices {slices[same].path.name} and {slices[same + 1].path.name} of {folder} share a position",
            "one slice at each position",
            "split time points, echoes or repetitions into folders of their own",
        )
    uneven = int(np.argmax(np.abs(steps - step)))
    if abs(steps[uneven] - step) > _SPACING_TOLERANCE * step:
        raise InputError(
            f"the slices {slices[uneven].path.name} and {slices[uneven + 1].path.name} of {folder} are "
            f"{steps[uneven]:.2f} mm apart where the others are {step:.2f} mm apart",
            "evenly spaced slices",
            "copy the missing slices, or resample the series to even spacing",
        )
    rows, cols = np.asarray(first.orientation[:3]), np.asarray(first.orientation[3:])
    travel = np.subtract(last.position, first.position)
    columns = np.stack([rows, cols, travel], axis=1)
    checks.check_not_sheared(columns, f"{folder} (a tilted gantry)")
    spacing = first.pixel_spacing
    return Geometry(
        size=(first.size[0], first.size[1], len(slices)),
        spacing_mm=(spacing[1], spacing[0], float(along[-1] - along[0]) / (len(slices) - 1)),
        origin_mm=(first.position[0], first.position[1], first.position[2]),
        direction=tuple(np.stack([rows, cols, first.normal], axis=1).ravel().tolist()),
    )


def _plane(one: _Slice) -> Array:
    sitk = simpleitk()

    try:
        image = _reader(one.path).Execute()
    except RuntimeError as error:
        raise _unreadable(one.path, error) from error
    checks.check_scalar(image.GetNumberOfComponentsPerPixel(), str(one.path))
    array = sitk.GetArrayFromImage(image)
    return _values(array[0] if array.ndim == 3 else array, one)


def _values(array: Array, header: _Slice) -> Array:
    """Intensities with high = bright (films, MR) or in Hounsfield (CT), float32 where GDCM gives float64."""
    if header.inverted is not None and header.modality == "CT":
        # GDCM turns MONOCHROME1 over for display, before the rescale; Hounsfield units must not be turned.
        array = header.inverted - array.astype(np.float32)
    return array.astype(np.float32) if array.dtype == np.float64 else array


def _reader(path: Path) -> ImageFileReader:
    sitk = simpleitk()

    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    return reader


def _header(path: Path, reader: ImageFileReader) -> _Slice:
    def text(tag: str) -> str:
        return str(reader.GetMetaData(tag)).strip("\0 ") if reader.HasMetaDataKey(tag) else ""

    def numbers(tag: str) -> tuple[float, ...]:
        try:
            return tuple(float(part) for part in text(tag).split("\\")) if text(tag) else ()
        except ValueError:
            return ()

    inverted = None
    if text("0028|0004") == "MONOCHROME1":
        slope, intercept = (numbers("0028|1053") or (1.0,))[0], (numbers("0028|1052") or (0.0,))[0]
        inverted = slope * (2 ** (numbers("0028|0101") or (16.0,))[0] - 1) + 2 * intercept
    return _Slice(
        path=path,
        series=text("0020|000e"),
        description=text("0008|103e"),
        modality=text("0008|0060").upper(),
        size=tuple(int(n) for n in reader.GetSize()),
        pixel_spacing=numbers("0028|0030") or numbers("0018|1164"),
        position=numbers("0020|0032"),
        orientation=numbers("0020|0037"),
        thickness=(numbers("0018|0050") or (0.0,))[0],
        inverted=inverted,
    )


def _modality(header: _Slice) -> str | None:
    return "XR" if header.modality in _FILM_MODALITIES else header.modality or None


def _check_pixel_spacing(header: _Slice) -> None:
    # GDCM replaces a spacing of zero by 1 mm without a word.
    if any(not checks.MIN_SPACING_MM <= value <= checks.MAX_SPACING_MM for value in header.pixel_spacing):
        raise InputError(
            f"{header.path} states a pixel spacing of {' x '.join(f'{v:g}' for v in header.pixel_spacing)} mm",
            f"spacings between {checks.MIN_SPACING_MM:g} and {checks.MAX_SPACING_MM:g} mm",
            "export the image with its true Pixel Spacing",
        )


def _unreadable(path: Path, error: RuntimeError) -> InputError:
    return InputError(
        f"{path} is truncated, damaged or not a DICOM image ({reason(error)})",
        "a complete DICOM image",
        "copy or export the file again",
    )
