"""The planner of the package ``nnunetv2``: its plan alone, and its preprocessing with slices along a given axis."""

from __future__ import annotations

from pathlib import Path

from verdiff.train.nnunetv2_adapter import (
    CONFIGURATION,
    PLANNER,
    PLANS,
    RESULTS,
    TRAINER,
    NnunetProcesses,
    workplace,
)


def plan(data: Path, output: Path, *, fold: int = 0, processes: int = 2) -> Path:
    """Only what nnU-Net plans for a data set, by its own planner: the path of its ``nnUNetPlans.json``.

    Args:
        data: A raw data set in a folder named ``DatasetNNN_Name``.
        output: Gets nnU-Net's ``preprocessed`` and ``nnunetv2.log``; a plan that is there is taken.
        fold: Fold of which there has to be one.
        processes: Number of processes that read the scans.

    Raises:
        BackendError: nnunetv2 is not installed.
        DataError: The folder's name or ``dataset.json`` is not what nnU-Net wants, or there is no such fold.
        VerdiffError: nnU-Net failed; the message has its last words.
    """
    ready = workplace(data, output, fold=fold, processes=processes)
    if not ready.plans.is_file():
        nnunet = NnunetProcesses(data.resolve().parent, output.resolve(), processes)
        words = ("-d", str(ready.number), "-c", CONFIGURATION, "-npfp", str(processes), "--no_pp")
        nnunet.call(PLANNER, *words)
    return ready.plans


def trained_model(data: Path, output: Path, fold: int) -> Path | None:
    """nnU-Net's folder of a trained model, for its predictor; None where that fold is not finished."""
    model = output.resolve() / RESULTS / data.resolve().name / f"{TRAINER}__{PLANS}__{CONFIGURATION}"
    return model if (model / f"fold_{fold}" / "checkpoint_final.pth").is_file() else None


def prepare_along(number: int, axis: int, memory_gb: float, processes: int) -> None:
    """What a fresh process runs, in nnU-Net's environment: fingerprint, two-dimensional plan, preprocessed cases.

    All of it is nnU-Net's own but for the axis that its slices lie along. nnU-Net takes that of the largest spacing;
    where voxels are nearly cubic, this need not be the one that the scan was acquired in.

    Args:
        number: The data set's number.
        axis: Axis of the scans' arrays [z, y, x] along which the slices follow each other.
        memory_gb: Memory of a graphics card that the batch is planned for.
        processes: Number of processes.
    """
    from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
    from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, preprocess_dataset

    forward = [axis, *(each for each in range(3) if each != axis)]
    backward = [forward.index(each) for each in range(3)]
    extract_fingerprints([number], num_processes=processes, check_dataset_integrity=True, show_progress_bar=False)
    planner = ExperimentPlanner(number, gpu_memory_target_in_gb=memory_gb)
    planner.determine_transpose = lambda: (forward, backward)
    planner.plan_experiment()
    preprocess_dataset(number, planner.plans_identifier, ["2d"], [processes], show_progress_bar=False)
