"""The headers of the images a mask is of, read again from where the scan was read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verdiff.errors import InputError
from verdiff.imaging import Volume
from verdiff.imaging.dicom_zip import is_zip, unzipped
from verdiff.interop.dicom.libraries import library

# Of patient and study (DICOM PS3.3, C.7.1.1 and C.7.2.1): an object may leave them blank, and must have them.
_MAY_BE_BLANK = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "ReferringPhysicianName"),
    *("AccessionNumber", "StudyID", "StudyDate", "StudyTime"),
)
_SEXES = ("M", "F", "O")
_UNICODE = "ISO_IR 192"


@dataclass(frozen=True)
class Source:
    """The stored images of a scan.

    Attributes:
        headers: pydicom data sets without pixels: one a slice, in the volume's order, or the one of many frames.
        frames: Number of the frame of every slice, from 1, where there is one file of many frames; else empty.
        frame_of_reference: UID; made from the series' own where the files leave it blank, the same for every object.
    """

    headers: tuple[Any, ...]
    frames: tuple[int, ...]
    frame_of_reference: str


def source_of(scan: Volume) -> Source:
    """The headers of the images that the slices of ``scan`` came from.

    Raises:
        InputError: A file is gone or another, or the slices lie in several files of many frames.
        BackendError: pydicom is not installed.
    """
    identity = scan.identity
    assert identity is not None and scan.source is not None
    numbers = tuple(each.number for each in identity.slices)
    wanted = dict.fromkeys(each.sop_instance for each in identity.slices)
    if any(number is not None for number in numbers) and len(wanted) > 1:
        raise InputError(
            f"the slices of {scan.source} lie in {len(wanted)} files of several frames each",
            "files of one slice, or one file of several frames, which a DICOM segmentation can refer to",
            "export the series as one enhanced file or as single images, or write the mask as .nii.gz or .seg.nrrd",
        )
    headers = _headers(scan.source, set(wanted))
    lacking = [uid for uid in wanted if uid not in headers]
    if lacking:
        raise InputError(
            f"{len(lacking)} of the {len(wanted)} images that {scan.source} was read from are no longer there",
            "the files of the scan, unchanged until its mask is written",
            "run the command again",
        )
    frame_of_reference = identity.frame_of_reference or _made_uid(identity.series, "frame of reference")
    for header in headers.values():
        _mend(header, scan)
        for name in _MAY_BE_BLANK:
            if name not in header:
                setattr(header, name, "")
        if scan.geometry.oriented:
            header.FrameOfReferenceUID = frame_of_reference
    several = tuple(number for number in numbers if number is not None)
    return Source(tuple(headers[uid] for uid in wanted), several, frame_of_reference)


def _mend(header: Any, scan: Volume) -> None:
    """Have a header hold only what an object may copy: scanners and de-identifiers write more than the standard allows.

    A date, time or sex that is none is blank in the object, as if the header left it out.
    """
    values = library("pydicom.valuerep")
    _decode(header)
    header.SpecificCharacterSet = _UNICODE
    for name, kind, between in (
        ("PatientBirthDate", values.DA, "-"),
        ("StudyDate", values.DA, "-"),
        ("StudyTime", values.TM, ":"),
    ):
        text = str(header.get(name) or "").replace(between, "")
        try:
            kind(text)
        except ValueError:
            text = ""
        setattr(header, name, text)
    sex = str(header.get("PatientSex") or "").strip().upper()
    header.PatientSex = sex if sex in _SEXES else ""
    if scan.geometry.oriented:
        for each in (header, *_measures(header)):
            if "SliceThickness" not in each:
                each.SliceThickness = f"{scan.geometry.spacing_mm[2]:.10g}"


def _decode(header: Any) -> None:
    """Have pydicom decode every text, which it puts off, by the character set that the file states."""
    for tag in list(header.keys()):
        try:
            element = header[tag]
        except Exception:
            # A value that is none of its type; an object copies few of them.
            continue
        for item in element.value if element.VR == "SQ" else ():
            _decode(item)


def _measures(header: Any) -> Iterator[Any]:
    """The pixel measures of the frames of one file."""
    for name in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in header.get(name) or ():
            yield from group.get("PixelMeasuresSequence") or ()


def _headers(source: Path, wanted: set[str]) -> dict[str, Any]:
    pydicom = library("pydicom")
    found: dict[str, Any] = {}
    with _files(source) as paths:
        for path in paths:
            try:
                header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
            except Exception:
                # Whatever else lies in the folder was passed over when the scan was read, too.
                continue
            uid = str(header.get("SOPInstanceUID", ""))
            if uid in wanted:
                found.setdefault(uid, header)
    return found


@contextmanager
def _files(source: Path) -> Iterator[list[Path]]:
    if source.is_dir():
        yield sorted(path for path in source.iterdir() if path.is_file())
    elif is_zip(source):
        with unzipped(source) as paths:
            yield paths
    else:
        yield [source]


def _made_uid(*texts: str) -> str:
    return str(library("pydicom.uid").generate_uid(entropy_srcs=list(texts)))
