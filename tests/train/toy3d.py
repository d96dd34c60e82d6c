"""Volumes and a 3D network small enough to train in a second: two bright blocks, one above the other."""

from __future__ import annotations

import dataclasses

import numpy as np

from verdiff.train.config import AugmentConfig, DataConfig, RunConfig, TrainingConfig
from verdiff.train.data.cases import CaseSlices, Dataset
from verdiff.train.networks.safnet import SAFNetConfig

PATCH = (4, 32, 16)
SPACING = (1.5, 1.5, 4.4)
DATA = DataConfig(spacing_mm=1.5, slice_spacing_mm=4.4)
STILL = AugmentConfig(rotation_deg=0.0, shift=0.0, elastic_px=0.0, contrast=0.0)


def toy_volume(name: str, seed: int, shape: tuple[int, int, int] = (6, 40, 20)) -> CaseSlices:
    """One patient: structures 1 and 2, told apart by where they are and how bright."""
    rng = np.random.default_rng(seed)
    images = np.full(shape, -0.8, np.float32)
    labels = np.zeros(shape, np.uint8)
    top, left = rng.integers(2, 6, 2)
    labels[1:-1, top : top + 12, left : left + 10] = 1
    labels[1:-1, top + 14 : top + 26, left : left + 10] = 2
    images[labels == 1], images[labels == 2] = 0.1, 0.8
    images += rng.normal(0, 0.05, shape)
    return CaseSlices(name, np.clip(images, -1, 1).astype(np.float16), labels, SPACING)


def toy_volumes(cases: int = 4) -> Dataset:
    """Patients in two folds; none is as large as another."""
    made = tuple(toy_volume(f"toy{index}", index, (5 + index, 40, 18 + 2 * index)) for index in range(cases))
    names = [case.name for case in made]
    splits = ({"train": names[:-1], "val": names[-1:]}, {"train": names[1:], "val": names[:1]})
    statistics = {"pixel_spacing_mm": [1.5, 1.5], "slice_spacing_mm": [4.4, 4.4], "intensity": [0.0, 255.0]}
    return Dataset("Dataset901_Toy3D", ("upper", "lower"), (1, 2), made, splits, statistics, DATA.preparation())


def toy_config3d(augment: AugmentConfig | None = None, **training: object) -> RunConfig:
    """A narrow SAFNet; without the branches of its multiscale fusion, which take half its time."""
    values: dict[str, object] = {
        "iterations": 4, "batch": 2, "learning_rate": 5e-3, "loss_dice": 1.0, "validate_every": 2,
        "validate_slices": 1, "ema": 0.0, "decay": "plateau",
    }  # fmt: skip
    return RunConfig(
        model_id="toy3d",
        system="safnet",
        data=DATA,
        network=SAFNetConfig(PATCH, stem=(4, 8), width=16, norm="group", fusion=False),
        augment=augment or AugmentConfig(),
        training=dataclasses.replace(TrainingConfig(), **{**values, **training}),  # type: ignore[arg-type]
    )
