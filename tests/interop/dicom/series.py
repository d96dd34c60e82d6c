"""DICOM series of a patient who never was, in any orientation, as files of one slice or one file of many frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.imaging.make import save_dicom, save_enhanced
from verdiff.imaging import Geometry

STUDY, SERIES, FRAME = "1.2.826.0.1.3680043.10.1", "1.2.826.0.1.3680043.10.1.1", "1.2.826.0.1.3680043.10.1.9"
PATIENT: dict[str, Any] = {
    "PatientName": "Phantom^Oblique",
    "PatientID": "P-4711",
    "PatientBirthDate": "19700101",
    "PatientSex": "O",
    "AccessionNumber": "A1",
    "StudyID": "S1",
    "StudyDate": "20261130",
    "StudyTime": "101500",
    "ReferringPhysicianName": "",
    "StudyInstanceUID": STUDY,
    "SeriesInstanceUID": SERIES,
    "SeriesNumber": 3,
    "InstanceNumber": 1,
    "FrameOfReferenceUID": FRAME,
    "PositionReferenceIndicator": "",
    "PatientPosition": "HFS",
    "Manufacturer": "Nobody",
    "SeriesDescription": "T2 sagittal",
    "ScanningSequence": "SE",
    "SequenceVariant": "NONE",
    "ScanOptions": "",
    "MRAcquisitionType": "2D",
    "EchoTime": "100",
    "EchoTrainLength": "1",
    "RepetitionTime": "3000",
    "ImageType": ["ORIGINAL", "PRIMARY", "OTHER"],
}


def save_oriented(folder: Path, array: NDArray[Any], geometry: Geometry, **tags: Any) -> Path:
    """A series of one file a slice, named out of order; ``array`` [z, y, x] in the grid."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, plane in enumerate(array):
        values = {
            **PATIENT,
            "SOPInstanceUID": f"{SERIES}.{index + 1}",
            "InstanceNumber": index + 1,
            **plane_tags(geometry, index),
            **tags,
        }
        save_dicom(folder / f"IM{(index * 7) % len(array):04d}_{index}", plane, **values)
    return folder


def save_frames(path: Path, array: NDArray[Any], geometry: Geometry, order: list[int], **tags: Any) -> Path:
    """One enhanced file of all slices, in an order of its own."""
    places = [list(plane_tags(geometry, index)["ImagePositionPatient"]) for index in order]
    of_slice = plane_tags(geometry, 0)
    shared = {
        "PlaneOrientationSequence": {"ImageOrientationPatient": of_slice["ImageOrientationPatient"]},
        "PixelMeasuresSequence": {
            "PixelSpacing": of_slice["PixelSpacing"],
            "SliceThickness": of_slice["SliceThickness"],
        },
    }
    values = {**PATIENT, "SOPInstanceUID": f"{SERIES}.1", **tags}
    return save_enhanced(path, array[order], places, shared=shared, **values)


def plane_tags(geometry: Geometry, index: int) -> dict[str, Any]:
    """Where a slice lies, in decimal strings of at most 16 characters as DICOM has them."""
    x, y, z = geometry.spacing_mm
    cosines = np.concatenate([geometry.matrix[:, 0], geometry.matrix[:, 1]])
    return {
        "ImagePositionPatient": [_decimal(value) for value in geometry.index_to_mm([0, 0, index])],
        "ImageOrientationPatient": [_decimal(value) for value in cosines],
        "PixelSpacing": [_decimal(y), _decimal(x)],
        "SliceThickness": _decimal(z),
    }


def _decimal(value: float) -> str:
    return f"{value:.10f}"[:16]
