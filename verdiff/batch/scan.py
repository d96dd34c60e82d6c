"""One scan from its file to its mask; :mod:`verdiff.batch.written` puts the mask's files in their places.

Reading, segmenting and writing can run at once for three scans.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from verdiff.batch.asked import AnatomyOptions, Asked, named_scan, repeating_command
from verdiff.batch.fingerprint import fingerprint
from verdiff.bundle.names import model_file
from verdiff.errors import OutputError
from verdiff.files import Plan, require_folder
from verdiff.files.places import lies_in
from verdiff.imaging import Volume, read_volume
from verdiff.options import CallOptions
from verdiff.runtime.writing import OutputFiles, output_files
from verdiff.settings import part_of

if TYPE_CHECKING:
    from verdiff.anatomy import AnatomyFiles
    from verdiff.bundle import Manifest
    from verdiff.bundle.margins import Margin
    from verdiff.interop.dicom import DicomFiles
    from verdiff.runtime import Segmentation, Segmenter


@dataclass(frozen=True)
class Read:
    """A scan that was read, and the places of its files, which were looked at.

    Attributes:
        scan: Its file or folder.
        asked: What is asked for of it.
        volume: The scan.
        seconds: What reading took.
        fingerprint: What tells it from another scan of its name (:mod:`verdiff.batch.fingerprint`).
        files: The mask and what belongs to it.
        plan: All files of the call.
        spine_files: Files of the vertebrae; None where they are not asked for.
        objects: DICOM objects; None where they are not asked for.
    """

    scan: Path
    asked: Asked
    volume: Volume
    seconds: float
    fingerprint: str
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
    scan = named_scan(scan)
    options = asked.options
    # Before it is read: a scan that changes meanwhile is not done.
    known = _fingerprint(scan)
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
    return Read(scan, asked, volume, seconds, known, files, plan, spine_files, objects)


def _fingerprint(scan: Path) -> str:
    """Tell a scan from others of its name; empty for one that cannot be opened, which reading it says better."""
    try:
        return fingerprint(scan)
    except OSError:
        return ""


def _check_page(files: OutputFiles, volume: Volume) -> None:
    series = volume.source
    if files.page is None or series is None or not series.is_dir():
        return
    if lies_in(files.page, series):
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

    anatomy, ids, volume = read.asked.anatomy, segmenter.manifest.label_ids, read.volume
    check_anatomy(read.spine_files, ids, lowest=anatomy.lowest, film=volume.film, geometry=volume.geometry)
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
    result.provenance["scan"]["fingerprint"] = read.fingerprint
    return Segmented(read, result, margins, segmenter)


def _dicom_files(asked: Asked) -> DicomFiles | None:
    wanted = asked.dicom
    if wanted.segmentation is None and wanted.contours is None:
        return None
    from verdiff.interop.dicom import dicom_files

    return dicom_files(wanted.segmentation, wanted.contours, uncertainty=asked.uncertainty, kind=wanted.kind)
