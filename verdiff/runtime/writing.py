"""The files of one result: which there are, where they go, and how each appears whole or not at all."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from verdiff.errors import OutputError
from verdiff.imaging import atomic_path, write_array

if TYPE_CHECKING:
    from verdiff.imaging import Volume
    from verdiff.runtime.result import Segmentation

MASK_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".png")
SCAN_SUFFIXES = (*MASK_SUFFIXES, ".mhd", ".jpg", ".jpeg", ".dcm", ".tif", ".tiff", ".bmp")
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
    """

    mask: Path
    report: Path
    uncertainty: Path | None = None
    preview: Path | None = None


def output_files(
    scan: Path, output: Path | None = None, *, film: bool = False, uncertainty: bool = False, preview: bool = False
) -> OutputFiles:
    """The files beside ``scan``, or at ``output``, checked to be writable before anything is computed.

    Args:
        scan: The scan's file or folder: ``scan.nii.gz`` gives ``scan_seg.nii.gz``, ``scan_seg.json``,
            ``scan_uncertainty.nii.gz`` and ``scan_preview.png``; ``scan.nrrd`` gives ``scan_seg.nrrd``, and MHA alike.
        output: The mask's own name, or a folder that exists.
        film: Masks of films are PNG files unless ``output`` says otherwise.
        uncertainty: Whether the uncertainty map is asked for.
        preview: Whether the preview is asked for.

    Raises:
        OutputError: An unknown suffix, a missing folder, one that cannot be written, or a name that is the scan's.
    """
    own = next((suffix for suffix in OWN_SUFFIXES if scan.name.lower().endswith(suffix)), ".nii.gz")
    suffix = ".png" if film else own
    if output is None or output.is_dir():
        folder = scan.absolute().parent if output is None else output
        mask = folder / f"{_stem(scan, SCAN_SUFFIXES)}{MASK_TAG}{suffix}"
    else:
        mask = output
        suffix = next((s for s in MASK_SUFFIXES if mask.name.lower().endswith(s)), "")
        if not suffix:
            raise OutputError(
                f"an output named {mask.name}",
                f"a folder that exists, or a name that ends in {', '.join(MASK_SUFFIXES)}",
                "give the mask one of these suffixes, or create the folder",
            )
    stem = _stem(mask, MASK_SUFFIXES)
    base = stem.removesuffix(MASK_TAG)
    files = OutputFiles(
        mask,
        mask.with_name(f"{stem}.json"),
        mask.with_name(f"{base}_uncertainty{suffix}") if uncertainty else None,
        mask.with_name(f"{base}_preview.png") if preview else None,
    )
    if scan.exists() and mask.exists() and mask.samefile(scan):
        raise OutputError(f"{mask} is the scan itself", "another name for the mask", "give the output another name")
    _check_folder(mask.absolute().parent)
    return files


def write_result(
    result: Segmentation, volume: Volume, files: OutputFiles, others: Mapping[str, Path] = MappingProxyType({})
) -> None:
    """Write the files of ``result``; the report last, so that a report means that all is there.

    Args:
        result: The segmentation.
        volume: The scan it is of.
        files: Where the files go.
        others: What was made of the result and stands beside the mask already, for the report to name.

    Raises:
        OutputError: A file cannot be written; each is the old one or the complete new one.
    """
    begun = perf_counter()
    write_array(result.labels, volume, files.mask)
    if files.uncertainty is not None:
        write_array(result.uncertainty, volume, files.uncertainty)
    if files.preview is not None:
        from verdiff.imaging.preview import preview_png

        table = {label.id: label.name for label in result.label_table}
        banner = [f"forced past: {reason}" for reason in result.provenance["forced"]]
        banner += result.provenance["scan"]["notes"]
        preview_png(files.preview, volume, result.labels, result.uncertainty, table, warnings=banner)
    result.timings["write"] = perf_counter() - begun
    with atomic_path(files.report) as temporary:
        temporary.write_text(json.dumps(report(result, files, others), indent=1) + "\n", "utf-8")


def report(
    result: Segmentation, files: OutputFiles, others: Mapping[str, Path] = MappingProxyType({})
) -> dict[str, Any]:
    """What the JSON beside the mask holds: outcome, files by name, volumes, timings, provenance."""
    named = {name: getattr(files, name) for name in ("mask", "uncertainty", "preview")}
    return {
        "outcome": "empty mask" if result.empty else result.outcome,
        "files": {name: path.name for name, path in {**named, **others}.items() if path is not None},
        "volumes_ml": {name: round(volume, 4) for name, volume in result.volumes_ml().items()},
        "timings_s": {name: round(seconds, 4) for name, seconds in result.timings.items()},
        "provenance": result.provenance,
    }


def _stem(path: Path, suffixes: tuple[str, ...]) -> str:
    name = path.absolute().name
    found = next((suffix for suffix in suffixes if name.lower().endswith(suffix) and name.lower() != suffix), "")
    return name[: len(name) - len(found)]


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise OutputError(f"there is no folder {folder}", "a folder that can be written", "create it first")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written: {error.strerror or error}",
            "a folder that can be written, with room on its disk",
            "choose another output with -o, or change its permissions",
        ) from error
