"""A training of the package ``nnunetv2`` in a table's queue, by which ``nnunet-like`` is judged.

nnU-Net plans, preprocesses, trains and predicts. The slices' direction, the budget, the fold and the cases are the
table's, and so is the code that scores: nnU-Net's class probabilities are brought to the pixels that all models of the
table are scored on, and the most probable class of each is the mask.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from studies.library.nnunet_planner import trained_model
from studies.library.nnunet_trainer import SPENT
from studies.training.folder import PREDICTIONS, QueueEntry, TableOptions, sittings_of
from studies.training.plans import PROCESSOR
from studies.training.scoring import write_mask, write_scores
from verdiff.benchmarks.fresh import run_fresh
from verdiff.errors import DataError
from verdiff.files import scratch_folder
from verdiff.imaging.reading import read_volume
from verdiff.imaging.resample import resize_planes
from verdiff.imaging.slicing import SlicePlan, plan_slices
from verdiff.train import nnunetv2_adapter as nnunet
from verdiff.train.config import DataConfig
from verdiff.train.data.cases import INDEX, CaseSlices, Dataset
from verdiff.train.data.layout import find_files, read_description

PREPARE = "studies.library.nnunet_planner:prepare_along"
TRAIN = "studies.library.nnunet_trainer:train_on_budget"
PREDICT = "studies.library.nnunet_predictor:predict_maps"
# A case that cannot be predicted in time is begun in the next sitting; it takes a minute or two on one thread.
AT_ONCE = 4


def advance(
    options: TableOptions,
    entry: QueueEntry,
    dataset: Dataset,
    names: Sequence[str],
    memory_gb: float,
    sitting: Callable[[Path], AbstractContextManager[None]],
    *,
    until: float = math.inf,
    say: Callable[[str], None] = print,
) -> None:
    """Plan, preprocess, train to the budget, predict and score, as far as there is time.

    Args:
        options: Options of the queue.
        entry: The training.
        dataset: The cases, prepared for the table's other models.
        names: Names of the cases to score.
        memory_gb: Memory that nnU-Net plans its batch for: that of ``nnunet-like``.
        sitting: Notes machine, minutes and commit of what is done inside it.
        until: Time to stop with the weights kept, as :func:`time.monotonic` has it.
        say: Takes a line of news.

    Raises:
        BackendError: nnunetv2 is not installed.
        DataError: The data set is none that nnU-Net can use.
        VerdiffError: nnU-Net failed.
    """
    nnunet.require()
    if (options.data / INDEX).is_file():
        raise DataError(
            f"{options.data.name} is a cache", "a raw data set, which nnU-Net prepares by itself", "name the data set"
        )
    ready = nnunet.workplace(options.data, entry.run, fold=options.fold, processes=options.threads, resume=True)
    # Batches are made in the process itself, so that its clock counts them.
    environment = {**ready.environment, "nnUNet_n_proc_DA": "0"}
    scans = find_files(options.data, read_description(options.data).ending).images
    prepared = DataConfig(**dataset.preparation)
    if not ready.is_prepared:
        say(f"{entry.run.name}: planning and preprocessing")
        asked = {
            "number": ready.number,
            "axis": slice_plan(next(iter(scans.values())), prepared).permutation[0],
            "memory_gb": memory_gb,
            "processes": options.threads,
        }
        run_fresh(PREPARE, asked, environment=ready.environment)
        ready.finish_preparation()
    model, processor = trained_model(options.data, entry.run, options.fold), options.clock == PROCESSOR
    task: dict[str, Any] = {"plans": str(ready.plans), "description": str(ready.description), "fold": options.fold}
    if model is None:
        say(f"{entry.run.name}: patch {ready.plan['patch_size']}, batch {ready.plan['batch_size']}")
        budget = {
            "minutes": entry.minutes,
            "processor": processor,
            "threads": options.threads,
            "seed": entry.seed,
            "seconds": None if math.isinf(until) else max(0.0, until - time.monotonic()),
        }
        with sitting(entry.run):
            run_fresh(TRAIN, task | budget, environment=environment)
        model = trained_model(options.data, entry.run, options.fold)
    if model is None:
        return
    spent = json.loads((model / f"fold_{options.fold}" / SPENT).read_text("utf-8"))
    cases = {case.name: case for case in dataset.cases}
    (entry.run / PREDICTIONS).mkdir(exist_ok=True)
    lacking = [name for name in names if not (entry.run / PREDICTIONS / f"{name}.npz").is_file()]
    task |= {"model": str(model), "threads": options.threads}
    for begin in range(0, len(lacking), AT_ONCE):
        if time.monotonic() >= until:
            return
        chosen = [cases[name] for name in lacking[begin : begin + AT_ONCE]]
        _predict(entry.run / PREDICTIONS, chosen, [scans[case.name] for case in chosen], prepared, task, environment)
    say(f"{entry.run.name}: {len(names)} cases predicted")
    held = ready.splits[options.fold]
    facts = {
        "model": entry.model.name,
        "seed": entry.seed,
        "budget_minutes": entry.minutes,
        **spent,
        "processor_minutes": round(sum(sitting["processor_minutes"] for sitting in sittings_of(entry.run)), 2),
        "minutes": round(spent["processor_minutes"] / options.threads if processor else spent["minutes"], 2),
        "plan": {key: ready.plan[key] for key in ("patch_size", "batch_size", "spacing")},
        "training_cases": len(held["train"]),
        "validation_cases": len(held["val"]),
    }
    write_scores(entry.run, dataset, names, facts)


def mask_of(maps: NDArray[np.floating[Any]], scan: Path, case: CaseSlices, prepared: DataConfig) -> NDArray[np.uint8]:
    """nnU-Net's class probabilities as label ids uint8 [slices, rows, columns] on the pixels that are scored.

    Args:
        maps: Probabilities [classes, z, y, x] in the scan's grid; nnU-Net's classes are the ids, from 0 on.
        scan: The scan's file.
        case: The case as it was prepared.
        prepared: The settings that it was prepared with.

    Raises:
        DataError: The probabilities are of another grid than the scan.
    """
    plan = slice_plan(scan, prepared)
    if maps.shape[1:] != plan.source_shape:
        raise DataError(
            f"nnU-Net's mask of {case.name} has {maps.shape[1:]} voxels, its scan {plan.source_shape}",
            "the scan's own grid",
            "use a data set whose files nnU-Net and verdiff read alike",
        )
    planes = np.stack([plan.extract(channel) for channel in maps])
    rows, cols = (case.labels if case.own is None else case.own).shape[1:]
    # Slice by slice: all classes on finer pixels would take a gigabyte.
    return np.stack([_resized(each, rows, cols).argmax(axis=0) for each in planes.swapaxes(0, 1)]).astype(np.uint8)


def slice_plan(scan: Path, prepared: DataConfig) -> SlicePlan:
    """How a scan is taken as slices."""
    geometry = read_volume(scan, modality=prepared.modality, orientation=prepared.orientation).geometry
    return plan_slices(geometry, view=prepared.view, spacing_mm=prepared.spacing_mm, multiple=1)  # type: ignore[arg-type]


def _resized(planes: NDArray[Any], rows: int, cols: int) -> NDArray[Any]:
    return planes if planes.shape[-2:] == (rows, cols) else resize_planes(planes, rows, cols)


def _predict(
    folder: Path,
    cases: Sequence[CaseSlices],
    scans: Sequence[Path],
    prepared: DataConfig,
    task: dict[str, Any],
    environment: dict[str, str],
) -> None:
    """The masks of some cases, by one fresh process."""
    with scratch_folder() as scratch:
        maps = [str(Path(scratch) / f"{number}.npy") for number in range(len(cases))]
        task = {**task, "scans": [str(scan.resolve()) for scan in scans], "maps": maps}
        seconds = run_fresh(PREDICT, task, environment=environment).result
        for case, scan, path, taken in zip(cases, scans, maps, seconds, strict=True):
            write_mask(mask_of(np.load(path), scan, case, prepared), case, taken, folder / f"{case.name}.npz")
