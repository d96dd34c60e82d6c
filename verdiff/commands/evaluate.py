"""``verdiff evaluate``: score masks, or run a bundle on a data set and score what it gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from verdiff.commands.infer import FILM_MODALITIES, InferOptions
from verdiff.errors import DataError, OutputError, VerdiffError

if TYPE_CHECKING:
    from verdiff.bundle import Manifest
    from verdiff.evaluate.command import Task
    from verdiff.evaluate.fold import LabelledScan
    from verdiff.evaluate.report import Evaluation
    from verdiff.evaluate.scoring import Case
    from verdiff.runtime import Segmentation, Segmenter

SPLITS = "splits_final.json"


@dataclass(frozen=True)
class EvaluateOptions:
    """The options of ``verdiff evaluate``, as :func:`verdiff.evaluate.command.run` takes them.

    ``splits`` is by default the ``splits_final.json`` of the references' data set. With neither ``splits`` nor ``fold``
    all cases are scored, or for a bundle on the data set it was trained on its own validation cases. ``masks`` keeps a
    bundle's masks and uncertainty maps in a folder.
    """

    labels: str | None = None
    splits: Path | None = None
    fold: int | None = None
    compare_with: str | None = None
    policy: str = "strict"
    distances: bool = True
    instances: str | None = None
    uncertainty: bool = False
    plots: bool = False
    masks: Path | None = None


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
    from verdiff.evaluate import command

    model = is_model(predictions)
    if options.masks is not None and not model:
        raise DataError("masks to keep, of masks that are there already", "a bundle to run", "leave --masks out")
    made_by = {name: value for name, value in asdict(inference).items() if value is not None and name != "model"}
    evaluation = command.run(
        predictions,
        references,
        options.labels,
        output,
        cases=_cases(predictions, references, options),
        compare_with=options.compare_with,
        policy=options.policy,
        distances=options.distances,
        instances=options.instances,
        uncertainty=options.uncertainty,
        plots=options.plots,
        cases_of=partial(cases_of, inference=inference, keep={predictions: options.masks}, say=say),
        about={"inference": made_by} if model else None,
    )
    say(evaluation.markdown)
    for path in evaluation.written:
        say(f"wrote {path}")
    return evaluation


def is_model(source: str) -> bool:
    """Whether predictions are a bundle or a shipped model's name, and not masks; a name wins over a folder."""
    from verdiff.bundle.layout import MANIFEST
    from verdiff.bundle.names import SUFFIX, shipped_models

    path = Path(source)
    return source in shipped_models() or path.suffix == SUFFIX or (path / MANIFEST).is_file()


def cases_of(
    source: str | Path,
    task: Task,
    *,
    inference: InferOptions,
    keep: Mapping[str, Path | None],
    say: Callable[[str], None],
) -> Iterator[Case]:
    """The cases of masks, or of a bundle that is run on them now; see :data:`verdiff.evaluate.command.CasesOf`.

    Args:
        source: Masks, a bundle, or a shipped model's name.
        task: What they are scored against.
        inference: How to run a bundle.
        keep: Source -> the folder where its masks and uncertainty maps are kept.
        say: Takes a line a case.

    Raises:
        VerdiffError: Whatever was wrong; a scan that is refused is named.
    """
    from verdiff.evaluate.command import cases_of_masks

    if is_model(str(source)):
        yield from predicted_cases(str(source), task, inference, keep.get(str(source)), say)
    else:
        yield from cases_of_masks(source, task)


def predicted_cases(
    model: str, task: Task, inference: InferOptions, keep: Path | None, say: Callable[[str], None]
) -> Iterator[Case]:
    """Run a bundle on the cases of an nnU-Net raw data set, one in memory at a time.

    Args:
        model: A bundle or a shipped model's name.
        task: Its references are the data set's folder.
        inference: How to run it.
        keep: Where masks and uncertainty maps are written; None keeps none.
        say: Takes a line a case.

    Raises:
        DataError: The model does not know a structure that is to be scored, or the data set is not usable.
        VerdiffError: A scan cannot be segmented; it is named.
    """
    from verdiff.evaluate.fold import cases_of as labelled_cases
    from verdiff.evaluate.fold import scans_of
    from verdiff.runtime import Segmenter

    if keep is not None and not keep.is_dir():
        raise OutputError(f"there is no folder {keep}", "a folder for the masks", "create it first")
    with Segmenter.load(
        model,
        device=inference.device,
        backend=inference.backend,
        precision=inference.precision,
        threads=inference.threads,
    ) as segmenter:
        manifest = segmenter.manifest
        names = _names_in_both(manifest, task.labels)
        cases = task.cases if task.cases is not None else labelled_cases(task.references)
        for scan in scans_of(task.references, cases, modality=manifest.modality):
            result = _segmented(segmenter, scan, inference)
            seconds = result.timings["total"]
            say(f"{scan.name}: {seconds:.1f} s")
            if keep is not None:
                _keep(result, scan, keep)
            yield _case(result, scan, names, manifest, task)


def _segmented(segmenter: Segmenter, scan: LabelledScan, inference: InferOptions) -> Segmentation:
    try:
        return segmenter.segment(
            scan.volume,
            steps=inference.steps,
            samples=inference.samples,
            seed=inference.seed,
            sampler=inference.sampler,
            fusion=inference.fusion,
            policy=inference.policy,
            prior_only=inference.prior_only,
            force=inference.force,
            budget_ms=inference.budget_ms,
        )
    except VerdiffError as error:
        raise type(error)(f"case {scan.name}: {error.found}", error.expected, error.remedy) from error


def _case(result: Segmentation, scan: LabelledScan, names: Mapping[int, int], manifest: Manifest, task: Task) -> Case:
    """A result as a case to score, under the label ids of the data set."""
    import numpy as np

    from verdiff.evaluate.scoring import Case

    renumber = np.zeros(256, np.int32)
    for theirs, ours in names.items():
        renumber[theirs] = ours
    about = {
        "model": f"{manifest.model_id} {manifest.version}",
        "outcome": result.outcome,
        "sampling": result.provenance.get("sampling"),
        "seconds": round(result.timings["total"], 4),
    }
    return Case(
        scan.name,
        renumber[result.labels],
        scan.truth,
        scan.spacing_mm,
        result.uncertainty if task.measures.uncertainty else None,
        result.probabilities,
        about,
        _warnings(result, scan, names, manifest, task),
    )


def _warnings(
    result: Segmentation, scan: LabelledScan, names: Mapping[int, int], manifest: Manifest, task: Task
) -> tuple[str, ...]:
    notes = []
    unknown = sorted(label.name for label in manifest.labels if label.id not in names)
    if unknown:
        notes.append(f"{manifest.model_id} also finds {', '.join(unknown)}, which were not scored.")
    aside = manifest.training.get("validation_cases", ())
    data = task.references.absolute().name
    if manifest.training.get("data_set") == data and scan.name not in aside:
        notes.append(
            f"{scan.name}: {manifest.model_id} was trained on {data} and this is none of its validation cases; it may "
            "have learned from it."
        )
    if result.outcome in ("budget", "cancelled"):
        notes.append(f"{scan.name}: stopped by {result.outcome}, before all that was asked for was computed.")
    notes += [f"{scan.name}: forced past: {reason}" for reason in result.provenance.get("forced", ())]
    return tuple(notes)


def _names_in_both(manifest: Manifest, labels: Mapping[str, int]) -> dict[int, int]:
    """The model's id -> the data set's id of each structure that is scored."""
    theirs = {label.name: label.id for label in manifest.labels}
    lacking = [name for name in labels if name not in theirs]
    if lacking:
        shared = ",".join(f"{name}={number}" for name, number in labels.items() if name in theirs)
        raise DataError(
            f"{manifest.model_id} finds {', '.join(theirs)}, and not {', '.join(lacking)}",
            "a model that knows every structure to be scored",
            f"score the others alone: --labels {shared}" if shared else "choose a model of these structures",
        )
    return {theirs[name]: number for name, number in labels.items()}


def _keep(result: Segmentation, scan: LabelledScan, folder: Path) -> None:
    from verdiff.runtime.writing import output_files, write_result

    source = scan.volume.source or Path(scan.name)
    film = scan.volume.modality in FILM_MODALITIES
    write_result(result, scan.volume, output_files(source, folder, film=film, uncertainty=True))


def _cases(predictions: str, references: Path, options: EvaluateOptions) -> list[str] | None:
    """The cases to score: of a fold, or for a bundle those that its training put aside; None for all there are."""
    from verdiff.evaluate.cases import validation_cases

    if options.splits is not None or options.fold is not None:
        beside = [folder / SPLITS for folder in (references, references.parent)]
        splits = options.splits or next((path for path in beside if path.is_file()), beside[0])
        return validation_cases(splits, options.fold or 0)
    if not is_model(predictions):
        return None
    from verdiff.bundle import open_bundle, resolve_model

    training = open_bundle(resolve_model(predictions)).manifest.training
    aside = training.get("validation_cases", ())
    same = training.get("data_set") == references.absolute().name
    return [str(name) for name in aside] if same and aside else None
