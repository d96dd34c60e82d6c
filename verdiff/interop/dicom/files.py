"""The DICOM files of one result: which there are, where they go, what is in them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verdiff.errors import OutputError
from verdiff.files import Staging, require_folder
from verdiff.files.places import absolute, lies_in
from verdiff.imaging import Volume
from verdiff.interop.dicom.libraries import require_libraries
from verdiff.interop.dicom.mask import Mask, require_source
from verdiff.interop.dicom.rtstruct import require_depth, structure_set_of
from verdiff.interop.dicom.segmentation import BINARY, segmentation_of, uncertainty_of
from verdiff.interop.dicom.sources import source_of

SUFFIX = ".dcm"


@dataclass(frozen=True)
class DicomFiles:
    """Where the files go; None for those that were not asked for.

    Attributes:
        segmentation: The mask as a segmentation object.
        uncertainty: The uncertainty as a fractional segmentation object.
        contours: The mask as an RT structure set.
        kind: Type of the segmentation: ``"BINARY"`` or ``"LABELMAP"``.
    """

    segmentation: Path | None = None
    uncertainty: Path | None = None
    contours: Path | None = None
    kind: str = BINARY

    @property
    def named(self) -> dict[str, Path]:
        """The files that were asked for, by what they hold."""
        every = {
            "DICOM segmentation": self.segmentation,
            "DICOM uncertainty": self.uncertainty,
            "RT structure set": self.contours,
        }
        return {name: path for name, path in every.items() if path is not None}

    @property
    def folder(self) -> Path | None:
        """Where the first of them goes; None where none was asked for."""
        return next((absolute(path).parent for path in self.named.values()), None)


def dicom_files(
    segmentation: Path | None = None,
    contours: Path | None = None,
    *,
    uncertainty: bool = False,
    kind: str = BINARY,
) -> DicomFiles:
    """The files of a call; the uncertainty of ``seg.dcm`` goes to ``seg_uncertainty.dcm``.

    Raises:
        OutputError: A name that does not end in ``.dcm``.
    """
    for path in (segmentation, contours):
        if path is not None and path.suffix.lower() != SUFFIX:
            raise OutputError(
                f"a DICOM object named {path.name}", f"a name that ends in {SUFFIX}", f"name it {path.name}{SUFFIX}"
            )
    beside = None
    if segmentation is not None and uncertainty:
        beside = segmentation.with_name(f"{segmentation.stem}_uncertainty{segmentation.suffix}")
    return DicomFiles(segmentation, beside, contours, kind)


def _lies_below(path: Path, folder: Path) -> bool:
    """Whether a path leads into a folder or one below it, and not out of it again."""
    whole, top = absolute(path), absolute(folder)
    return whole.is_relative_to(top) and ".." not in whole.relative_to(top).parts


def check_dicom(files: DicomFiles, scan: Volume, folder: Path) -> None:
    """Refuse what could only fail after the segmentation.

    Args:
        files: What was asked for.
        scan: The scan.
        folder: Where the mask goes.

    Raises:
        BackendError: The extra ``[dicom]`` is not installed.
        InputError: The scan is not from DICOM, states no UIDs, or is a film of which contours are asked for.
        OutputError: A file would lie outside the mask's folder, where it could not appear together with the mask; in
            the folder of the series; or where no folder can be made.
    """
    if not files.named:
        return
    require_libraries("pydicom", "highdicom")
    require_source(scan)
    if files.contours is not None:
        require_depth(scan)
    source_of(scan)
    series = scan.source
    for name, path in files.named.items():
        if series is not None and series.is_dir() and lies_in(path, series):
            raise OutputError(
                f"{path} for the {name}, in the folder of the scan",
                "another folder, since a file there would be part of the series",
                "name it elsewhere",
            )
        if not _lies_below(path, folder):
            raise OutputError(
                f"{path} for the {name}, and {folder} for the mask",
                "one folder for all files of a call, since they appear together or not at all",
                "name a folder for the mask too: --output FOLDER/",
            )
        # The mask's folder itself is looked at with the mask.
        if absolute(path).parent != absolute(folder):
            require_folder(absolute(path).parent, make=True)


def write_dicom(mask: Mask, files: DicomFiles, *, staged: Staging) -> None:
    """Write the files that were asked for.

    Args:
        mask: Mask, with its uncertainty if that was asked for.
        files: Where they go.
        staged: Where they are written until they appear.

    Raises:
        InputError: The files of the scan are gone or others.
    """
    if not files.named:
        return
    source = source_of(mask.scan)
    if files.segmentation is not None:
        _save(segmentation_of(mask, source, files.kind), staged[files.segmentation])
    if files.uncertainty is not None:
        _save(uncertainty_of(mask, source), staged[files.uncertainty])
    if files.contours is not None:
        _save(structure_set_of(mask, source), staged[files.contours])


def _save(data: Any, path: Path) -> None:
    data.save_as(path, enforce_file_format=True)
