"""DICOM files and series: every slice at the place that it states, or a refusal that says which slice and why."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from verdiff.errors import InputError
from verdiff.imaging.dicom_elements import Damaged
from verdiff.imaging.dicom_folder import read_series, series_of
from verdiff.imaging.dicom_frames import DicomFrame, check_grey, frames_of, modality_of
from verdiff.imaging.dicom_header import DicomFile, NotDicom, read_header
from verdiff.imaging.dicom_padding import Padded
from verdiff.imaging.dicom_pixels import intensities, joined
from verdiff.imaging.dicom_remarks import refuse_no_scan, refuse_two_patients, remarks
from verdiff.imaging.dicom_volumes import one_volume
from verdiff.imaging.dicom_zip import unzipped
from verdiff.imaging.identity import Identity, SourceFrame, one_of
from verdiff.imaging.orientation import no_thickness
from verdiff.imaging.stack import Plane, check_plane, check_spacing, single, stack
from verdiff.imaging.volume import Array, Geometry, Volume

_PATIENT_POSITION, _ASPECT_RATIO = 0x00185100, 0x00280034
_STUDY, _SERIES, _FRAME_OF_REFERENCE = 0x0020000D, 0x0020000E, 0x00200052
_SOP_CLASS, _SOP_INSTANCE, _MODALITY, _FRAMES = 0x00080016, 0x00080018, 0x00080060, 0x00280008

_NO_SPACING = "it states no pixel spacing: a pixel counts as 1 mm"


def read_file(path: Path, time_point: int | None = None) -> Volume:
    """One DICOM file: a film, a slice, or several frames that form a volume.

    Args:
        path: The file.
        time_point: Which of its volumes, from 1, where it holds several.

    Raises:
        InputError: If it is damaged, holds no image or several volumes, or its frames do not form a volume.
    """
    try:
        file = read_header(path)
    except NotDicom as error:
        raise InputError(
            f"{path} is truncated, damaged or not a DICOM image: it lacks the preamble and the mark DICM, and does not "
            "begin with a DICOM element",
            "a complete DICOM image",
            "copy or export the file again",
        ) from error
    except Damaged as error:
        raise _damaged(path, error) from error
    return _read([file], path, (), time_point)


def read_folder(folder: Path, time_point: int | None = None) -> Volume:
    """The one series in a folder, its slices sorted by position along their normal.

    Args:
        folder: Holds the files itself.
        time_point: Which of its volumes, from 1, where it holds several.

    Raises:
        InputError: If there is no series or more than one; if slices differ in size, spacing or orientation, share a
            position, are shifted, or leave a gap; if the gantry was tilted, or a file is damaged or empty.
    """
    series = read_series(folder)
    return _read(series.files, folder, series.notes, time_point)


def read_zip(path: Path, time_point: int | None = None) -> Volume:
    """The one series in a zip archive, in whatever folders its files lie there.

    Args:
        path: The archive.
        time_point: Which of its volumes, from 1, where it holds several.

    Raises:
        InputError: See :func:`read_folder`; and if the archive is damaged, encrypted or too large.
    """
    with unzipped(path) as paths:
        series = series_of(paths, path)
        return _read(series.files, path, series.notes, time_point)


def _read(files: Sequence[DicomFile], source: Path, notes: tuple[str, ...], time_point: int | None) -> Volume:
    frames: list[DicomFrame] = []
    for file in files:
        name = str(file.path) if file.path == source else f"{file.path.name}"
        try:
            called = name if file.path == source else f"{name} of {source}"
            check_grey(file, called)
            refuse_no_scan(file, called)
            frames += frames_of(file, name, alone=len(files) == 1)
        except Damaged as error:
            raise _damaged(file.path, error) from error
    refuse_two_patients(files, str(source))
    frames, chosen = one_volume(frames, time_point, str(source))
    notes = (*notes, *chosen)
    modality, first = modality_of(files[0]), frames[0].plane
    order = [0]
    if len(frames) > 1:
        order, geometry, rounded = stack([frame.plane for frame in frames], str(source))
        notes = (*notes, *rounded)
    elif modality == "XR":
        geometry, more = _film(files[0], first)
        notes = (*notes, *more)
    elif first.placed:
        geometry = single(first)
        if not first.thickness > 0:
            notes = (*notes, no_thickness(geometry.spacing_mm[2]))
    else:
        geometry = _unplaced(first)
    notes = (*notes, *remarks(files, frames, geometry, chosen=bool(chosen)))
    padded = Padded()
    array = joined(_in_order(frames, order, padded), len(order))
    if padded.pixels:
        share = 100 * padded.pixels / array.size
        notes = (*notes, f"{share:.1f} % of it is padding brighter than the image (Pixel Padding Value): taken as dark")
    identity = _identity(files, [frames[index] for index in order], source)
    return Volume(array, geometry, modality, source, notes=notes, identity=identity)


def _identity(files: Sequence[DicomFile], frames: Sequence[DicomFrame], source: Path) -> Identity:
    def stated(tag: int, what: str) -> str:
        return one_of([(file.path.name, file.text(tag)) for file in files], what, str(source))

    several = {file.path: file.text(_FRAMES) not in ("", "1") for file in files}
    return Identity(
        study=stated(_STUDY, "Study Instance UIDs"),
        series=stated(_SERIES, "Series Instance UIDs"),
        frame_of_reference=stated(_FRAME_OF_REFERENCE, "frames of reference"),
        modality=stated(_MODALITY, "modalities").upper(),
        patient_position=stated(_PATIENT_POSITION, "patient positions").upper(),
        slices=tuple(
            SourceFrame(
                frame.file.text(_SOP_CLASS),
                frame.file.text(_SOP_INSTANCE),
                frame.index + 1 if several[frame.file.path] else None,
            )
            for frame in frames
        ),
    )


def _in_order(frames: Sequence[DicomFrame], order: Sequence[int], padded: Padded) -> Iterator[Array]:
    """The intensities of frames in an order; a file's pixels are read once where its frames follow one another."""
    for _, some in itertools.groupby(order, key=lambda index: frames[index].file.path):
        yield from intensities([frames[index] for index in some], padded)


def _film(file: DicomFile, plane: Plane) -> tuple[Geometry, tuple[str, ...]]:
    if len(plane.pixel_spacing) != 2:
        ratio = file.numbers(_ASPECT_RATIO)
        # How many times as high as it is wide a pixel is.
        high = ratio[0] / ratio[1] if len(ratio) == 2 and min(ratio) > 0 else 1.0
        note = f"it states no pixel spacing: a pixel counts as {high:.4g} x 1 mm" if high != 1 else _NO_SPACING
        here = replace(plane, pixel_spacing=(high, 1.0))
        check_spacing(here, plane.name)
        return Geometry((*plane.size, 1), (1.0, high, math.sqrt(high)), oriented=False), (note,)
    check_spacing(plane, plane.name)
    rows, columns = plane.pixel_spacing
    return Geometry((*plane.size, 1), (columns, rows, math.sqrt(rows * columns)), oriented=False), ()


def _unplaced(plane: Plane) -> Geometry:
    """One slice that says nothing of the patient: it lies as a film does."""
    here = replace(plane, position=(0.0, 0.0, 0.0), orientation=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0), thickness=0.0)
    check_plane(here)
    return replace(single(here), oriented=False)


def _damaged(path: Path, error: Damaged) -> InputError:
    return InputError(
        f"{path} is truncated, damaged or not a DICOM image: {error}",
        "a complete DICOM image",
        "copy or export the file again",
    )
