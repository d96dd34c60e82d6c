"""Which files of a folder are its one series: every file is part of it, named as passed over, or a reason to refuse."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from verdiff.errors import InputError
from verdiff.imaging.dicom_elements import Damaged
from verdiff.imaging.dicom_header import DicomFile, NotDicom, read_header

_SERIES, _INSTANCE, _STUDY, _FRAME_OF_REFERENCE = 0x0020000E, 0x00080018, 0x0020000D, 0x00200052
_SERIES_NUMBER, _DESCRIPTION, _MODALITY, _INSTANCE_NUMBER = 0x00200011, 0x0008103E, 0x00080060, 0x00200013
_ECHO_TIME, _ACQUISITION, _PROTOCOL, _SERIES_TIME = 0x00180081, 0x00200012, 0x00181030, 0x00080031
_DICOM_SUFFIXES = {"", ".dcm", ".dicom", ".ima", ".img"}
_OF_THE_SYSTEM = {"dicomdir", "thumbs.db", "desktop.ini"}
_NAMED = 5


@dataclass(frozen=True)
class Series:
    """The files of one series, and what has to be said of the others.

    Attributes:
        files: Files, in the order of their names.
        notes: Which files were passed over, and what the series does not state.
    """

    files: tuple[DicomFile, ...]
    notes: tuple[str, ...]


def read_series(folder: Path) -> Series:
    """The headers of the one series that lies in a folder itself.

    Raises:
        InputError: If there is no series or more than one; if a file is damaged, empty or no image; if two files are
            one instance and differ.
    """
    return series_of(sorted(folder.iterdir()), folder)


def is_of_the_system(path: Path) -> bool:
    """Whether a file in a series' folder is hidden or what an operating system leaves there."""
    return path.name.startswith(".") or path.name.lower() in _OF_THE_SYSTEM


def series_of(paths: Sequence[Path], folder: Path) -> Series:
    """The headers of the one series that some files are.

    Args:
        paths: The files; folders among them are passed over.
        folder: The folder or archive that holds them, for messages.

    Raises:
        InputError: See :func:`read_series`.
    """
    files: list[DicomFile] = []
    passed: list[Path] = []
    damaged: dict[Path, str] = {}
    for path in paths:
        if is_of_the_system(path):
            continue
        if path.is_symlink() and not path.exists():
            damaged[path] = "it points to a file that is not there"
        if not path.is_file():
            continue
        try:
            files.append(read_header(path))
        except NotDicom:
            if _looks_like_dicom(path):
                damaged[path] = "it holds no byte" if path.stat().st_size == 0 else "it does not begin as DICOM does"
            else:
                passed.append(path)
        except Damaged as error:
            damaged[path] = str(error)
        except OSError as error:
            damaged[path] = f"it cannot be opened: {error.strerror or error}"
    if damaged:
        raise _unreadable(folder, damaged)
    if not files:
        inner = [entry.name for entry in paths if entry.is_dir()]
        where = f"; it has the folders {', '.join(inner[:_NAMED])}" if inner else ""
        raise InputError(
            f"{folder} holds no DICOM image{where}",
            "a folder that directly holds the files of one DICOM series",
            "pass the folder of the series itself",
        )
    files, copies = _without_copies(files, folder)
    notes = [
        *_one_series(files, folder),
        *_passed_over(passed, "that is no DICOM", "that are no DICOM"),
        *_passed_over(copies, "that is a copy of another", "that are copies of another"),
    ]
    return Series(tuple(files), tuple(notes))


def _passed_over(paths: Sequence[Path], one: str, several: str) -> list[str]:
    if not paths:
        return []
    what = f"1 file {one}" if len(paths) == 1 else f"{len(paths)} files {several}"
    return [f"{what} passed over: {_names(paths)}"]


def _looks_like_dicom(path: Path) -> bool:
    """Whether a file that does not begin as DICOM was meant to be: by its name, unless it is plain text."""
    suffix = path.suffix.lower()
    if suffix not in _DICOM_SUFFIXES and not suffix[1:].isdigit():
        return False
    if suffix in (".dcm", ".dicom", ".ima"):
        return True
    with path.open("rb") as stream:
        start = stream.read(512)
    return not start or any(byte < 9 or 13 < byte < 32 for byte in start)


def _unreadable(folder: Path, damaged: dict[Path, str]) -> InputError:
    path, why = next(iter(damaged.items()))
    if len(damaged) == 1:
        found = f"{path.name} of {folder} cannot be read as a DICOM image: {why}"
    else:
        found = (
            f"{len(damaged)} files of {folder} cannot be read as DICOM images, {_names(damaged)}; of the first: {why}"
        )
    return InputError(
        found,
        "complete DICOM images of one series",
        "copy the series again, or move what is no image of it out of the folder",
    )


def _names(paths: Iterable[Path]) -> str:
    names = [path.name for path in paths]
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def _without_copies(files: Sequence[DicomFile], folder: Path) -> tuple[list[DicomFile], list[Path]]:
    """The files without those that are another's copy, byte for byte."""
    kept: list[DicomFile] = []
    copies: list[Path] = []
    first: dict[str, DicomFile] = {}
    for file in files:
        instance = file.text(_INSTANCE)
        other = first.setdefault(instance, file) if instance else file
        if other is file:
            kept.append(file)
        elif _digest(other.path) == _digest(file.path):
            copies.append(file.path)
        else:
            raise InputError(
                f"{other.path.name} and {file.path.name} of {folder} are the same instance (SOP Instance UID "
                f"{instance}) and differ",
                "one file for each instance",
                "find out which is right and move the other out of the folder",
            )
    return kept, copies


def _digest(path: Path) -> bytes:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def _one_series(files: Sequence[DicomFile], folder: Path) -> tuple[str, ...]:
    """Refuse a mix of series; what has to be said of one that has no UID."""
    found: dict[tuple[str, ...], list[DicomFile]] = {}
    for file in files:
        found.setdefault(_identity(file), []).append(file)
    if len(found) > 1:
        names = "; ".join(_described(some) for _, some in sorted(found.items()))
        raise InputError(
            f"{folder} mixes {len(found)} series: {names}",
            "one DICOM series a folder",
            "move each series to a folder of its own and pass one of them",
        )
    if files[0].text(_SERIES) or len(files) == 1:
        return ()
    numbers = [file.text(_INSTANCE_NUMBER) for file in files]
    if "" in numbers or len(set(numbers)) < len(numbers):
        raise InputError(
            f"the files of {folder} have no Series Instance UID, and their instance numbers "
            f"{'are missing' if '' in numbers else 'repeat'}: they may be several series",
            "a Series Instance UID in every file, or instance numbers that all differ",
            "export the series again with its UIDs, or put each series into a folder of its own",
        )
    return ("its files have no Series Instance UID; they are taken as one series, since all else agrees",)


def _identity(file: DicomFile) -> tuple[str, ...]:
    """What all files of one series have in common."""
    if uid := file.text(_SERIES):
        return (uid,)
    tags = (_STUDY, _FRAME_OF_REFERENCE, _SERIES_NUMBER, _DESCRIPTION, _MODALITY, _PROTOCOL, _ECHO_TIME, _ACQUISITION)
    return ("", *(file.text(tag) for tag in (*tags, _SERIES_TIME)))


def _described(files: Sequence[DicomFile]) -> str:
    one = files[0]
    return (
        f"{len(files)} x {one.text(_MODALITY)} '{one.text(_DESCRIPTION) or 'no description'}' "
        f"(series {one.text(_SERIES) or 'without UID'}, from {one.path.name} on)"
    )
