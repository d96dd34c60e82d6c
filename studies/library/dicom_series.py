"""A generated scan as a DICOM series in memory, whose UIDs change from request to request."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from verdiff.imaging import Volume

# Voxel axis of the slices, and the axes that a row and a column of each run along, for a grid along the patient's axes.
AXES = {"sagittal": (0, 1, 2), "coronal": (1, 0, 2), "axial": (2, 0, 1)}
STUDY, ROOT = "1.2.826.0.1.3680043.10.3", "1.2.826.0.1.3680043.10.3"
_IMAGES = {"MR": "1.2.840.10008.5.1.4.1.1.4", "CT": "1.2.840.10008.5.1.4.1.1.2"}


def series_of(volume: Volume, view: str) -> list[Any]:
    """One data set a slice, of a patient who never was.

    Args:
        volume: A scan along the patient's axes, MR or CT, of whole numbers [z, y, x].
        view: How it is cut, a key of :data:`AXES`.
    """
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian

    across, along, down = AXES[view]
    planes = np.transpose(volume.array, [2 - across, 2 - down, 2 - along])
    spacing = volume.geometry.spacing_mm
    cosines = np.eye(3, dtype=int)[[along, down]].ravel().tolist()
    found = []
    for index, plane in enumerate(planes):
        data, meta = Dataset(), FileMetaDataset()
        meta.MediaStorageSOPClassUID = UID(_IMAGES[str(volume.modality)])
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        place = [0.0, 0.0, 0.0]
        place[across] = index * spacing[across]
        values = {
            "SOPClassUID": meta.MediaStorageSOPClassUID,
            "PatientName": "Phantom^Generated",
            "PatientID": "PHANTOM",
            "PatientBirthDate": "",
            "PatientSex": "",
            "StudyInstanceUID": STUDY,
            "StudyDate": "20260101",
            "StudyTime": "120000",
            "StudyID": "1",
            "AccessionNumber": "",
            "ReferringPhysicianName": "",
            "Modality": volume.modality,
            "Manufacturer": "",
            "SeriesNumber": 1,
            "InstanceNumber": index + 1,
            "FrameOfReferenceUID": f"{STUDY}.9",
            "PositionReferenceIndicator": "",
            "PatientPosition": "HFS",
            "ImageType": ["ORIGINAL", "PRIMARY", "OTHER"],
            "ImagePositionPatient": [f"{each:.8f}"[:16] for each in place],
            "ImageOrientationPatient": cosines,
            "PixelSpacing": [f"{spacing[down]:.8f}"[:16], f"{spacing[along]:.8f}"[:16]],
            "SliceThickness": f"{spacing[across]:.8f}"[:16],
            "Rows": plane.shape[0],
            "Columns": plane.shape[1],
            "SamplesPerPixel": 1,
            "PhotometricInterpretation": "MONOCHROME2",
            "BitsAllocated": 16,
            "BitsStored": 16,
            "HighBit": 15,
            "PixelRepresentation": 1,
            "PixelData": np.ascontiguousarray(plane, "<i2").tobytes(),
        }
        if volume.modality == "CT":
            values |= {"RescaleSlope": 1, "RescaleIntercept": 0, "RescaleType": "HU"}
        for name, value in values.items():
            setattr(data, name, value)
        data.file_meta = meta
        found.append(data)
    return found


def renamed(series: list[Any], number: int) -> str:
    """Give a series and its instances UIDs of their own in place, and return the series'."""
    uid = f"{ROOT}.{number + 1}"
    for index, each in enumerate(series):
        each.SeriesInstanceUID = uid
        each.SOPInstanceUID = each.file_meta.MediaStorageSOPInstanceUID = f"{uid}.{index + 1}"
    return uid


def part_10(data: Any) -> bytes:
    """A data set as a DICOM file."""
    file = io.BytesIO()
    data.save_as(file, enforce_file_format=True)
    return file.getvalue()
