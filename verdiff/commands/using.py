"""Parsing of the commands that use models: infer, evaluate, compare."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from verdiff.choices import ON_EMPTY, SEGMENTATION_TYPES
from verdiff.commands.infer import InferOptions
from verdiff.commands.options import (
    Orientation,
    Overwrite,
    TimePoint,
    evaluations,
    levels,
    metavar,
    metric_names,
    one_of,
    structures,
    takes_options,
    unfit,
    within,
)
from verdiff.commands.options import instances as instances_of
from verdiff.commands.printing import say, show
from verdiff.settings import Bounds

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
    from verdiff.commands import infer as command

    code = command.run(
        scan,
        output,
        replace(options, model=model, orientation=orientation, time_point=time_point),
        uncertainty=uncertainty,
        preview=preview,
        reference=reference,
        anatomy=command.AnatomyOptions(instances, stats, mesh, lowest, margin_probability, margin_share),
        dicom=command.DicomOptions(dicom_seg, seg_type, rtstruct),
        overwrite=overwrite,
        identifiers=identifiers,
        say=say,
    )
    raise typer.Exit(code)


@takes_options
def evaluate(
    predictions: Annotated[str, typer.Argument(help="Folder of masks, one mask, a bundle or a shipped model's name.")],
    references: Annotated[
        Path, typer.Argument(help="Folder of reference masks, one file, or an nnU-Net raw data set.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A folder, or one .csv, .json or .md file.")
    ] = None,
    overwrite: Overwrite = False,
    labels: Annotated[
        str | None,
        typer.Option(
            callback=structures, help="name=id,name=id or a dataset.json; found beside the references by default."
        ),
    ] = None,
    splits: Annotated[Path | None, typer.Option(help="splits_final.json; that of the references' data set.")] = None,
    fold: Annotated[int | None, typer.Option(min=0, help="Score the validation cases of one fold.")] = None,
    cases: Annotated[
        str | None, typer.Option(help="Score these cases alone: NAME,NAME, or a file with one a line.")
    ] = None,
    compare_with: Annotated[
        str | None, typer.Option(help="Another model: its masks, its bundle, or an earlier scores.json.")
    ] = None,
    on_empty: Annotated[
        str,
        typer.Option(
            callback=one_of(*ON_EMPTY),
            metavar=metavar(*ON_EMPTY),
            help="What metrics mean on empty masks, see docs/evaluation.md.",
        ),
    ] = "strict",
    distances: Annotated[bool, typer.Option(help="Score HD95, ASSD and surface Dice too.")] = True,
    instances: Annotated[
        str | None,
        typer.Option(
            callback=instances_of,
            help="vertebrae, ids, components, or ids by group: vertebra=1-25,disc=201-225.",
        ),
    ] = None,
    uncertainty: Annotated[
        bool, typer.Option("--uncertainty", help="Score uncertainty against error, and a bundle's calibration.")
    ] = False,
    plots: Annotated[bool, typer.Option("--plots", help="Draw boxes.png into the output folder.")] = False,
    masks: Annotated[
        Path | None, typer.Option(help="Keep a bundle's masks and uncertainty maps in this folder.")
    ] = None,
    *,
    inference: InferOptions,
    orientation: Orientation = None,
) -> None:
    """Score masks, or run a model on a data set and score it: per case and structure, in millimetres."""
    if cases is not None and (splits is not None or fold is not None):
        raise unfit("--cases and a fold both say what is scored", "leave one of them out")
    from verdiff.commands import evaluate as command

    if masks is not None and not command.is_model(predictions):
        raise unfit("--masks keeps what a bundle gives", "name a bundle or a model to run, or leave it out")
    options = command.EvaluateOptions(
        labels=labels,
        splits=splits,
        fold=fold,
        cases=cases,
        compare_with=compare_with,
        policy=on_empty,
        distances=distances,
        instances=instances,
        uncertainty=uncertainty,
        plots=plots,
        masks=masks,
        overwrite=overwrite,
    )
    inference = replace(inference, orientation=orientation)
    command.run(predictions, references, output, options, inference, say=show if output is None else say)


def compare(
    sources: Annotated[
        list[str],
        typer.Argument(
            callback=evaluations,
            help="MODEL=PATH or MODEL/SET=PATH of a scores.json or its folder; the first against the others.",
        ),
    ],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A folder.")] = None,
    overwrite: Overwrite = False,
    metrics: Annotated[
        str, typer.Option(callback=metric_names, help="Columns of the table, joined by commas.")
    ] = "dice,iou",
    plots: Annotated[bool, typer.Option("--plots", help="Draw boxes.png into the output folder.")] = False,
) -> None:
    """Set earlier evaluations side by side: the papers' table, and whether one model is better, case by case."""
    from verdiff.evaluate import several

    result = several.run(sources, output, metrics=metrics.split(","), plots=plots, overwrite=overwrite)
    for line in result.summary:
        say(line)
    for path in result.written:
        say(f"wrote {path}")
    if not result.written:
        say("every metric, interval and remark: give -o FOLDER to write them")
