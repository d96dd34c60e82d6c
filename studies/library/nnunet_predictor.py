"""The predictor of the package ``nnunetv2`` on whole scans: its own plan, preprocessing, windows and mirroring."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

TRAINER = "nnUNetTrainer"
CONFIGURATION = "2d"
MIRRORED_AXES = (0, 1)
# nnU-Net's own: windows overlap by half, weighted by a Gaussian.
STEP = 0.5


def predict_volumes(
    plans: str,
    description: str,
    model: str | None,
    fold: int,
    scans: list[str],
    masks: list[str],
    mirroring: bool,
    threads: int,
    seed: int,
) -> list[float]:
    """What a fresh process runs: load, then each scan from file to mask; its seconds, loading left out.

    Args:
        plans: ``nnUNetPlans.json``, as its planner wrote it.
        description: The data set's ``dataset.json``.
        model: nnU-Net's folder of a trained model, which holds ``fold_N``; None: the plan's network with random
            weights, which takes as long and finds nothing.
        fold: Which of its folds.
        scans: Files.
        masks: Where each mask goes.
        mirroring: Whether every window is predicted in four mirror images, as nnU-Net does.
        threads: Threads of PyTorch.
        seed: Seed of random weights.
    """
    import torch

    torch.set_num_threads(threads)
    predictor = _predictor(Path(plans), Path(description), model, fold, mirroring, seed)
    reader = predictor.plans_manager.image_reader_writer_class()
    seconds = []
    for scan, mask in zip(scans, masks, strict=True):
        begun = time.perf_counter()
        image, properties = reader.read_images([scan])
        found = predictor.predict_single_npy_array(image, properties, None, None, False)
        reader.write_seg(found, mask, properties)
        seconds.append(time.perf_counter() - begun)
    return seconds


def predict_maps(
    plans: str, description: str, model: str, fold: int, scans: list[str], maps: list[str], threads: int
) -> list[float]:
    """What a fresh process runs: a trained fold's class probabilities of each scan, with mirroring; its seconds.

    Args:
        plans: ``nnUNetPlans.json``, as its planner wrote it.
        description: The data set's ``dataset.json``.
        model: nnU-Net's folder of a trained model, which holds ``fold_N``.
        fold: Which of its folds.
        scans: Files.
        maps: Where each scan's probabilities go, ``.npy``: float16 [classes, z, y, x] in the scan's own grid, the
            background first.
        threads: Threads of PyTorch.
    """
    import numpy as np
    import torch

    torch.set_num_threads(threads)
    predictor = _predictor(Path(plans), Path(description), model, fold, True, 0)
    reader = predictor.plans_manager.image_reader_writer_class()
    seconds = []
    for scan, path in zip(scans, maps, strict=True):
        begun = time.perf_counter()
        image, properties = reader.read_images([scan])
        found = predictor.predict_single_npy_array(image, properties, None, None, True)[1]
        seconds.append(time.perf_counter() - begun)
        np.save(path, np.asarray(found, dtype=np.float16))
    return seconds


def _predictor(plans: Path, description: Path, model: str | None, fold: int, mirroring: bool, seed: int) -> Any:
    """nnU-Net's predictor, on the processor."""
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(
        tile_step_size=STEP,
        use_gaussian=True,
        use_mirroring=mirroring,
        perform_everything_on_device=False,
        device=torch.device("cpu"),
        allow_tqdm=False,
    )
    if model is not None:
        predictor.initialize_from_trained_model_folder(model, use_folds=(fold,))
        return predictor
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    manager = PlansManager(json.loads(plans.read_text("utf-8")))
    data = json.loads(description.read_text("utf-8"))
    configuration = manager.get_configuration(CONFIGURATION)
    torch.manual_seed(seed)
    network = get_network_from_plans(
        configuration.network_arch_class_name,
        configuration.network_arch_init_kwargs,
        configuration.network_arch_init_kwargs_req_import,
        len(data["channel_names"]),
        manager.get_label_manager(data).num_segmentation_heads,
        deep_supervision=False,
    )
    predictor.manual_initialization(
        network.eval(), manager, configuration, [network.state_dict()], data, TRAINER, MIRRORED_AXES
    )
    return predictor
