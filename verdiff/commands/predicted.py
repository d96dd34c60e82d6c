"""What a bundle gives for the cases of a data set, as cases to score."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from verdiff.errors import DataError, VerdiffError
from verdiff.options import CallOptions, InferOptions, LoadOptions
from verdiff.progress import done
from verdiff.rehearsal import is_rehearsal
from verdiff.settings import part_of

if TYPE_CHECKING:
    from verdiff.bundle import Manifest
    from verdiff.evaluate.evaluation import ScoringTask
    from verdiff.evaluate.fold import LabelledScan
    from verdiff.evaluate.scoring import ScoredCase
    from verdiff.runtime import Segmentation, Segmenter
    from verdiff.runtime.writing import OutputFiles


def predicted_cases(
    model: str,
    task: ScoringTask,
    inference: InferOptions,
    keep: Path | None,
    say: Callable[[str], None],
    *,
    overwrite: bool = False,
) -> Iterator[ScoredCase]:
    """Run a bundle on the cases of an nnU-Net raw data set, one in memory at a time.

    The model, the data set and the places are looked at now; the model is loaded with the first case, and in a
    rehearsal at once.

    Args:
        model: A bundle or a shipped model's name.
        task: Its references are the data set's folder.
        inference: How to run it.
        keep: A folder for masks and uncertainty maps, which is made; None keeps none.
        say: Takes a line a case.
        overwrite: Whether files in that folder that are not verdiff's may be replaced.

    Raises:
        OutputError: The folder cannot be made or written, or a place in it is taken by a file that is not verdiff's.
        DataError: The model does not know a structure that is to be scored, or the data set is not usable.
        VerdiffError: A scan cannot be segmented; it is named.
    """
    from verdiff.bundle import Trust, open_bundle, resolve_model
    from verdiff.evaluate.fold import cases_of as labelled_cases
    from verdiff.evaluate.fold import file_ending
    from verdiff.runtime import Segmenter

    trust = Trust(inference.sha256, inference.trusted_key)
    _names_in_both(open_bundle(resolve_model(model), trust=trust).manifest, task.labels)
    cases = task.cases if task.cases is not None else labelled_cases(task.references)
    ending = file_ending(task.references)
    for name in cases if keep is not None else ():
        # Of every case before the first is computed.
        scan_file = task.references / "imagesTr" / f"{name}_0000{ending}"
        _kept(scan_file, keep, film=ending == ".png").plan({"scan": scan_file}, overwrite=overwrite)
    loading = partial(Segmenter.load, **part_of(replace(inference, model=model), LoadOptions))
    if is_rehearsal():
        loading().close()
    return _predicted(loading, list(cases), task, inference, keep, say, overwrite=overwrite)


def _predicted(
    loading: Callable[[], Segmenter],
    cases: list[str],
    task: ScoringTask,
    inference: InferOptions,
    keep: Path | None,
    say: Callable[[str], None],
    *,
    overwrite: bool,
) -> Iterator[ScoredCase]:
    from verdiff.evaluate.fold import further_channels, scans_of

    with loading() as segmenter:
        manifest = segmenter.manifest
        names = _names_in_both(manifest, task.labels)
        if further := further_channels(task.references):
            say(f"of each case channel 0000 alone is taken; left out: {', '.join(further)}")
        scans = scans_of(task.references, cases, modality=manifest.modality, orientation=inference.orientation)
        for scan in scans:
            result = _segmented(segmenter, scan, inference)
            seconds = result.timings["total"]
            say(f"{scan.name}: {seconds:.1f} s")
            if keep is not None:
                _keep(result, scan, keep, overwrite=overwrite)
            yield _case(result, scan, names, manifest, task)


def _segmented(segmenter: Segmenter, scan: LabelledScan, inference: InferOptions) -> Segmentation:
    try:
        return segmenter.segment(scan.volume, **part_of(replace(inference, progress=done), CallOptions))
    except VerdiffError as error:
        raise type(error)(f"case {scan.name}: {error.found}", error.expected, error.remedy) from error


def _case(
    result: Segmentation, scan: LabelledScan, names: Mapping[int, int], manifest: Manifest, task: ScoringTask
) -> ScoredCase:
    """A result as a case to score, under the label ids of the data set."""
    import numpy as np

    from verdiff.evaluate.scoring import ScoredCase

    renumber = np.zeros(256, np.int32)
    for theirs, ours in names.items():
        renumber[theirs] = ours
    about = {
        "model": f"{manifest.model_id} {manifest.version}",
        "outcome": result.outcome,
        "sampling": result.provenance.get("sampling"),
        "seconds": round(result.timings["total"], 4),
    }
    masks, split = (renumber[result.labels], scan.truth), task.split
    grid = scan.volume.geometry
    return ScoredCase(
        scan.name,
        *masks,
        scan.spacing_mm,
        result.uncertainty if task.measures.uncertainty else None,
        result.probabilities,
        None if split is None else (split(masks[0], grid), split(masks[1], grid)),
        about,
        _warnings(result, scan, names, manifest, task),
    )


def _warnings(
    result: Segmentation, scan: LabelledScan, names: Mapping[int, int], manifest: Manifest, task: ScoringTask
) -> tuple[str, ...]:
    notes = []
    unknown = sorted(label.name for label in manifest.labels if label.id not in names)
    if unknown:
        notes.append(f"{manifest.model_id} also finds {', '.join(unknown)}, which were not scored.")
    data = task.references.absolute().name
    if manifest.trained_on(data, (scan.name,)):
        notes.append(
            f"{scan.name}: {manifest.model_id} was trained on {data} and this is none of its validation cases; it may "
            "have learned from it."
        )
    if result.outcome in ("budget", "cancelled"):
        notes.append(f"{scan.name}: stopped by {result.outcome}, before all that was asked for was computed.")
    if "sampling_would_take_ms" in result.provenance.get("computed", {}):
        notes.append(f"{scan.name}: the budget left time for the prior alone.")
    notes += [f"{scan.name}: forced past: {reason}" for reason in result.provenance.get("forced", ())]
    notes += [f"{scan.name}: {note}" for note in scan.volume.notes]
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


def _keep(result: Segmentation, scan: LabelledScan, folder: Path, *, overwrite: bool) -> None:
    from verdiff.runtime.writing import write_result

    source = scan.volume.source or Path(scan.name)
    files = _kept(source, folder, film=scan.volume.film and len(scan.volume.array) == 1)
    with files.plan({"scan": source}, overwrite=overwrite).staged() as staged:
        write_result(result, scan.volume, files, staged=staged)


def _kept(source: Path, folder: Path | None, *, film: bool) -> OutputFiles:
    from verdiff.runtime.writing import output_files

    return output_files(source, f"{folder}/", film=film, uncertainty=True)
