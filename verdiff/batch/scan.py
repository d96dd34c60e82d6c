"""One scan from its file to the files of its mask, in three steps that can run at once for three scans."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from verdiff.batch.asked import AnatomyOptions, Asked, model_file, repeating_command
from verdiff.errors import EMPTY_MASK, IMPLAUSIBLE, SUCCESS, BackendError, InputError, OutputError
from verdiff.files import Plan, require_folder
from verdiff.files.places import absolute
from verdiff.imaging import Volume, read_volume
from verdiff.options import CallOptions
from verdiff.runtime.writing import OutputFiles, output_files, report, write_result
from verdiff.settings import part_of

if TYPE_CHECKING:
    from verdiff.anatomy import AnatomyFiles, Spine, Surface
    from verdiff.bundle import Manifest
    from verdiff.bundle.margins import Margin
    from verdiff.interop.dicom import DicomFiles
    from verdiff.runtime import Segmentation, Segmenter
    from verdiff.runtime.margins import NoGo


@dataclass(frozen=True)
class Read:
    """A scan that was read, and the places of its files, which were looked at.

    Attributes:
        scan: Its file or folder.
        asked: What is asked for of it.
        volume: The scan.
        seconds: What reading took.
        files: The mask and what belongs to it.
        plan: All files of the call.
        spine_files: Files of the vertebrae; None where they are not asked for.
        objects: DICOM objects; None where they are not asked for.
    """

    scan: Path
    asked: Asked
    volume: Volume
    seconds: float
    files: OutputFiles
    plan: Plan
    spine_files: AnatomyFiles | None = None
    objects: DicomFiles | None = None


@dataclass(frozen=True)
class Segmented:
    """A scan and its mask, nothing written yet."""

    read: Read
    result: Segmentation
    margins: tuple[Margin, ...]
    segmenter: Segmenter


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


def read_scan(
    scan: Path,
    output: str | Path | None,
    asked: Asked,
    *,
    name: str | None = None,
    reference: Path | None = None,
) -> Read:
    """Read a scan and look at every place that a file of it will take.

    Args:
        scan: A file or a DICOM folder.
        output: The mask's name, a folder (with ``/`` at its end it is made), or None for beside the scan.
        asked: What is asked for; with DICOM objects and without ``output`` all files go beside those.
        name: What the files are called instead of the scan's own name.
        reference: A file that the caller reads too, and that is not to be written to.

    Raises:
        VerdiffError: The scan cannot be read, or a file of it cannot be written.
    """
    begun = perf_counter()
    if scan.name in ("", ".."):
        # The files beside it take the folder's own name.
        scan = scan.resolve()
    options = asked.options
    volume = read_volume(scan, orientation=options.orientation, time_point=options.time_point)
    seconds = perf_counter() - begun
    objects = _dicom_files(asked)
    if output is None and objects is not None and objects.folder is not None:
        require_folder(objects.folder)
        output = objects.folder
    if output is None and asked.page is not None and not asked.page_each:
        output = asked.page.parent
    files = output_files(
        scan,
        output,
        name=name,
        film=volume.film,
        slices=len(volume.array),
        uncertainty=asked.uncertainty,
        preview=asked.preview,
        page=asked.page,
        page_each=asked.page_each,
    )
    if objects is not None:
        from verdiff.interop.dicom import check_dicom

        check_dicom(objects, volume, files.mask.parent)
    _check_page(files, volume)
    spine_files = spine_files_of(files, asked)
    plan = files.plan(
        {"scan": scan, "reference": reference, "model": model_file(options.model)},
        others={
            **(spine_files.taken if spine_files is not None else {}),
            **(objects.named if objects is not None else {}),
        },
        overwrite=asked.overwrite,
    )
    return Read(scan, asked, volume, seconds, files, plan, spine_files, objects)


def _check_page(files: OutputFiles, volume: Volume) -> None:
    series = volume.source
    if files.page is None or series is None or not series.is_dir():
        return
    if absolute(files.page, resolve=True).parent == absolute(series, resolve=True):
        raise OutputError(
            f"{files.page} for the page, in the folder of the scan",
            "another folder, since a file there would be part of the series",
            "name it elsewhere",
        )


def spine_files_of(files: OutputFiles, asked: Asked) -> AnatomyFiles | None:
    """Where the files of the vertebrae go, if any are asked for."""
    wanted = asked.anatomy
    if not wanted.wanted:
        return None
    from verdiff.anatomy import anatomy_files

    return anatomy_files(files.mask, instances=wanted.instances, statistics=wanted.stats, mesh=wanted.mesh)


def check_scan(segmenter: Segmenter, read: Read) -> None:
    """Raise what :func:`segment_scan` would raise before it computes."""
    _margins(segmenter, read)
    segmenter.check(read.volume, **part_of(read.asked.options, CallOptions))


def _margins(segmenter: Segmenter, read: Read) -> tuple[Margin, ...]:
    """The margins of the surfaces that are asked for, of a model that knows what they are made of."""
    if read.spine_files is None:
        return ()
    from verdiff.anatomy import check_anatomy

    anatomy, ids = read.asked.anatomy, segmenter.manifest.label_ids
    check_anatomy(read.spine_files, ids, lowest=anatomy.lowest, film=read.volume.film)
    return margins_asked(segmenter.manifest, anatomy)


def margins_asked(manifest: Manifest, anatomy: AnatomyOptions) -> tuple[Margin, ...]:
    """The margins of the surfaces that are asked for; none without surfaces.

    Raises:
        InputError: The model cannot promise what is asked for.
    """
    if not anatomy.mesh:
        return ()
    from verdiff.runtime.margins import margins_of

    return margins_of(manifest.margins, probability=anatomy.margin_probability, share=anatomy.margin_share)


def segment_scan(
    segmenter: Segmenter,
    read: Read,
    *,
    loading: float | None = None,
    progress: Callable[[float], None] | None = None,
) -> Segmented:
    """The mask of a scan that was read.

    Args:
        segmenter: The loaded model.
        read: The scan.
        loading: Seconds that loading the model took, where it was loaded for this scan alone.
        progress: Called with the share of the network calls done, 0 to 1.

    Raises:
        VerdiffError: See :meth:`verdiff.runtime.Segmenter.segment`; or the model knows none of the structures whose
            vertebrae or surfaces are asked for.
    """
    margins = _margins(segmenter, read)
    options = replace(read.asked.options, progress=progress)
    result = segmenter.segment(read.volume, **part_of(options, CallOptions))
    result.timings.update(read=read.seconds, **({} if loading is None else {"load": loading}))
    result.provenance["command"] = repeating_command(read.scan, read.asked.options)
    result.provenance["made"] = read.asked.extras()
    return Segmented(read, result, margins, segmenter)


def write_scan(segmented: Segmented) -> WrittenScan:
    """Make of a mask what is asked for beside it, and put all files in their places, or none.

    Raises:
        VerdiffError: A file cannot be written, or a place was taken meanwhile.
    """
    read, result, manifest = segmented.read, segmented.result, segmented.segmenter.manifest
    spine = no_go = None
    spine_files = read.spine_files
    missing = "" if read.files.page is None else no_vertebrae(manifest.label_ids)
    if spine_files is not None or (read.files.page is not None and not missing):
        from verdiff.anatomy import find_vertebrae
        from verdiff.anatomy.files import levels_of

        begun = perf_counter()
        spine = find_vertebrae(
            result.labels,
            result.geometry,
            manifest.label_ids,
            lowest=read.asked.anatomy.lowest,
            uncertainty=result.uncertainty,
            # The weights that read levels were learned from MR alone.
            image=read.volume.array if manifest.modality == "MR" and read.volume.geometry.oriented else None,
        )
        result.provenance["levels"] = levels_of(spine)
        result.timings["anatomy"] = perf_counter() - begun
    if segmented.margins:
        from verdiff.runtime.margins import no_go_surfaces

        begun = perf_counter()
        no_go = no_go_surfaces(result, manifest.margins, segmented.margins)
        result.timings["margins"] = perf_counter() - begun
        result.provenance["margins"] = no_go.to_dict()
    moved = {} if no_go is None else no_go.surfaces
    others: dict[str, Path] = {}
    with read.plan.staged() as staged:
        if spine is not None and spine_files is not None:
            from verdiff.anatomy import write_anatomy

            known = result.identity if read.asked.identifiers else None
            about = {} if known is None else known.uids()
            write_anatomy(
                spine,
                read.volume,
                spine_files,
                moved=moved,
                label_ids=manifest.label_ids,
                staged=staged,
                about=about,
            )
            spine_files = spine_files.holding(moved)
            others |= spine_files.named
        if read.objects is not None:
            from verdiff.interop.dicom import mask_of, write_dicom

            wanted = read.objects.uncertainty is not None
            write_dicom(mask_of(result, read.volume, uncertainty=wanted), read.objects, staged=staged)
            others |= read.objects.named
        if read.files.page is not None:
            begun = perf_counter()
            told = report(result, read.files, others, identifiers=read.asked.identifiers)
            staged[read.files.page].write_text(_page(segmented, spine, told, missing, moved), "utf-8")
            result.timings["page"] = perf_counter() - begun
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


def for_this_scan(asked: Asked, *, lowest: str | None) -> Asked:
    """What is asked for of one scan of several, whose lowest vertebra may be stated; it counts where it is named."""
    if lowest is None or not asked.names_vertebrae:
        return asked
    return replace(asked, anatomy=replace(asked.anatomy, lowest=lowest))


def _dicom_files(asked: Asked) -> DicomFiles | None:
    wanted = asked.dicom
    if wanted.segmentation is None and wanted.contours is None:
        return None
    from verdiff.interop.dicom import dicom_files

    return dicom_files(wanted.segmentation, wanted.contours, uncertainty=asked.uncertainty, kind=wanted.kind)
