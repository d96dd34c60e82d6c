"""``verdiff evaluate``: score masks, or run a bundle on a data set and score what it gives."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from verdiff.choices import ON_EMPTY
from verdiff.commands.options import (
    Orientation,
    Overwrite,
    a_page,
    metavar,
    one_of,
    structures,
    takes_options,
    unfit,
)
from verdiff.commands.options import instances as instances_of
from verdiff.commands.printing import say, show
from verdiff.commands.progress import busy
from verdiff.errors import DataError
from verdiff.options import InferOptions, TrustOptions
from verdiff.settings import plain

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from verdiff.evaluate.evaluation import ScoringTask
    from verdiff.evaluate.instances import InstanceGroups
    from verdiff.evaluate.report import Evaluation
    from verdiff.evaluate.scoring import ScoredCase
    from verdiff.imaging import Geometry

SPLITS = "splits_final.json"
VERTEBRAE = "vertebrae"
# Of the options of an inference, what does not say how the masks were made.
_NOT_HOW = [each.name for each in fields(TrustOptions)]


@dataclass(frozen=True)
class EvaluateOptions:
    """The options of ``verdiff evaluate``, as :func:`verdiff.evaluate.evaluation.run` takes them.

    ``splits`` is by default the ``splits_final.json`` of the references' data set. With neither ``splits`` nor ``fold``
    all cases are scored, or for a bundle on the data set it was trained on its own validation cases. ``cases`` names
    them instead, joined by commas, or a file with one a line. ``masks`` keeps a bundle's masks and uncertainty maps in
    a folder. ``overwrite`` replaces files that verdiff did not write. ``instances`` is as
    :func:`verdiff.evaluate.instances.instance_groups` has it, or ``"vertebrae"``: :mod:`verdiff.anatomy` splits both
    masks into vertebrae and discs first.
    """

    labels: str | None = None
    splits: Path | None = None
    fold: int | None = None
    cases: str | None = None
    compare_with: str | None = None
    policy: str = "strict"
    distances: bool = True
    instances: str | None = None
    uncertainty: bool = False
    plots: bool = False
    page: Path | None = None
    masks: Path | None = None
    overwrite: bool = False


def run(
    predictions: str,
    references: Path,
    output: Path | None,
    options: EvaluateOptions,
    inference: InferOptions,
    *,
    say: Callable[[str], None],
) -> Evaluation:
    """Score ``predictions`` and say what was found.

    Args:
        predictions: A folder of masks or one mask; or a bundle or a shipped model's name, which is then run.
        references: A folder of reference masks or one; for a bundle an nnU-Net raw data set.
        output: A folder, or one ``.csv``, ``.json`` or ``.md`` file.
        options: What to score.
        inference: How to run a bundle; its ``model`` is not looked at.
        say: Takes each line.

    Raises:
        VerdiffError: Whatever was wrong; a scan that is refused is named.
    """
    from verdiff.evaluate import evaluation as scored
    from verdiff.evaluate.labels import label_table

    model = is_model(predictions)
    if options.masks is not None and not model:
        raise DataError("masks to keep, of masks that are there already", "a bundle to run", "leave --masks out")
    if not model and (inference.sha256 is not None or inference.trusted_key is not None):
        raise DataError("masks, which no hash or key can pin here", "a bundle to run", "leave the option out")
    made_by = {**plain(inference), "orientation": inference.orientation}
    made_by = {name: value for name, value in made_by.items() if value is not None and name not in _NOT_HOW}
    instances: str | InstanceGroups | None = options.instances
    labels, split = label_table(options.labels, references), None
    if options.instances == VERTEBRAE:
        instances, split = vertebra_groups(labels), partial(split_vertebrae, labels)
    evaluation = scored.run(
        predictions,
        references,
        labels,
        output,
        cases=_cases(predictions, references, options),
        compare_with=options.compare_with,
        policy=options.policy,
        distances=options.distances,
        instances=instances,
        split=split,
        uncertainty=options.uncertainty,
        plots=options.plots,
        page=options.page,
        cases_of=partial(
            cases_of, inference=inference, keep={predictions: options.masks}, overwrite=options.overwrite, say=say
        ),
        about={"inference": made_by} if model else None,
        overwrite=options.overwrite,
        orientation=inference.orientation,
    )
    for line in evaluation.summary:
        say(line)
    for path in evaluation.written:
        say(f"wrote {path}")
    if not evaluation.written:
        say("every case, every metric and all remarks: give -o FOLDER to write them")
    return evaluation


def vertebra_groups(labels: Mapping[str, int]) -> InstanceGroups:
    """Vertebrae and, where there are any, discs, under the numbers that :func:`split_vertebrae` gives.

    Raises:
        InputError: None of the structures is a vertebra.
    """
    from verdiff.anatomy import roles_of
    from verdiff.anatomy.spine import DISCS_FROM, PARTIAL_FROM
    from verdiff.evaluate.instances import InstanceGroups

    groups = {"vertebra": frozenset(range(1, PARTIAL_FROM))}
    if roles_of(labels).discs:
        groups["disc"] = frozenset(range(DISCS_FROM + 1, 256))
    return InstanceGroups(groups)


def split_vertebrae(
    labels: Mapping[str, int], mask: NDArray[np.integer[Any]], geometry: Geometry
) -> NDArray[np.integer[Any]]:
    """The vertebrae of a mask as :mod:`verdiff.anatomy` finds them, each with its discs: 1, 2, ... from the lowest up.

    A vertebra that the scan or the mask cuts off has the same number as a whole one.

    Args:
        labels: Name -> id of the structures.
        mask: Label ids [z, y, x].
        geometry: Their grid.

    Raises:
        InputError: None of the structures is a vertebra.
        BackendError: The extra ``[anatomy]`` is not installed.
    """
    from verdiff.anatomy import find_vertebrae
    from verdiff.anatomy.spine import CANAL_ID, DISCS_FROM, PARTIAL_FROM

    found = find_vertebrae(mask, geometry, labels).instances.copy()
    found[found == CANAL_ID] = 0
    found[(found > PARTIAL_FROM) & (found < DISCS_FROM)] -= PARTIAL_FROM
    return found


def is_model(source: str) -> bool:
    """Whether predictions are a bundle or a shipped model's name, and not masks; a name wins over a folder."""
    from verdiff.bundle.layout import MANIFEST
    from verdiff.bundle.names import SUFFIX, shipped_models

    path = Path(source)
    return source in shipped_models() or path.suffix == SUFFIX or os.path.isfile(path / MANIFEST)


def cases_of(
    source: str | Path,
    task: ScoringTask,
    *,
    inference: InferOptions,
    keep: Mapping[str, Path | None],
    say: Callable[[str], None],
    overwrite: bool = False,
) -> Iterator[ScoredCase]:
    """The cases of masks, or of a bundle that is run on them now; see :data:`verdiff.evaluate.evaluation.CasesOf`.

    Args:
        source: Masks, a bundle, or a shipped model's name.
        task: What they are scored against.
        inference: How to run a bundle.
        keep: The model that is scored -> the folder where its masks and uncertainty maps are kept.
        say: Takes a line a case.
        overwrite: Whether files there that are not verdiff's may be replaced.

    Raises:
        VerdiffError: Whatever was wrong; a scan that is refused is named.
    """
    from verdiff.commands.predicted import predicted_cases
    from verdiff.evaluate.evaluation import cases_of_masks

    if is_model(str(source)):
        if str(source) not in keep:
            # The model it is compared with is another bundle, so it has another manifest.
            inference = replace(inference, sha256=None)
        return predicted_cases(str(source), task, inference, keep.get(str(source)), say, overwrite=overwrite)
    return cases_of_masks(source, task)


def _cases(predictions: str, references: Path, options: EvaluateOptions) -> list[str] | None:
    """The cases to score: those named, of a fold, or that a bundle's training put aside; None for all there are."""
    from verdiff.evaluate.cases import named_cases, validation_cases

    if options.cases is not None:
        if options.splits is not None or options.fold is not None:
            raise DataError("cases by name and a fold too", "one of the two", "leave one of them out")
        named = named_cases(options.cases)
        if is_model(predictions):
            _require_there(named, references)
        return named
    if options.splits is not None or options.fold is not None:
        beside = [folder / SPLITS for folder in (references, references.parent)]
        splits = options.splits or next((path for path in beside if path.is_file()), beside[0])
        return validation_cases(splits, options.fold or 0)
    if not is_model(predictions):
        return None
    from verdiff.bundle import open_bundle, resolve_model

    aside = open_bundle(resolve_model(predictions)).manifest.put_aside(references.absolute().name)
    return list(aside) if aside else None


def _require_there(cases: list[str], data: Path) -> None:
    """Refuse names that a data set does not have, all of them at once and before a model is loaded."""
    from verdiff.evaluate.fold import cases_of as labelled_cases

    there = labelled_cases(data)
    unknown = [case for case in cases if case not in there]
    if unknown:
        some = ", ".join(there[:5]) + (", ..." if len(there) > 5 else "")
        raise DataError(
            f"no case {', '.join(unknown)} in {data.name}", f"some of its {len(there)} cases ({some})", "check --cases"
        )


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
    splits: Annotated[
        Path | None, typer.Option(help="A splits_final.json; by default that of the references' data set.")
    ] = None,
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
    report: Annotated[
        Path | None,
        typer.Option(
            callback=a_page,
            metavar="FILE.html",
            help="Write a page to look at too: warnings, figures, box plots, the worst cases first.",
        ),
    ] = None,
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
    if masks is not None and not is_model(predictions):
        raise unfit("--masks keeps what a bundle gives", "name a bundle or a model to run, or leave it out")
    options = EvaluateOptions(
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
        page=report,
        masks=masks,
        overwrite=overwrite,
    )
    inference = replace(inference, orientation=orientation)
    with busy("evaluating"):
        run(predictions, references, output, options, inference, say=show if output is None else say)
