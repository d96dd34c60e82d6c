"""``verdiff infer``: read a scan, segment it, write the files, say what was found."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import typer

from verdiff.choices import SEGMENTATION_TYPES
from verdiff.commands.infer_lines import dice_lines, last_lines, spine_lines, summary
from verdiff.commands.options import (
    Orientation,
    Overwrite,
    TimePoint,
    levels,
    metavar,
    one_of,
    takes_options,
    unfit,
    within,
)
from verdiff.commands.printing import say
from verdiff.errors import EMPTY_MASK, IMPLAUSIBLE, SUCCESS, InputError
from verdiff.options import CallOptions, LoadOptions
from verdiff.settings import Bounds, part_of, words_of

if TYPE_CHECKING:
    from verdiff.bundle.margins import Margin
    from verdiff.interop.dicom import DicomFiles

NOT_CALIBRATED = "no no-go surfaces: the model is not calibrated ('verdiff calibrate')"
FILM_MODALITIES = ("XR", "CR", "DX")


@dataclass(frozen=True, kw_only=True)
class InferOptions(LoadOptions, CallOptions):
    """How a command runs a model on a scan: how it loads it, calls it, and reads a scan that leaves its axes open."""

    orientation: str | None = None
    time_point: int | None = None


@dataclass(frozen=True)
class AnatomyOptions:
    """What ``verdiff infer`` makes of the mask: ``--instances``, ``--stats``, ``--mesh`` and ``--lowest``.

    ``margin_probability`` and ``margin_share`` say what the no-go surfaces of ``--mesh`` promise; None is what the
    model's margins say (:func:`verdiff.bundle.margins.margin_of`).
    """

    instances: bool = False
    stats: bool = False
    mesh: bool = False
    lowest: str | None = None
    margin_probability: float | None = None
    margin_share: float | None = None

    @property
    def wanted(self) -> bool:
        """Whether any of it is asked for."""
        return self.instances or self.stats or self.mesh

    def __post_init__(self) -> None:
        if self.lowest is not None and not self.wanted:
            raise InputError(
                f"--lowest {self.lowest} and nothing to name",
                "--instances, --stats or --mesh beside it",
                "add what you want of the vertebrae, or leave --lowest out",
            )


@dataclass(frozen=True)
class DicomOptions:
    """The DICOM objects of ``verdiff infer``: ``--dicom-seg``, ``--seg-type`` and ``--rtstruct``."""

    segmentation: Path | None = None
    kind: str = SEGMENTATION_TYPES[0]
    contours: Path | None = None


def run(
    scan: Path,
    output: str | Path | None,
    options: InferOptions,
    *,
    uncertainty: bool,
    preview: bool,
    reference: Path | None,
    say: Callable[[str], None],
    anatomy: AnatomyOptions | None = None,
    dicom: DicomOptions | None = None,
    overwrite: bool = False,
    identifiers: bool = False,
) -> int:
    """Segment ``scan`` and return the exit code: done, or the named outcome of an empty mask.

    Args:
        scan: A file or a DICOM folder.
        output: The mask's name, a folder (with ``/`` at its end it is made), or None for beside the scan.
        options: Options of the model and the sampling.
        uncertainty: Write the uncertainty map too.
        preview: Write a preview PNG too.
        reference: A mask on the scan's grid, with the model's label ids, to print the Dice against.
        say: Takes each line of the summary.
        anatomy: What to make of the vertebrae.
        dicom: Which DICOM objects to write too; without ``output`` all files go beside them.
        overwrite: Replace files that verdiff did not write; never the scan, the reference or a data set's JSON.
        identifiers: Put the UIDs of a scan read from DICOM into the report.

    Raises:
        VerdiffError: Whatever was wrong; all files appear together, or none.
    """
    from verdiff.bundle import resolve_model
    from verdiff.files import require_folder
    from verdiff.imaging import read_labels, read_volume
    from verdiff.imaging.identity import refuse_other_frame_of_reference
    from verdiff.runtime import Segmenter
    from verdiff.runtime.workload import one_scan
    from verdiff.runtime.writing import output_files, write_result

    # A name that is wrong is told before a scan is read.
    resolve_model(options.model)
    begun = perf_counter()
    if scan.name in ("", ".."):
        # The files beside it take the folder's own name.
        scan = scan.resolve()
    volume = read_volume(scan, orientation=options.orientation, time_point=options.time_point)
    reading = perf_counter() - begun
    objects = _dicom_files(dicom or DicomOptions(), uncertainty=uncertainty)
    if output is None and objects is not None and objects.folder is not None:
        require_folder(objects.folder)
        output = objects.folder
    film = volume.modality in FILM_MODALITIES
    slices = len(volume.array)
    files = output_files(scan, output, film=film, slices=slices, uncertainty=uncertainty, preview=preview)
    if objects is not None:
        from verdiff.interop.dicom import check_dicom

        check_dicom(objects, volume, files.mask.parent)
    outputs = None
    if anatomy is not None and anatomy.wanted:
        from verdiff.anatomy import anatomy_files, check_anatomy

        outputs = anatomy_files(files.mask, instances=anatomy.instances, statistics=anatomy.stats, mesh=anatomy.mesh)
    plan = files.plan(
        {"scan": scan, "reference": reference, "model": model_file(options.model)},
        others={**(outputs.taken if outputs is not None else {}), **(objects.named if objects is not None else {})},
        overwrite=overwrite,
    )
    truth = None if reference is None else read_labels(reference, orientation=options.orientation)
    if truth is not None:
        refuse_other_frame_of_reference((str(scan), volume.identity), (str(reference), truth.identity))
    if truth is not None and not truth.geometry.matches(volume.geometry, tolerance_mm=0.01):
        raise InputError(
            f"the reference {reference} is not on the scan's grid",
            f"{' x '.join(map(str, volume.geometry.size))} voxels at the scan's position",
            "resample the reference onto the scan, or leave --reference out",
        )
    if anatomy is not None and anatomy.wanted:
        from verdiff.anatomy.libraries import require_libraries

        require_libraries()
    begun = perf_counter()
    work = one_scan(volume, steps=options.steps, samples=options.samples, prior_only=options.prior_only)
    options = replace(options, work=work, progress=_progress if _watched() else None)
    segmenter = Segmenter.load(**part_of(options, LoadOptions))
    loading = perf_counter() - begun
    margins: tuple[Margin, ...] = ()
    label_ids = {label.name: label.id for label in segmenter.manifest.labels}
    if outputs is not None and anatomy is not None:
        check_anatomy(outputs, label_ids, lowest=anatomy.lowest, film=film)
        if anatomy.mesh:
            from verdiff.runtime.margins import margins_of

            margins = margins_of(
                segmenter.manifest.margins, probability=anatomy.margin_probability, share=anatomy.margin_share
            )
    result = segmenter.segment(volume, **part_of(options, CallOptions))
    result.timings.update(read=reading, load=loading)
    result.provenance["command"] = repeating_command(scan, options)
    spine = None
    if outputs is not None and anatomy is not None:
        from verdiff.anatomy import find_vertebrae, write_anatomy

        begun = perf_counter()
        spine = find_vertebrae(
            result.labels, result.geometry, label_ids, lowest=anatomy.lowest, uncertainty=result.uncertainty
        )
        result.timings["anatomy"] = perf_counter() - begun
    no_go = None
    if margins:
        from verdiff.runtime.margins import no_go_surfaces

        begun = perf_counter()
        no_go = no_go_surfaces(result, segmenter.manifest.margins, margins)
        result.timings["margins"] = perf_counter() - begun
        result.provenance["margins"] = no_go.to_dict()
    with plan.staged() as staged:
        if spine is not None and outputs is not None:
            moved = {} if no_go is None else no_go.surfaces
            write_anatomy(spine, volume, outputs, moved=moved, label_ids=label_ids, staged=staged)
            outputs = outputs.holding(moved)
        others = dict(outputs.named) if outputs is not None else {}
        if objects is not None:
            from verdiff.interop.dicom import mask_of, write_dicom

            wanted = objects.uncertainty is not None
            write_dicom(mask_of(result, volume, uncertainty=wanted), objects, staged=staged)
            others |= objects.named
        write_result(result, volume, files, others, staged=staged, identifiers=identifiers)
    for line in summary(result, files):
        say(line)
    for path in objects.named.values() if objects is not None else ():
        say(f"wrote {path}")
    if spine is not None and outputs is not None:
        for line in spine_lines(spine, outputs):
            say(line)
        if anatomy is not None and anatomy.mesh:
            for line in no_go.lines() if no_go is not None else [NOT_CALIBRATED]:
                say(line)
    if truth is not None:
        for line in dice_lines(result, volume, truth):
            say(line)
    for line in last_lines(result):
        say(line)
    if result.empty:
        return EMPTY_MASK
    return IMPLAUSIBLE if result.implausible else SUCCESS


def _dicom_files(options: DicomOptions, *, uncertainty: bool) -> DicomFiles | None:
    if options.segmentation is None and options.contours is None:
        return None
    from verdiff.interop.dicom import dicom_files

    return dicom_files(options.segmentation, options.contours, uncertainty=uncertainty, kind=options.kind)


def repeating_command(scan: Path, options: InferOptions) -> str:
    """The command line that makes the mask again; of each path its name alone."""
    words = ["verdiff", "infer", scan.name]
    if options.model is not None:
        words += ["--model", Path(options.model).name]
    if options.orientation is not None:
        words += ["--orientation", options.orientation]
    if options.time_point is not None:
        words += ["--time-point", str(options.time_point)]
    if options.trusted_key is not None:
        options = replace(options, trusted_key=Path(options.trusted_key).name)
    return shlex.join([*words, *words_of(options)])


def model_file(model: str | Path | None) -> Path | None:
    """The file of a bundle that was named by its path."""
    return None if model is None or not os.path.exists(model) else Path(model)


def _watched() -> bool:
    """Whether somebody sees the progress."""
    return sys.stderr is not None and sys.stderr.isatty()


def _progress(share: float) -> None:
    end = "\n" if share >= 1 else ""
    # The terminal may be closed meanwhile, which is no reason to lose the mask.
    with suppress(OSError, ValueError):
        sys.stderr.write(f"\rsegmenting {100 * share:3.0f} %{end}")
        sys.stderr.flush()


# Limits of a share or a probability.
_A_SHARE = Bounds(0.0, 1.0, above=True)


@takes_options
def infer(
    scan: Annotated[
        Path, typer.Argument(help="NIfTI, NRRD, MHA, PNG, JPEG or DICOM file, or a folder or zip of one DICOM series.")
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="The mask, or a folder (FOLDER/ is made if it is missing); scan_seg.nii.gz beside the scan.",
        ),
    ] = None,
    overwrite: Overwrite = False,
    model: Annotated[str | None, typer.Option(help="A shipped model's name or a bundle.")] = None,
    *,
    options: InferOptions,
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
        str | None, typer.Option(callback=levels, help="Level of the lowest vertebra in the mask, for example L5.")
    ] = None,
    margin_probability: Annotated[
        float | None,
        typer.Option(callback=within(_A_SHARE), help="With --mesh: what no-go surfaces promise; see docs/margins.md."),
    ] = None,
    margin_share: Annotated[
        float | None,
        typer.Option(
            callback=within(_A_SHARE), help="With --mesh: share of the true surface they hold; 0.95, 0.99 or 1."
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
            help="Of --dicom-seg; few receivers know LABELMAP yet.",
        ),
    ] = SEGMENTATION_TYPES[0],
    rtstruct: Annotated[
        Path | None, typer.Option(metavar="FILE.dcm", help="Write the contours as a DICOM RT structure set too.")
    ] = None,
    identifiers: Annotated[
        bool, typer.Option("--identifiers", help="Put a DICOM scan's study, series and instance UIDs into the report.")
    ] = False,
) -> None:
    """Segment a scan: the mask in the scan's own grid, and a JSON report beside it."""
    if lowest is not None and not (instances or stats or mesh):
        raise unfit(f"--lowest {lowest} names vertebrae", "add --instances, --stats or --mesh, or leave it out")
    if (margin_probability is not None or margin_share is not None) and not mesh:
        raise unfit("--margin-probability and --margin-share are of surfaces", "add --mesh, or leave them out")
    code = run(
        scan,
        output,
        replace(options, model=model, orientation=orientation, time_point=time_point),
        uncertainty=uncertainty,
        preview=preview,
        reference=reference,
        anatomy=AnatomyOptions(instances, stats, mesh, lowest, margin_probability, margin_share),
        dicom=DicomOptions(dicom_seg, seg_type, rtstruct),
        overwrite=overwrite,
        identifiers=identifiers,
        say=say,
    )
    raise typer.Exit(code)
