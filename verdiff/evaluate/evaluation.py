"""The command ``verdiff evaluate`` without its parsing: score predictions, compare two models, write the tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verdiff.errors import DataError
from verdiff.evaluate.cases import Pair, load_pair, load_uncertainty, pair_cases, validation_cases
from verdiff.evaluate.instances import InstanceGroups, instance_groups
from verdiff.evaluate.labels import LabelSource, ignored_label, label_table
from verdiff.evaluate.report import Evaluation, Targets, write_report
from verdiff.evaluate.scoring import Measures, OnCase, ScoredCase, score_cases
from verdiff.evaluate.stored import STORED, read_results
from verdiff.imaging.volume import Geometry
from verdiff.progress import tracked
from verdiff.rehearsal import rehearse

Labels = NDArray[np.integer[Any]]
Split = Callable[[Labels, Geometry], Labels]


@dataclass(frozen=True)
class ScoringTask:
    """What predictions are scored against.

    Attributes:
        references: Folder of reference masks (or one file), or an nnU-Net raw data set.
        labels: Name -> id of each structure in the references.
        cases: The cases to score; None scores all and wants predictions and references to be of the same ones.
        measures: What to score.
        split: Makes instances of label ids [z, y, x] on a grid; None where the ids are the instances.
        orientation: What to take where a file leaves its orientation open, as :func:`verdiff.imaging.read_volume`.
    """

    references: Path
    labels: Mapping[str, int]
    cases: tuple[str, ...] | None
    measures: Measures
    split: Split | None = None
    orientation: str | None = None


CasesOf = Callable[[str | Path, ScoringTask], Iterable[ScoredCase]]


def cases_of_masks(predictions: str | Path, task: ScoringTask) -> Iterator[ScoredCase]:
    """The cases of two folders of masks (or of two files), which are paired now and read one by one.

    Where uncertainty is scored, ``CASE_uncertainty`` lies beside ``CASE_seg``, as ``verdiff infer`` writes it.

    Raises:
        DataError: A mask or an uncertainty map is missing, or grids differ.
        InputError: A file cannot be read, or holds anything but label ids.
    """
    references = task.references / "labelsTr"
    references = references if references.is_dir() else task.references
    return _read_pairs(pair_cases(Path(predictions), references, task.cases), task)


def _read_pairs(pairs: Sequence[Pair], task: ScoringTask) -> Iterator[ScoredCase]:
    for pair in tracked(pairs):
        loaded = load_pair(pair, task.orientation)
        uncertainty = None
        if task.measures.uncertainty:
            uncertainty = load_uncertainty(pair, loaded.geometry, task.orientation)
        masks, split = (loaded.prediction, loaded.reference), task.split
        instances = None if split is None else (split(masks[0], loaded.geometry), split(masks[1], loaded.geometry))
        yield ScoredCase(pair.case, *masks, loaded.spacing_mm, uncertainty, instances=instances)


def run(
    predictions: str | Path,
    references: str | Path,
    labels: LabelSource = None,
    output: str | Path | None = None,
    *,
    cases: Iterable[str] | None = None,
    splits: str | Path | None = None,
    fold: int = 0,
    compare_with: str | Path | None = None,
    policy: str = "strict",
    distances: bool = True,
    instances: str | InstanceGroups | None = None,
    split: Split | None = None,
    uncertainty: bool = False,
    plots: bool = False,
    page: Path | None = None,
    on_case: OnCase | None = None,
    cases_of: CasesOf = cases_of_masks,
    about: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    orientation: str | None = None,
) -> Evaluation:
    """Score predictions against references and write the tables.

    Args:
        predictions: Folder of predicted masks, or one file; or what ``cases_of`` takes.
        references: Folder of reference masks, one file, or an nnU-Net raw data set.
        labels: See :func:`verdiff.evaluate.labels.label_table`.
        output: A folder for ``scores.csv``, ``scores.json`` and ``scores.md``, and a CSV of each further table; or one
            file ending so; None: no file.
        cases: The cases to score.
        splits: A ``splits_final.json``, whose fold names the cases to score instead.
        fold: The fold of ``splits``, from 0.
        compare_with: Another model for the same cases: its masks, or the ``scores.json`` of an earlier evaluation (or
            the folder that holds it); each difference is ``predictions`` minus these.
        policy: A key of :data:`verdiff.evaluate.empty.POLICIES`.
        distances: False leaves out HD95, ASSD and surface Dice.
        instances: See :func:`verdiff.evaluate.instances.instance_groups`; None scores no instances.
        split: Makes instances of label ids on a grid; None where the ids in the masks are the instances.
        uncertainty: Score uncertainty against error, and calibration where there are probabilities.
        plots: Draw ``boxes.png`` into the output folder.
        page: An HTML page to look at; in the output's folder, above it or below it.
        on_case: Called after each case, for a progress bar.
        cases_of: Reads or makes the predictions; by default from folders of masks.
        about: Further entries of ``scores.json``.
        overwrite: Whether files that are not verdiff's may be replaced.
        orientation: What to take where a file leaves its orientation open, as :func:`verdiff.imaging.read_volume`.

    Raises:
        DataError: A mask is missing, grids differ, the policy is unknown, both ``cases`` and ``splits`` are given, or
            the output has no room for all tables.
        InputError: A file cannot be read.
        OutputError: The tables cannot be written, or a place is taken by a file that is not verdiff's.
        BackendError: The extra ``[evaluate]`` is needed and not installed.
    """
    if splits is not None:
        if cases is not None:
            raise DataError("both a list of cases and a fold", "one of the two", "leave one of them out")
        cases = validation_cases(Path(splits), fold)
    ids = label_table(labels, Path(references))
    groups = instance_groups(instances, ids) if isinstance(instances, str) else instances
    measures = Measures(policy, distances, groups, uncertainty, ignored_label(Path(references)))
    measures.check()
    extra = [name for name, wanted in (("instances", groups), ("uncertainty", uncertainty)) if wanted]
    targets = Targets.of(
        output,
        tables=extra,
        plots=plots,
        page=page,
        inputs={
            "predictions": Path(predictions),
            "reference": Path(references),
            "label table": Path(labels) if isinstance(labels, str | Path) else None,
            "splits": None if splits is None else Path(splits),
            "other model": None if compare_with is None else _stored_file(compare_with),
        },
        overwrite=overwrite,
    )
    task = ScoringTask(Path(references), ids, None if cases is None else tuple(cases), measures, split, orientation)

    # Read before the work begins, so that a file that is no evaluation is known at once.
    rival = read_results(Path(compare_with)) if compare_with is not None and is_stored(compare_with) else None
    others = [compare_with] if compare_with is not None and rival is None else []
    # Masks are paired and models opened now: what one of them lacks is known before the other is scored.
    sources = [cases_of(each, task) for each in (predictions, *others)]
    known = "all that both have" if task.cases is None else f"{len(task.cases)}"
    rehearse(
        {"predictions": predictions, "references": references, "the other model": compare_with},
        [f"score {', '.join(ids)}; cases: {known}"],
        targets.files.values(),
    )
    results, *more = [score_cases(each, ids, measures, on_case) for each in tracked(sources)]
    rival = more[0] if more else rival
    other = None if compare_with is None or rival is None else (_name(compare_with), rival)
    return write_report(
        (_name(predictions), results),
        other,
        targets,
        about={"labels": ids, **(about or {})},
    )


def is_stored(source: str | Path) -> bool:
    """Whether a source is an earlier evaluation: its ``scores.json``, or a folder that holds one."""
    path = Path(source)
    return path.suffix == ".json" or (path / STORED).is_file()


def _stored_file(source: str | Path) -> Path:
    """The ``scores.json`` of an earlier evaluation; of anything else its path."""
    path = Path(source)
    return path / STORED if (path / STORED).is_file() else path


def _name(source: str | Path) -> str:
    """What a set of predictions is called in a table: its folder's name, never its path."""
    path = Path(source)
    return path.absolute().parent.name if path.name == STORED else path.absolute().name
