"""What a finished run says of the cases put aside: its masks, kept, and their scores.

The last averaged weights are scored, whichever weights a validation liked best: the patients who are scored choose
none.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from studies.training.folder import PREDICTIONS, QueueEntry, sittings_of
from verdiff.diffusion.fusion import background_and_labels
from verdiff.errors import DataError
from verdiff.evaluate.scoring import Measures, ScoredCase, score_cases
from verdiff.evaluate.stored import STORED, to_json
from verdiff.evaluate.tables import Results
from verdiff.files import atomic_path
from verdiff.train.building import build_network
from verdiff.train.checkpoint import Checkpoint
from verdiff.train.config import RunConfig
from verdiff.train.data.cases import IGNORE, CaseSlices, Dataset
from verdiff.train.networks import SegmentationModel
from verdiff.train.validate import labels_of_case, sample_case
from verdiff.train.validate3d import probabilities_by_slice


def score_run(
    entry: QueueEntry,
    dataset: Dataset,
    checkpoint: Checkpoint,
    names: Sequence[str],
    *,
    trained: Path | None = None,
    until: float = math.inf,
    say: Callable[[str], None] = print,
) -> None:
    """Predict the cases that have no mask yet and, when all have one, write ``scores.json``.

    Args:
        entry: The training.
        dataset: Data set with the cases.
        checkpoint: The finished run's.
        names: Names of the cases to score.
        trained: Folder of the run that trained the network; None: the entry's own.
        until: Time to stop between two cases, as :func:`time.monotonic` has it.
        say: Takes a line of news.

    Raises:
        DataError: The network may have been trained on a case.
        OutputError: A mask or the scores cannot be written.
    """
    seen = sorted(set(names) - set(checkpoint.facts.validation_cases))
    if seen:
        raise DataError(
            f"{entry.run.name} did not put aside {', '.join(seen)}",
            "a network that was trained on the other side of the table's fold",
            "remove its folder: the same command trains it anew",
        )
    cases = {case.name: case for case in dataset.cases}
    folder = entry.run / PREDICTIONS
    folder.mkdir(exist_ok=True)
    net: SegmentationModel | None = None
    for name in names:
        if (folder / f"{name}.npz").is_file():
            continue
        if time.monotonic() >= until:
            return
        net = net or _network(checkpoint)
        _write_prediction(net, checkpoint.config, cases[name], dataset.label_ids, folder / f"{name}.npz")
    say(f"{entry.run.name}: {len(names)} cases predicted")
    write_scores(entry.run, dataset, names, facts(entry, checkpoint, trained or entry.run))


def write_scores(run: Path, dataset: Dataset, names: Sequence[str], training: Mapping[str, Any]) -> None:
    """Score the masks in a run's ``predictions`` and write its ``scores.json``.

    Args:
        run: Folder of the run.
        dataset: Data set with the cases.
        names: Names of the cases.
        training: What is said of the training beside its scores.

    Raises:
        OutputError: It cannot be written.
    """
    cases = {case.name: case for case in dataset.cases}
    # A further data set of a joined line may have structures that none of these cases labels.
    labels = {
        label: number
        for k, (label, number) in enumerate(zip(dataset.labels, dataset.label_ids, strict=True))
        if any(k not in cases[name].unknown for name in names)
    }
    results = score_cases(
        (_read_prediction(run / PREDICTIONS / f"{name}.npz", cases[name], dataset.label_ids) for name in names),
        labels,
        Measures(ignore=_ignored_id(dataset.label_ids)),
    )
    unknown = {name: [dataset.labels[k] for k in cases[name].unknown if dataset.labels[k] in labels] for name in names}
    results = known(results, unknown)
    with atomic_path(run / STORED) as temporary:
        temporary.write_text(to_json(results, labels=labels, training=training), "utf-8")


def facts(entry: QueueEntry, checkpoint: Checkpoint, trained: Path) -> dict[str, Any]:
    """What is said of a training beside its scores.

    Args:
        entry: The line.
        checkpoint: Its network, at the end of its training.
        trained: Folder of the run that trained it.
    """
    net = build_network(checkpoint.config, len(checkpoint.facts.labels))
    return {
        "model": entry.model.name,
        "seed": entry.seed,
        "budget_minutes": entry.minutes,
        "minutes": round(checkpoint.minutes, 2),
        "processor_minutes": round(sum(sitting["processor_minutes"] for sitting in sittings_of(trained)), 2),
        "iterations": checkpoint.iteration,
        "parameters": sum(parameter.numel() for parameter in net.parameters()),
        "configuration": entry.model.configuration,
        "set": list(entry.model.settings),
        "network_of": entry.model.network_of,
        "training_cases": len(checkpoint.facts.training_cases),
        "validation_cases": len(checkpoint.facts.validation_cases),
    }


def known(results: Results, unknown: dict[str, list[str]]) -> Results:
    """Results without the scores of structures that a case's data set does not label.

    Args:
        results: All scores.
        unknown: Case -> structures that say nothing there.
    """
    masks = results.masks
    values = {
        case: {
            name: dict.fromkeys(row, math.nan) if name in unknown.get(case, ()) else row for name, row in rows.items()
        }
        for case, rows in masks.values.items()
    }
    return replace(results, masks=replace(masks, values=values))


def _network(checkpoint: Checkpoint) -> SegmentationModel:
    net = build_network(checkpoint.config, len(checkpoint.facts.labels))
    net.load_state_dict(checkpoint.ema)
    return net.to("cuda" if torch.cuda.is_available() else "cpu").eval().requires_grad_(False)


def _write_prediction(
    net: SegmentationModel, config: RunConfig, case: CaseSlices, label_ids: tuple[int, ...], path: Path
) -> None:
    """The mask of a case on the pixels that are scored, with the ids of the data set and the seconds that it took."""
    begun = time.perf_counter()
    if config.dimensions == 3:
        parts: Iterator[NDArray[np.uint8]] = (
            background_and_labels(maps) for _, maps in probabilities_by_slice(net, case, config)
        )
        channels = np.concatenate(list(parts))
    else:
        table = config.sampling.table(config.process.build())
        channels = labels_of_case(sample_case(net, config, case, table)[1], case)
    write_mask(_ids(label_ids)[channels], case, time.perf_counter() - begun, path)


def write_mask(ids: NDArray[np.uint8], case: CaseSlices, seconds: float, path: Path) -> None:
    """Keep a mask: label ids uint8 [slices, rows, columns] on the pixels that are scored, and the seconds it took."""
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, labels=ids, spacing_mm=spacing_of(case), seconds=np.array(seconds))


def _read_prediction(path: Path, case: CaseSlices, label_ids: tuple[int, ...]) -> ScoredCase:
    with np.load(path, allow_pickle=False) as arrays:
        labels, seconds = arrays["labels"], float(arrays["seconds"])
    truth = _truth(case)
    # Structures are compared by their ids; pixels of which nothing is known have a mark that is none of them.
    reference = _ids(label_ids).astype(np.uint16)[np.where(truth == IGNORE, 0, truth)]
    reference[truth == IGNORE] = _ignored_id(label_ids)
    return ScoredCase(case.name, labels, reference, spacing_of(case), about={"seconds": seconds})


def spacing_of(case: CaseSlices) -> tuple[float, float, float]:
    """Spacing (slice, row, column) in mm of the pixels that are scored."""
    rows, cols, between = case.spacing_mm
    mine, prepared = _truth(case).shape[1:], case.labels.shape[1:]
    return between, rows * prepared[0] / mine[0], cols * prepared[1] / mine[1]


def _truth(case: CaseSlices) -> NDArray[np.uint8]:
    truth: NDArray[np.uint8] = case.labels if case.own is None else case.own
    return truth


def _ids(label_ids: tuple[int, ...]) -> NDArray[np.uint8]:
    return np.array([0, *label_ids], dtype=np.uint8)


def _ignored_id(label_ids: tuple[int, ...]) -> int:
    """What marks pixels of which nothing is known in a reference: the id of no structure, which 255 may be."""
    return max(label_ids) + 1
