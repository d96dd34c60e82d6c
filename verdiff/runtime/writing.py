"""The files of one result: which there are, where they go, and how all of them appear or none."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from verdiff.errors import OutputError
from verdiff.files import Plan, Staging, plan_files
from verdiff.files.places import absolute, folder_of_all, require_folder
from verdiff.imaging import write_array
from verdiff.imaging.dicom_zip import ZIP_SUFFIX
from verdiff.imaging.named_masks import SEGMENTS_SUFFIX
from verdiff.imaging.reading import DICOM_SUFFIXES, FILM_SUFFIXES, MEDICAL_SUFFIXES, NIFTI_SUFFIXES
from verdiff.imaging.terms import structures

if TYPE_CHECKING:
    from verdiff.imaging import Volume
    from verdiff.runtime.result import Segmentation

MASK_SUFFIXES = (SEGMENTS_SUFFIX, ".nii.gz", ".nii", ".nrrd", ".mha", ".png")
# The first that a name ends with is no part of the scan's own.
SCAN_SUFFIXES = (SEGMENTS_SUFFIX, *NIFTI_SUFFIXES, *MEDICAL_SUFFIXES, *FILM_SUFFIXES, *DICOM_SUFFIXES, ZIP_SUFFIX)
# Scans whose masks are written in their own format where nothing else is asked for.
OWN_SUFFIXES = (".nrrd", ".mha")
MASK_TAG = "_seg"


@dataclass(frozen=True)
class OutputFiles:
    """Where the files of a result go; None for those that were not asked for.

    Attributes:
        mask: Label ids in the scan's grid.
        report: Provenance, timings and volumes as JSON.
        uncertainty: 0 to 255 in the scan's grid.
        preview: A PNG of a few slices.
        page: An HTML page to look at; in the mask's folder, above it or below it.
        make: The folder may be missing: it is made when the files are written.
    """

    mask: Path
    report: Path
    uncertainty: Path | None = None
    preview: Path | None = None
    page: Path | None = None
    make: bool = False

    @property
    def name(self) -> str:
        """What is common to the names of the files: ``scan`` of ``scan_seg.nii.gz``."""
        return _stem(self.mask, MASK_SUFFIXES).removesuffix(MASK_TAG)

    def plan(
        self,
        inputs: Mapping[str, Path | None] = MappingProxyType({}),
        *,
        others: Mapping[str, Path] = MappingProxyType({}),
        overwrite: bool = False,
    ) -> Plan:
        """These files, checked: nothing that is not verdiff's is in their places, and they can be written.

        Args:
            inputs: What the call reads, by what it is: never written to.
            others: Files beside the mask that the same call writes.
            overwrite: Whether files that are not verdiff's may be replaced.

        Raises:
            OutputError: See :func:`verdiff.files.plan_files`.
        """
        files = {
            "mask": self.mask,
            "uncertainty map": self.uncertainty,
            "preview": self.preview,
            "page": self.page,
            **others,
        }
        # The report is the last: where it is, all is there.
        every = {**files, "report": self.report}
        folder = self._folder
        if self.page is not None and absolute(self.page).parent != absolute(self.mask).parent:
            require_folder(absolute(self.page).parent)
            require_folder(absolute(self.mask).parent, make=self.make)
        return plan_files(every, inputs=inputs, overwrite=overwrite, folder=folder, make=self.make)

    @property
    def _folder(self) -> Path:
        """The folder that holds all files, in it or below."""
        return self.mask.parent if self.page is None else folder_of_all(self.mask.parent, self.page)


def output_files(
    scan: Path,
    output: str | Path | None = None,
    *,
    name: str | None = None,
    film: bool = False,
    slices: int = 1,
    uncertainty: bool = False,
    preview: bool = False,
    page: Path | None = None,
    page_each: bool = False,
) -> OutputFiles:
    """The files beside ``scan``, or at ``output``; :meth:`OutputFiles.plan` looks at the places.

    Args:
        scan: The scan's file or folder: ``scan.nii.gz`` gives ``scan_seg.nii.gz``, ``scan_seg.json``,
            ``scan_uncertainty.nii.gz`` and ``scan_preview.png``; ``scan.nrrd`` gives ``scan_seg.nrrd``, and MHA alike.
        output: The mask's own name, a folder that exists, or a folder's name that ends with ``/``, which is made.
        name: What the files in a folder are called instead of the scan's own name.
        film: Masks of films are PNG files unless ``output`` says otherwise.
        slices: Slices of the scan; a PNG holds one.
        uncertainty: Whether the uncertainty map is asked for.
        preview: Whether the preview is asked for.
        page: The page to look at.
        page_each: ``page`` is a name for the end of those of several scans: ``report.html`` gives ``scan_report.html``.

    Raises:
        OutputError: An unknown suffix, or a PNG for a scan of several slices.
    """
    own = next((suffix for suffix in OWN_SUFFIXES if scan.name.lower().endswith(suffix)), ".nii.gz")
    suffix = ".png" if film and slices == 1 else own
    make = output is not None and str(output).endswith(("/", os.sep))
    output = None if output is None else Path(output)
    # os.path knows no folder of a name that is too long; Path would raise.
    if output is None or make or os.path.isdir(output):
        folder = _plain(scan).parent if output is None else output
        mask = folder / f"{name or _stem(scan, SCAN_SUFFIXES)}{MASK_TAG}{suffix}"
    else:
        mask = output
        suffix = next((s for s in MASK_SUFFIXES if mask.name.lower().endswith(s)), "")
        if not suffix or mask.name.lower() == suffix:
            raise OutputError(
                f"an output named {mask.name}",
                f"a folder, or a name that ends in {', '.join(MASK_SUFFIXES)}",
                f"give the mask one of these suffixes, or write {output}/ to have the folder made",
            )
        if suffix == ".png" and slices > 1:
            raise OutputError(
                f"an output named {mask.name} for a scan of {slices} slices",
                f"a format that holds volumes: {', '.join(MASK_SUFFIXES[:-1])}",
                f"name it {_stem(mask, MASK_SUFFIXES)}.nii.gz; --preview draws a PNG of a few slices",
            )
    stem = _stem(mask, MASK_SUFFIXES)
    base = stem.removesuffix(MASK_TAG)
    # Slicer's format is one of segments; an uncertainty map is a plain image.
    suffix = ".nrrd" if suffix == SEGMENTS_SUFFIX else suffix
    return OutputFiles(
        mask,
        mask.with_name(f"{stem}.json"),
        mask.with_name(f"{base}_uncertainty{suffix}") if uncertainty else None,
        mask.with_name(f"{base}_preview.png") if preview else None,
        mask.with_name(f"{base}_{page.name}") if page is not None and page_each else page,
        make,
    )


def write_result(
    result: Segmentation,
    volume: Volume,
    files: OutputFiles,
    others: Mapping[str, Path] = MappingProxyType({}),
    *,
    staged: Staging | None = None,
    identifiers: bool = False,
    marks: Mapping[str, Sequence[float]] = MappingProxyType({}),
    remarks: Sequence[str] = (),
) -> None:
    """Write the files of ``result``: all of them appear together, or none.

    Args:
        result: The segmentation.
        volume: The scan it is of.
        files: Where the files go.
        others: What else was made of the result and stands beside the mask, for the report to name.
        staged: Where they are written, together with those others; None writes these alone.
        identifiers: Whether report, mask and uncertainty hold the UIDs of a scan that was read from DICOM.
        marks: Names that the preview writes on the mask where it covers these points, each three LPS millimetres.
        remarks: What the preview says of the mask.

    Raises:
        OutputError: A file cannot be written, or a place is taken by a file that is not verdiff's; nothing changed.
    """
    if staged is None:
        with files.plan().staged() as staging:
            write_result(
                result,
                volume,
                files,
                others,
                staged=staging,
                identifiers=identifiers,
                marks=marks,
                remarks=remarks,
            )
        return
    begun = perf_counter()
    about = result.identity.uids() if identifiers and result.identity is not None else {}
    named = structures(result.label_table)
    write_array(result.labels, volume, staged[files.mask], mark=True, structures=named, about=about)
    if files.uncertainty is not None:
        write_array(result.uncertainty, volume, staged[files.uncertainty], mark=True, about=about)
    if files.preview is not None:
        from verdiff.imaging.preview import Preview, preview_png

        table = {label.id: label.name for label in result.label_table}
        banner = [f"forced past: {reason}" for reason in result.provenance["forced"]]
        banner += [f"warning: {text}" for text in result.implausible]
        banner += result.provenance["scan"]["notes"]
        shown = Preview(volume, result.labels, result.uncertainty, table, banner, marks, remarks)
        preview_png(staged[files.preview], shown)
    result.timings["write"] = perf_counter() - begun
    staged[files.report].write_text(
        json.dumps(report(result, files, others, identifiers=identifiers), indent=1) + "\n", "utf-8"
    )


def report(
    result: Segmentation,
    files: OutputFiles,
    others: Mapping[str, Path] = MappingProxyType({}),
    *,
    identifiers: bool = False,
) -> dict[str, Any]:
    """What the JSON beside the mask holds: outcome, files by name, volumes, timings, provenance.

    Of the scan it holds the name of its file and nothing else that identifies it, unless ``identifiers`` asks for the
    UIDs of a scan that was read from DICOM.
    """
    named = {name: getattr(files, name) for name in ("mask", "uncertainty", "preview", "page")}
    return {
        "outcome": "empty mask" if result.empty else result.outcome,
        "files": {name: path.name for name, path in {**named, **others}.items() if path is not None},
        "volumes_ml": {name: round(volume, 4) for name, volume in result.volumes_ml().items()},
        "cut_by_field_of_view": {name: list(sides) for name, sides in result.cut_sides.items()},
        "timings_s": {name: round(seconds, 4) for name, seconds in result.timings.items()},
        "provenance": result.provenance,
        **({"dicom": result.identity.identifiers()} if identifiers and result.identity is not None else {}),
    }


def _stem(path: Path, suffixes: tuple[str, ...]) -> str:
    name = _plain(path).name
    found = next((suffix for suffix in suffixes if name.lower().endswith(suffix) and name.lower() != suffix), "")
    return name[: len(name) - len(found)]


def _plain(path: Path) -> Path:
    """The path with a name at its end: ``..`` is the name of a folder, too."""
    return absolute(path, resolve=True) if path.name in ("", "..") else path
