"""Which scans a call is for: files, folders, globs, and a manifest's rows."""

from __future__ import annotations

import csv
import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from verdiff.anatomy.levels import parse_level
from verdiff.batch.slices import refuse_slices_of_one_series
from verdiff.errors import InputError
from verdiff.files import made_by_verdiff
from verdiff.imaging.dicom_header import begins_as_dicom
from verdiff.imaging.dicom_zip import ZIP_SUFFIX
from verdiff.imaging.reading import DICOM_SUFFIXES, FILM_SUFFIXES, MEDICAL_SUFFIXES, NIFTI_SUFFIXES

_IMAGES = (*NIFTI_SUFFIXES, *MEDICAL_SUFFIXES, *FILM_SUFFIXES)
COLUMNS = ("scan", "name", "lowest")
TO_MANIFEST = "give the manifest a line of titles with 'scan', and 'name' and 'lowest' where you want them"


@dataclass(frozen=True)
class BatchCase:
    """One scan of several.

    Attributes:
        scan: Its file or folder.
        name: What its files are called; None is the scan's own name.
        lowest: Level of the lowest vertebra in it, where that is stated for this scan alone.
        where: Where it was named, for messages: a line of a manifest, or empty.
    """

    scan: Path
    name: str | None = None
    lowest: str | None = None
    where: str = ""

    def __str__(self) -> str:
        return f"{self.where}{self.scan}"


def are_several(words: Sequence[Path]) -> bool:
    """Whether a call is for several scans: several words, a glob, or a folder of scans, one in it or many."""
    if len(words) != 1:
        return True
    (word,) = words
    return _is_glob(word) or (os.path.isdir(word) and _in_folder(word) != [word])


def cases_of(words: Sequence[Path], manifest: Path | None = None) -> list[BatchCase]:
    """The scans that words of a command line and a manifest name, in their order.

    A folder that holds DICOM files is one series. One that holds NIfTI, NRRD, MetaImage, PNG or JPEG files, or zips of
    series, and no DICOM, is a folder of scans; verdiff's own files are left out. One that holds folders alone
    is a folder of series.

    Args:
        words: Files, folders, and patterns with ``*``, ``?``, ``[...]`` and ``**``.
        manifest: A CSV file with the columns of :data:`COLUMNS`; ``scan`` must be there. Paths in it are
            relative to it.

    Raises:
        InputError: The manifest cannot be read, a pattern matches nothing, words name slices of one series, or there
            is no scan at all.
    """
    cases = [BatchCase(path) for word in words for path in _of_word(word)]
    refuse_slices_of_one_series([case.scan for case in cases if os.path.isfile(case.scan) and _is_dicom(case.scan)])
    if manifest is not None:
        cases += _of_manifest(manifest)
    if not cases:
        named = ", ".join(str(each) for each in (*words, *([] if manifest is None else [manifest])))
        raise InputError(f"no scan in {named}", "at least one scan", "name files, folders of scans, or a manifest")
    return cases


def _is_glob(word: Path) -> bool:
    return glob.has_magic(str(word)) and not os.path.lexists(word)


def _of_word(word: Path) -> list[Path]:
    if _is_glob(word):
        found = [Path(each) for each in sorted(glob.glob(str(word), recursive=True))]
        scans = [each for each in found if os.path.isdir(each) or not _is_ours(each)]
        if not scans:
            raise InputError(f"nothing matches {word}", "a pattern that names scans", "correct the pattern")
        return [scan for each in scans for scan in (_in_folder(each) if os.path.isdir(each) else [each])]
    return _in_folder(word) if os.path.isdir(word) else [word]


def _in_folder(folder: Path) -> list[Path]:
    """The scans of a folder; the folder itself where it is one series, or nothing that is known."""
    try:
        entries = sorted(each for each in folder.iterdir() if not each.name.startswith("."))
    except OSError as error:
        raise InputError(
            f"{folder} cannot be listed: {error.strerror or error}", "a readable folder", "check its permissions"
        ) from error
    files = [each for each in entries if os.path.isfile(each)]
    if any(_is_dicom(each) for each in files):
        return [folder]
    scans = [each for each in files if each.name.lower().endswith((*_IMAGES, ZIP_SUFFIX)) and not _is_ours(each)]
    if scans:
        return scans
    inner = [each for each in entries if os.path.isdir(each)]
    return inner if inner and not files else [folder]


def _is_dicom(path: Path) -> bool:
    name = path.name.lower()
    if name.endswith((*_IMAGES, ZIP_SUFFIX)):
        return False
    try:
        return name.endswith(DICOM_SUFFIXES) or begins_as_dicom(path)
    except OSError:
        return False


def _is_ours(path: Path) -> bool:
    """Whether a file is a mask, a map or a picture that verdiff wrote, by its mark."""
    return made_by_verdiff(path)


def _of_manifest(path: Path) -> Iterator[BatchCase]:
    try:
        text = path.read_text("utf-8-sig")
        rows = list(csv.reader(text.splitlines(), strict=True))
    except (OSError, ValueError, csv.Error) as error:
        why = (isinstance(error, OSError) and error.strerror) or error
        raise InputError(f"the manifest {path} cannot be read: {why}", "a CSV file as UTF-8", TO_MANIFEST) from error
    titles = [title.strip().lower() for title in rows[0]] if rows else []
    wrong = [title for title in titles if title not in COLUMNS]
    if "scan" not in titles or wrong or len(set(titles)) < len(titles):
        found = f"the titles {', '.join(titles)}" if titles else "no line"
        raise InputError(f"{path} has {found}", f"'scan', and of {', '.join(COLUMNS[1:])} what you want", TO_MANIFEST)
    for number, row in enumerate(rows[1:], start=2):
        if not any(cell.strip() for cell in row):
            continue
        where = f"{path.name} line {number}: "
        if len(row) != len(titles):
            raise InputError(
                f"{where}{len(row)} cells", f"{len(titles)}, one a title", "put cells that hold a comma in quotes"
            )
        cells = {title: cell.strip() for title, cell in zip(titles, row, strict=True)}
        if not cells["scan"]:
            raise InputError(f"{where}no scan", "a path", "fill the cell, or leave the line out")
        lowest = cells.get("lowest") or None
        name = cells.get("name") or None
        if name is not None and (name.startswith(".") or set(name) & set("/\\\0")):
            raise InputError(f"{where}the name {name!r}", "a name without slashes or a leading dot", "choose another")
        try:
            level = None if lowest is None else parse_level(lowest)
        except InputError as error:
            raise InputError(f"{where}{error.found}", error.expected, error.remedy) from error
        yield BatchCase(path.parent / cells["scan"], name, level, where)
