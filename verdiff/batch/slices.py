"""Slices of one DICOM series that were named one by one, as a shell's ``series/*.dcm`` does: no scans of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from verdiff.errors import InputError
from verdiff.imaging.dicom_elements import Damaged
from verdiff.imaging.dicom_frames import modality_of
from verdiff.imaging.dicom_header import NotDicom, read_header
from verdiff.imaging.volume import FILM

_SERIES, _POSITION, _ORIENTATION, _FRAMES = 0x0020000E, 0x00200032, 0x00200037, 0x00280008


def refuse_slices_of_one_series(files: Sequence[Path]) -> None:
    """Refuse DICOM files of which two are slices of one series in one folder: each would get a mask of its own.

    Films of one series are scans, and so are files of several frames.

    Args:
        files: DICOM files that are to be segmented one by one.

    Raises:
        InputError: Which names the folder to pass instead.
    """
    found: dict[tuple[Path, str], Path] = {}
    for path in files:
        series = _series_of_slice(path)
        if not series:
            continue
        other = found.setdefault((path.parent, series), path)
        if other != path:
            raise InputError(
                f"{other} and {path} are slices of one series, and each would be segmented as a scan of its own",
                "one volume of all slices",
                f"pass the folder of the series: {path.parent}",
            )


def _series_of_slice(path: Path) -> str:
    """The UID of the series that a file is one slice of; empty where it is none, or cannot be read."""
    try:
        header = read_header(path)
        placed = bool(header.numbers(_POSITION) and header.numbers(_ORIENTATION))
    except (NotDicom, Damaged, OSError):
        return ""
    alone = header.text(_FRAMES) in ("", "1")
    return header.text(_SERIES) if placed and alone and modality_of(header) != FILM else ""
