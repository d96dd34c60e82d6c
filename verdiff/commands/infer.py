"""``verdiff infer``: read a scan, segment it, write the files, say what was found."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from verdiff.choices import CLUSTER_DEVICES, SEGMENTATION_TYPES
from verdiff.commands.infer_lines import dice_lines, last_lines, written_lines
from verdiff.commands.options import (
    A_MODEL,
    AsJson,
    Orientation,
    Overwrite,
    TimePoint,
    a_page_of_a_scan,
    levels,
    metavar,
    one_of,
    require_used,
    takes_options,
    unfit,
    within,
)
from verdiff.commands.printing import give, say
from verdiff.commands.progress import busy, for_programs
from verdiff.errors import SUCCESS, InputError
from verdiff.options import BatchOptions, CallOptions, InferOptions, LoadOptions
from verdiff.progress import done
from verdiff.settings import Bounds, part_of

if TYPE_CHECKING:
    from verdiff.batch import Asked
    from verdiff.batch.scan import Read
    from verdiff.imaging import Volume


def run(
    scan: Path,
    output: str | Path | None,
    asked: Asked,
    *,
    reference: Path | None = None,
    say: Callable[[str], None],
    tell: Callable[[dict[str, Any]], None] | None = None,
    dry_run: bool = False,
) -> int:
    """Segment ``scan`` and return the exit code: done, or the named outcome of an empty mask.

    Args:
        scan: A file or a DICOM folder.
        output: The mask's name, a folder (with ``/`` at its end it is made), or None for beside the scan, or beside
            the DICOM objects or the page that are asked for.
        asked: How the model runs, and what is made of the mask.
        reference: A mask on the scan's grid, with the model's label ids, to print the Dice against.
        say: Takes each line of the summary.
        tell: Takes the report.
        dry_run: Check all of it, the model too, say which files would be written, and stop.

    Raises:
        VerdiffError: Whatever was wrong; all files appear together, or none.
    """
    from verdiff.batch.scan import check_scan, read_scan, segment_scan
    from verdiff.batch.written import write_scan
    from verdiff.bundle import resolve_model
    from verdiff.runtime import Segmenter
    from verdiff.runtime.workload import one_scan

    options = asked.options
    # A name that is wrong is told before a scan is read.
    resolve_model(options.model)
    with busy(f"reading {scan.name}"):
        read = read_scan(scan, output, asked, reference=reference)
    volume = read.volume
    truth = None if reference is None else _reference(reference, read)
    if asked.anatomy.wanted:
        from verdiff.anatomy.libraries import require_libraries

        require_libraries()
    work = one_scan(volume, **part_of(options, CallOptions))
    load = partial(Segmenter.load, **part_of(replace(options, work=work), LoadOptions))
    if dry_run:
        with busy("loading the model"), load() as segmenter:
            check_scan(segmenter, read)
        for path in read.plan.files.values():
            say(f"would write {path}")
        if tell is not None:
            tell({"would_write": [str(path) for path in read.plan.files.values()]})
        return SUCCESS
    begun = perf_counter()
    with busy("loading the model"):
        segmenter = load()
    loading = perf_counter() - begun
    with busy("segmenting"):
        segmented = segment_scan(segmenter, read, loading=loading, progress=done)
    with busy("writing"):
        written = write_scan(segmented)
    for line in written_lines(written):
        say(line)
    if truth is not None:
        for line in dice_lines(written.result, volume, truth):
            say(line)
    for line in last_lines(written.result):
        say(line)
    if tell is not None:
        tell(written.report())
    return written.exit_code


def _reference(reference: Path, read: Read) -> Volume:
    from verdiff.imaging import read_labels
    from verdiff.imaging.identity import refuse_other_frame_of_reference

    volume = read.volume
    truth = read_labels(reference, orientation=read.asked.options.orientation)
    refuse_other_frame_of_reference((str(read.scan), volume.identity), (str(reference), truth.identity))
    if not truth.geometry.matches(volume.geometry, tolerance_mm=0.01):
        raise InputError(
            f"the reference {reference} is not on the scan's grid",
            f"{' x '.join(map(str, volume.geometry.size))} voxels at the scan's position",
            "resample the reference onto the scan, or leave --reference out",
        )
    return truth


# Limits of a share or a probability.
_A_SHARE = Bounds(0.0, 1.0, above=True)


@takes_options
def infer(
    context: typer.Context,
    scans: Annotated[
        list[Path] | None,
        typer.Argument(
            help="NIfTI, NRRD, MHA, PNG, JPEG or DICOM file, or a folder or zip of one DICOM series; several of them, "
            "a folder of scans, or a glob."
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="The mask, or a folder (FOLDER/ is made if it is missing); scan_seg.nii.gz beside the scan. "
            "Of several scans the folder, which is made.",
        ),
    ] = None,
    overwrite: Overwrite = False,
    model: Annotated[str | None, typer.Option(help=A_MODEL)] = None,
    *,
    options: InferOptions,
    batch: BatchOptions,
    as_json: AsJson = False,
    tell_progress: Annotated[
        bool, typer.Option("--progress", help="Tell programs how far it is: JSON lines on standard error.")
    ] = False,
    uncertainty: Annotated[bool, typer.Option("--uncertainty", help="Write the uncertainty map too.")] = False,
    preview: Annotated[bool, typer.Option("--preview", help="Write a PNG of a few slices too.")] = False,
    instances: Annotated[
        bool, typer.Option("--instances", help="Write each vertebra and disc under its own number too.")
    ] = False,
    mesh: Annotated[
        bool, typer.Option("--mesh", help="Write closed surfaces of them, and no-go surfaces, as STL and VTP.")
    ] = False,
    stats: Annotated[
        bool, typer.Option("--stats", help="Write volume, centroid, height and confidence of each, as JSON and CSV.")
    ] = False,
    lowest: Annotated[
        str | None,
        typer.Option(
            callback=levels, metavar="LEVEL", help="Level of the lowest vertebra in the mask, for example L5."
        ),
    ] = None,
    margin_probability: Annotated[
        float | None,
        typer.Option(
            callback=within(_A_SHARE), help="With --mesh: probability that no-go surfaces promise; see docs/margins.md."
        ),
    ] = None,
    margin_share: Annotated[
        float | None,
        typer.Option(
            callback=within(_A_SHARE), help="With --mesh: share of the true surface they hold; 0.95, 0.99 or 1."
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            callback=a_page_of_a_scan,
            metavar="FILE.html",
            help="Write a page to look at too: slices to scroll through, surfaces to turn (with --mesh no-go surfaces, "
            "too), volumes, levels, times, warnings. Of several scans the end of each page's name.",
        ),
    ] = None,
    reference: Annotated[Path | None, typer.Option(help="An expert mask to print the Dice against.")] = None,
    orientation: Orientation = None,
    time_point: TimePoint = None,
    dicom_seg: Annotated[
        Path | None, typer.Option(metavar="FILE.dcm", help="Write a DICOM segmentation that refers to the series too.")
    ] = None,
    seg_type: Annotated[
        str,
        typer.Option(
            callback=one_of(*SEGMENTATION_TYPES),
            metavar=metavar(*SEGMENTATION_TYPES),
            help="Form of --dicom-seg; few receivers know LABELMAP yet.",
        ),
    ] = SEGMENTATION_TYPES[0],
    rtstruct: Annotated[
        Path | None, typer.Option(metavar="FILE.dcm", help="Write the contours as a DICOM RT structure set too.")
    ] = None,
    identifiers: Annotated[
        bool, typer.Option("--identifiers", help="Put a DICOM scan's UIDs into report, masks and meshes.")
    ] = False,
) -> None:
    """Segment a scan, or many: masks in the scans' own grids, and a JSON report beside each."""
    if not scans and batch.manifest is None:
        raise unfit("no scan", "name one, several, a folder or a glob, or a list of them with --manifest")
    if lowest is not None and not (instances or stats or mesh or report is not None):
        raise unfit(
            f"--lowest {lowest} names vertebrae", "add --instances, --stats, --mesh or --report, or leave it out"
        )
    if (margin_probability is not None or margin_share is not None) and not mesh:
        raise unfit("--margin-probability and --margin-share are of surfaces", "add --mesh, or leave them out")
    require_used(context, {"--dicom-seg": ("--seg-type",)})
    from verdiff.batch import AnatomyOptions, Asked, DicomOptions, are_several, cases_of

    options = replace(options, model=model, orientation=orientation, time_point=time_point)
    anatomy = AnatomyOptions(instances, stats, mesh, lowest, margin_probability, margin_share)
    dicom = DicomOptions(dicom_seg, seg_type, rtstruct)
    asked = Asked(options, uncertainty, preview, anatomy, dicom, overwrite, identifiers, report)
    # What a dry run says is all that it is for.
    told: Callable[[str], None] = _nothing if as_json else give if batch.dry_run else say
    tell = _print_json if as_json else None
    words = scans or []
    if batch.manifest is None and batch.ray is None and not are_several(words):
        with for_programs() if tell_progress else nullcontext():
            code = run(
                words[0],
                output,
                asked,
                reference=reference,
                say=told,
                tell=None if tell is None else _print_whole,
                dry_run=batch.dry_run,
            )
        raise typer.Exit(code)
    if batch.ray is not None and options.device not in CLUSTER_DEVICES:
        raise unfit(f"--device {options.device} with --ray", f"choose {' or '.join(CLUSTER_DEVICES)}: Ray says which")
    of_one = {"--reference": reference, "--dicom-seg": dicom_seg, "--rtstruct": rtstruct, "--progress": tell_progress}
    if given := [name for name, value in of_one.items() if value]:
        several = "several scans" if batch.ray is None else "--ray"
        raise unfit(f"{' and '.join(given)} with {several}", "these are of one scan; leave them out")
    from verdiff.commands import infer_several

    if report is not None and report.name != str(report):
        raise unfit(
            f"--report {report} with several scans", f"it is the end of each page's name there: --report {report.name}"
        )
    cases = cases_of(words, batch.manifest)
    folder = None if output is None else Path(output)
    each = replace(asked, page_each=True)
    raise typer.Exit(infer_several.run(cases, folder, each, batch_options=batch, say=told, tell=tell))


def _nothing(line: str) -> None:
    """Say nothing: standard output is for JSON."""


def _print_whole(report: dict[str, Any]) -> None:
    give(json.dumps(report, indent=1))


def _print_json(case: dict[str, Any]) -> None:
    give(json.dumps(case))
