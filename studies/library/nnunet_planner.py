"""The planner and preprocessing of the package ``nnunetv2``, with the slices taken along a given axis."""

from __future__ import annotations


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
