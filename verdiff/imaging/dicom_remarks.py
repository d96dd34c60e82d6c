"""What a DICOM series says of itself beside its pixels and places: why it is no scan, and what a reader has to know."""

from __future__ import annotations

from collections.abc import Sequence

from verdiff.errors import InputError
from verdiff.imaging.dicom_elements import items_of, text_of
from verdiff.imaging.dicom_frames import DicomFrame, rescale_type, spacing_between
from verdiff.imaging.dicom_header import DicomFile
from verdiff.imaging.volume import Geometry

_BODY_PART, _IMAGE_TYPE, _MODALITY = 0x00180015, 0x00080008, 0x00080060
_PATIENT, _NUMBER, _IN_ACQUISITION = 0x00100020, 0x00200013, 0x00201002
_FRAMES = 0x00280008
_MODALITY_LUT, _LUT_TYPE = 0x00283000, 0x00283004
# Two steps that differ by less than this share of one are one step.
_STEP_TOLERANCE = 0.02
# Defined terms of Body Part Examined (DICOM PS3.16, Annex L) that show no spine.
_WITHOUT_SPINE = {
    *("ANKLE", "CALF", "EXTREMITY", "FEMUR", "FOOT", "HEEL", "KNEE", "LEG", "PATELLA", "THIGH", "TIBIAFIBULA", "TOE"),
    *("ARM", "CLAVICLE", "ELBOW", "FINGER", "FOREARM", "HAND", "HUMERUS", "RADIUS", "RADIUSULNA", "SCAPULA"),
    *("SHOULDER", "THUMB", "ULNA", "WRIST", "BRAIN", "BREAST", "CAROTID", "EAR", "EYE", "JAW", "MAXILLA", "ORBIT"),
    *("SKULL", "TEETH", "ZYGOMA"),
}


def refuse_no_scan(file: DicomFile, name: str) -> None:
    """Refuse an image whose pixels are not the plane of a body that its header places.

    Args:
        file: An image.
        name: How to call it in messages.

    Raises:
        InputError: It is a mosaic of slices, or a table instead of a line makes intensities of its numbers.
    """
    # Several frames lie where each of them states, whatever they were made of.
    if "MOSAIC" in file.text(_IMAGE_TYPE).upper().split("\\") and file.text(_FRAMES) in ("", "1"):
        raise InputError(
            f"{name} is a mosaic: many slices side by side in one picture",
            "one slice of the body a picture, at the place that its header states",
            "export the series without mosaics, or take it apart first, for example with dcm2niix",
        )
    tables = items_of(file.elements, _MODALITY_LUT)
    if tables:
        raise InputError(
            f"{name} makes intensities of its stored numbers by a table (Modality LUT, "
            f"{text_of(tables[0], _LUT_TYPE) or 'without a type'}), which is not read",
            "Rescale Slope and Intercept",
            "export the image with its intensities as stored numbers",
        )


def refuse_two_patients(files: Sequence[DicomFile], source: str) -> None:
    """Refuse files of which two name different patients. No number of a patient stands in the message.

    Raises:
        InputError: Which names two of the files.
    """
    stated = {file.text(_PATIENT): file.path.name for file in reversed(files) if file.text(_PATIENT)}
    if len(stated) > 1:
        first, second, *_ = sorted(stated.values())
        raise InputError(
            f"{first} and {second} of {source} are of different patients (Patient ID)",
            "images of one patient",
            "export the series again; images of two patients are no volume",
        )


def remarks(
    files: Sequence[DicomFile], frames: Sequence[DicomFrame], geometry: Geometry, *, chosen: bool
) -> tuple[str, ...]:
    """What has to be said of a series that was read.

    Args:
        files: Its files.
        frames: The frames that were taken.
        geometry: The grid that they form.
        chosen: Whether they are one volume of several.
    """
    first = files[0]
    found = []
    if headless := sum(file.headless for file in files):
        found.append(f"{headless} of {len(files)} files lack the preamble and the mark DICM and are read as they lie")
    part = first.text(_BODY_PART).upper().replace(" ", "")
    if part in _WITHOUT_SPINE:
        found.append(f"it states the body part {part}, which shows no spine")
    if "LOCALIZER" in first.text(_IMAGE_TYPE).upper().split("\\"):
        found.append("it states that it is a localizer, which shows where other series lie")
    unit = rescale_type(frames[0]).upper()
    if first.text(_MODALITY).upper() == "CT" and unit not in ("", "HU"):
        found.append(f"it states that its intensities are {unit} (Rescale Type), not Hounsfield units (HU)")
    if not chosen:
        found += _missing(files, frames, geometry)
    return tuple(found)


def _missing(files: Sequence[DicomFile], frames: Sequence[DicomFrame], geometry: Geometry) -> list[str]:
    """Signs that files of the series were not copied: evenly spaced slices show no gap where every second is gone."""
    found = []
    stated = [int(text) for file in files if (text := file.text(_NUMBER)).isdecimal()]
    in_all = files[0].text(_IN_ACQUISITION)
    if len(files) == len(frames) and in_all.isdecimal():
        if int(in_all) > len(files):
            found.append(f"{len(files)} files were found, and they state that their acquisition has {in_all} images")
    elif len(files) == len(frames) == len(set(stated)) and (min(stated) > 1 or max(stated) > len(files)):
        found.append(
            f"its {len(files)} files have the instance numbers {min(stated)} to {max(stated)}: others may be missing"
        )
    between, step = spacing_between(frames[0]), geometry.spacing_mm[2]
    # Some writers state the gap between two slices instead.
    readings = (between, between + frames[0].plane.thickness)
    if len(frames) > 1 and between > 0 and all(abs(each - step) > _STEP_TOLERANCE * step for each in readings):
        found.append(
            f"it states {between:g} mm between slices, and positions {step:.4g} mm apart, which are taken: slices may "
            "be missing"
        )
    return found
