"""Masks as DICOM RT structure sets (PS3.3, A.19): contours in the planes of the source images."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np

from verdiff import __version__
from verdiff.errors import InputError
from verdiff.imaging import Volume
from verdiff.imaging.terms import Structure
from verdiff.interop.dicom.contours import outlines
from verdiff.interop.dicom.libraries import library
from verdiff.interop.dicom.mask import MANUFACTURER, Mask
from verdiff.interop.dicom.sources import Source

_STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
_EXPLICIT = "1.2.840.10008.1.2.1"
# Referenced Study, retired but of Type 1 where it stands (PS3.3, C.8.8.5).
_STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"
_SERIES_NUMBER = 9901
_PATIENT = (
    *("SpecificCharacterSet", "PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
    *("StudyDescription", "PatientAge", "PatientSize", "PatientWeight"),
)
# A decimal string has 16 characters at most (PS3.5, 6.2).
_DIGITS = 6


def require_depth(scan: Volume) -> None:
    """Refuse contours of what says nothing of the patient's coordinates.

    Raises:
        InputError: The scan is a film.
    """
    if not scan.geometry.oriented or scan.modality == "XR":
        raise InputError(
            f"contours of {scan.source or 'the scan'}, a film, which says nothing of where it lies in the patient",
            "a scan whose slices have a position and an orientation",
            "leave out --rtstruct; --dicom-seg works for films",
        )


def structure_set_of(mask: Mask, source: Source) -> Any:
    """The mask as a data set of contours: one ROI a structure, numbered from 1 in the model's order.

    Args:
        mask: Mask of the scan.
        source: Its stored images.

    Returns:
        A pydicom data set with its file meta information.

    Raises:
        InputError: See :func:`require_depth`.
    """
    require_depth(mask.scan)
    dataset, uid = library("pydicom.dataset"), library("pydicom.uid")
    now, identity = datetime.now(), mask.identity
    result = dataset.Dataset()
    result.SOPClassUID, result.SOPInstanceUID = _STRUCTURE_SET, uid.generate_uid()
    for name in _PATIENT:
        if name in source.headers[0]:
            result[name] = source.headers[0][name]
    result.Modality = "RTSTRUCT"
    result.SeriesInstanceUID, result.SeriesNumber = uid.generate_uid(), _SERIES_NUMBER
    result.OperatorsName = ""
    result.FrameOfReferenceUID, result.PositionReferenceIndicator = source.frame_of_reference, ""
    result.Manufacturer, result.ManufacturerModelName = MANUFACTURER, str(mask.model["id"])[:64]
    result.SoftwareVersions = [f"verdiff {__version__}", f"{mask.model['id']} {mask.model['version']}"[:64]]
    result.DeviceSerialNumber = str(mask.model["manifest_sha256"])[:64]
    result.InstanceNumber = 1
    result.InstanceCreationDate, result.InstanceCreationTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    result.StructureSetLabel = "SEGMENTATION"
    result.StructureSetDescription = _described(mask)
    result.StructureSetDate, result.StructureSetTime = result.InstanceCreationDate, result.InstanceCreationTime
    result.SeriesDescription = f"Contours by {mask.model['id']} {mask.model['version']}"[:64]
    result.ApprovalStatus = "UNAPPROVED"
    images = [
        _item(ReferencedSOPClassUID=kind, ReferencedSOPInstanceUID=one, **frame) for kind, one, frame in _images(mask)
    ]
    series = _item(SeriesInstanceUID=identity.series, ContourImageSequence=_each_file(mask))
    study = _item(
        ReferencedSOPClassUID=_STUDY_CLASS,
        ReferencedSOPInstanceUID=identity.study,
        RTReferencedSeriesSequence=[series],
    )
    result.ReferencedFrameOfReferenceSequence = [
        _item(FrameOfReferenceUID=source.frame_of_reference, RTReferencedStudySequence=[study])
    ]
    described = list(enumerate(mask.structures, start=1))
    result.StructureSetROISequence = [_roi(number, each, source) for number, each in described]
    result.ROIContourSequence = [_contours(number, each, mask, images) for number, each in described]
    result.RTROIObservationsSequence = [_observation(number, each) for number, each in described]
    meta = dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = result.SOPClassUID, result.SOPInstanceUID
    meta.TransferSyntaxUID = uid.UID(_EXPLICIT)
    result.file_meta = meta
    return result


def _described(mask: Mask) -> str:
    words = [f"{mask.model['id']} {mask.model['version']}", f"sha256={mask.model['manifest_sha256']}"]
    return "; ".join([*words, *(f"{key}={value}" for key, value in mask.settings.items())])[:1024]


def _images(mask: Mask) -> list[tuple[str, str, dict[str, int]]]:
    """The stored image of every slice, as contours refer to it."""
    return [
        (each.sop_class, each.sop_instance, {} if each.number is None else {"ReferencedFrameNumber": each.number})
        for each in mask.identity.slices
    ]


def _each_file(mask: Mask) -> list[Any]:
    files = dict.fromkeys((each.sop_class, each.sop_instance) for each in mask.identity.slices)
    return [_item(ReferencedSOPClassUID=kind, ReferencedSOPInstanceUID=uid) for kind, uid in files]


def _roi(number: int, structure: Structure, source: Source) -> Any:
    return _item(
        ROINumber=number,
        ReferencedFrameOfReferenceUID=source.frame_of_reference,
        ROIName=structure.name[:64],
        ROIGenerationAlgorithm="AUTOMATIC",
    )


def _contours(number: int, structure: Structure, mask: Mask, images: list[Any]) -> Any:
    found: list[Any] = []
    for index in np.flatnonzero((mask.labels == structure.label).any(axis=(1, 2))):
        for outline in outlines(mask.labels[index] == structure.label):
            places = mask.scan.geometry.index_to_mm(np.column_stack([outline, np.full(len(outline), float(index))]))
            found.append(
                _item(
                    ContourImageSequence=[images[index]],
                    ContourGeometricType="CLOSED_PLANAR",
                    NumberOfContourPoints=len(places),
                    ContourNumber=len(found) + 1,
                    ContourData=[f"{value:.{_DIGITS}f}" for value in places.ravel()],
                )
            )
    contour = _item(ROIDisplayColor=list(structure.colour), ReferencedROINumber=number)
    if found:
        contour.ContourSequence = found
    return contour


def _observation(number: int, structure: Structure) -> Any:
    code = _item(CodeValue=structure.code, CodingSchemeDesignator=structure.scheme, CodeMeaning=structure.meaning[:64])
    return _item(
        ObservationNumber=number,
        ReferencedROINumber=number,
        RTROIInterpretedType="ORGAN",
        ROIInterpreter="",
        RTROIIdentificationCodeSequence=[code],
    )


def _item(**values: Any) -> Any:
    item = library("pydicom.dataset").Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return item
