"""The last step of a scan: what is made of its mask, and all files in their places."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from verdiff.batch.scan import Read, Segmented
from verdiff.errors import EMPTY_MASK, IMPLAUSIBLE, SUCCESS, BackendError, InputError
from verdiff.runtime.writing import report, write_result

if TYPE_CHECKING:
    from verdiff.anatomy import AnatomyFiles, Spine, Surface
    from verdiff.bundle import Manifest
    from verdiff.files.staging import Staging
    from verdiff.imaging import Volume
    from verdiff.runtime import Segmentation
    from verdiff.runtime.margins import NoGo


@dataclass(frozen=True)
class WrittenScan:
    """A scan whose files are in their places."""

    read: Read
    result: Segmentation
    spine: Spine | None
    spine_files: AnatomyFiles | None
    no_go: NoGo | None
    others: dict[str, Path]

    @property
    def exit_code(self) -> int:
        """Done, or the named outcome of an empty or a doubtful mask."""
        if self.result.empty:
            return EMPTY_MASK
        return IMPLAUSIBLE if self.result.implausible else SUCCESS

    def report(self) -> dict[str, Any]:
        """What the JSON beside the mask holds."""
        return report(self.result, self.read.files, self.others, identifiers=self.read.asked.identifiers)


def write_scan(segmented: Segmented) -> WrittenScan:
    """Make of a mask what is asked for beside it, and put all files in their places, or none.

    Raises:
        VerdiffError: A file cannot be written, or a place was taken meanwhile.
    """
    read, result = segmented.read, segmented.result
    missing = "" if read.files.page is None else no_vertebrae(segmented.segmenter.manifest.label_ids)
    spine, spine_files = None, read.spine_files
    if spine_files is not None or (read.files.page is not None and not missing):
        spine = _find_spine(segmented)
    no_go = _move_surfaces(segmented) if segmented.margins else None
    moved = {} if no_go is None else no_go.surfaces
    others: dict[str, Path] = {}
    with read.plan.staged() as staged:
        if spine is not None and spine_files is not None:
            _write_spine(segmented, spine, spine_files, moved, staged)
            spine_files = spine_files.holding(moved)
            others |= spine_files.named
        if read.objects is not None:
            from verdiff.interop.dicom import mask_of, write_dicom

            wanted = read.objects.uncertainty is not None
            write_dicom(mask_of(result, read.volume, uncertainty=wanted), read.objects, staged=staged)
            others |= read.objects.named
        if read.files.page is not None:
            with _timed(result, "page"):
                told = report(result, read.files, others, identifiers=read.asked.identifiers)
                staged[read.files.page].write_text(_page(segmented, spine, told, missing, moved), "utf-8")
        write_result(
            result,
            read.volume,
            read.files,
            others,
            staged=staged,
            identifiers=read.asked.identifiers,
            marks={} if spine is None else spine.marks_mm,
            remarks=() if spine is None else (spine.says_levels,),
        )
    return WrittenScan(read, result, spine, spine_files, no_go, others)


@contextmanager
def _timed(result: Segmentation, stage: str) -> Iterator[None]:
    begun = perf_counter()
    yield
    result.timings[stage] = perf_counter() - begun


def _find_spine(segmented: Segmented) -> Spine:
    """The vertebrae of the mask; the report says what their levels rest on."""
    from verdiff.anatomy import find_vertebrae
    from verdiff.anatomy.files import levels_of

    read, result, manifest = segmented.read, segmented.result, segmented.segmenter.manifest
    with _timed(result, "anatomy"):
        spine = find_vertebrae(
            result.labels,
            result.geometry,
            manifest.label_ids,
            lowest=read.asked.anatomy.lowest,
            uncertainty=result.uncertainty,
            image=read.volume.array if _shows_levels(read.volume, manifest) else None,
        )
        result.provenance["levels"] = levels_of(spine)
    return spine


def _shows_levels(volume: Volume, manifest: Manifest) -> bool:
    """Whether levels can be read in the picture: the weights for it know MR alone, and a CT may have been forced."""
    return manifest.modality == "MR" and volume.modality in (None, "MR") and volume.geometry.oriented


def _move_surfaces(segmented: Segmented) -> NoGo:
    """The no-go surfaces; the report says what they promise."""
    from verdiff.runtime.margins import no_go_surfaces

    result = segmented.result
    with _timed(result, "margins"):
        no_go = no_go_surfaces(result, segmented.segmenter.manifest.margins, segmented.margins)
    result.provenance["margins"] = no_go.to_dict()
    return no_go


def _write_spine(
    segmented: Segmented,
    spine: Spine,
    files: AnatomyFiles,
    moved: Mapping[str, Mapping[str, Surface]],
    staged: Staging,
) -> None:
    from verdiff.anatomy import write_anatomy

    read, result = segmented.read, segmented.result
    write_anatomy(
        spine,
        read.volume,
        files,
        moved=moved,
        label_ids=segmented.segmenter.manifest.label_ids,
        staged=staged,
        about=result.identity.uids() if read.asked.identifiers and result.identity is not None else {},
    )


def no_vertebrae(label_ids: Mapping[str, int]) -> str:
    """Why a page has no vertebrae and no surfaces, in words; empty where it has."""
    from verdiff.anatomy.libraries import require_libraries
    from verdiff.anatomy.roles import roles_of

    try:
        require_libraries()
    except BackendError as error:
        return f"Not looked for: {error.found}. {error.remedy}."
    try:
        roles_of(label_ids)
    except InputError as error:
        return f"Not looked for: {error.found}."
    return ""


def _page(
    segmented: Segmented,
    spine: Spine | None,
    told: Mapping[str, Any],
    missing: str,
    moved: Mapping[str, Mapping[str, Surface]],
) -> str:
    from verdiff.page.scan import Shown, scan_page

    read, result = segmented.read, segmented.result
    names = {label.id: label.name for label in result.label_table}
    return scan_page(Shown(told, read.volume, result.labels, result.uncertainty, names, spine, missing, moved))
