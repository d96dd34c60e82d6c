"""Whose image a volume is: what DICOM says of the patient's study, so that a mask never becomes another patient's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from verdiff.errors import InputError


@dataclass(frozen=True)
class SourceFrame:
    """The stored image that a slice of a volume came from (DICOM PS3.3, C.12.1 and C.7.6.6).

    Attributes:
        sop_class: SOP Class UID.
        sop_instance: SOP Instance UID.
        number: Number of the frame in its file, from 1; None where the file holds one image.
    """

    sop_class: str
    sop_instance: str
    number: int | None = None


@dataclass(frozen=True)
class Identity:
    """What a volume read from DICOM keeps of its source. No name, no birth date, no number of a patient.

    Attributes:
        study, series: Study and Series Instance UID; empty where the files state none.
        frame_of_reference: Frame of Reference UID: two images with the same one share a coordinate system.
        modality: Modality that the files state, such as "MR" or "DX".
        patient_position: How the patient lay, such as "HFS" (head first, supine); empty where not stated.
        slices: The source of every slice, in the order of the volume's slices.
    """

    study: str
    series: str
    frame_of_reference: str
    modality: str
    patient_position: str
    slices: tuple[SourceFrame, ...]

    def described(self) -> dict[str, Any]:
        """Plain JSON values with nothing that identifies a patient, a study or an image."""
        return {"modality": self.modality, "patient_position": self.patient_position or None}

    def uids(self) -> dict[str, str]:
        """The UIDs by DICOM's keyword, as outputs carry them where they were asked for; only those that are stated."""
        stated = {
            "StudyInstanceUID": self.study,
            "SeriesInstanceUID": self.series,
            "FrameOfReferenceUID": self.frame_of_reference,
        }
        return {keyword: uid for keyword, uid in stated.items() if uid}

    def identifiers(self) -> dict[str, Any]:
        """Plain JSON values with every UID: what a report holds only where it was asked for."""
        files = dict.fromkeys((each.sop_class, each.sop_instance) for each in self.slices)
        return {
            **self.described(),
            "study_instance_uid": self.study or None,
            "series_instance_uid": self.series or None,
            "frame_of_reference_uid": self.frame_of_reference or None,
            "instances": [{"sop_class_uid": kind, "sop_instance_uid": uid} for kind, uid in files],
        }


def refuse_other_frame_of_reference(first: tuple[str, Identity | None], other: tuple[str, Identity | None]) -> None:
    """Refuse to join two images that both say in which coordinate system they lie, and name different ones.

    Args:
        first: What it is called in messages, and its identity; None where it was not read from DICOM.
        other: Identity of the other.

    Raises:
        InputError: Both name a frame of reference, and they differ.
    """
    (name, one), (other_name, two) = first, other
    if one is None or two is None or not (one.frame_of_reference and two.frame_of_reference):
        return
    if one.frame_of_reference != two.frame_of_reference:
        raise InputError(
            f"{name} and {other_name} have different frames of reference ({one.frame_of_reference} and "
            f"{two.frame_of_reference})",
            "images of one frame of reference: positions in two of them are not comparable",
            "register one to the other first and resample it, or check that both are of one patient and session",
        )


def one_of(values: Sequence[tuple[str, str]], what: str, source: str) -> str:
    """The one value that files state, empty where none does; files that state none are taken to agree.

    Args:
        values: Each file's name and value.
        what: How the value is called.
        source: The folder, for the message.

    Raises:
        InputError: Two files state different ones.
    """
    stated = {value: name for name, value in reversed(values) if value}
    if len(stated) > 1:
        (value, name), (other, other_name) = sorted(stated.items(), key=lambda each: each[1])[:2]
        raise InputError(
            f"{name} and {other_name} of {source} have different {what} ({value} and {other})",
            f"one {what} in all files of a series",
            "export the series again; images of two sessions are no volume",
        )
    return next(iter(stated), "")
