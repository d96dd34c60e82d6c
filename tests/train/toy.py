"""A data set and a model small enough to train in a second: bright rectangles on a dark ground."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np

from verdiff.train.config import AugmentConfig, ProcessConfig, RunConfig, SamplingConfig, TrainingConfig
from verdiff.train.data.cases import CaseSlices, Dataset
from verdiff.train.networks import NetworkConfig

LABELS = ("vertebra", "disc")


def toy_case(name: str, seed: int, slices: int = 3, rows: int = 40, cols: int = 36) -> CaseSlices:
    """One patient: a large block (vertebra) above a flat bright one (disc), jittered by slice."""
    rng = np.random.default_rng(seed)
    images = np.full((slices, rows, cols), -0.8, np.float32)
    labels = np.zeros((slices, rows, cols), np.uint8)
    for index in range(slices):
        top, left = rng.integers(3, 9, 2)
        labels[index, top : top + 14, left : left + 18] = 1
        labels[index, top + 16 : top + 22, left : left + 18] = 2
    images[labels == 1] = 0.1
    images[labels == 2] = 0.9
    images += rng.normal(0, 0.05, images.shape)
    return CaseSlices(name, np.clip(images, -1, 1).astype(np.float16), labels, (1.0, 1.0, 3.0))


def toy_dataset(cases: int = 4) -> Dataset:
    """Four patients, two folds."""
    made = tuple(toy_case(f"toy{index}", index) for index in range(cases))
    names = [case.name for case in made]
    splits = ({"train": names[:-1], "val": names[-1:]}, {"train": names[1:], "val": names[:1]})
    statistics = {"pixel_spacing_mm": [1.0, 1.0], "slice_spacing_mm": [3.0, 3.0], "intensity": [0.0, 255.0]}
    return Dataset("Dataset900_Toy", LABELS, (1, 2), made, splits, statistics, RunConfig().data.preparation())


def toy_config(**training: object) -> RunConfig:
    """A two-level network that trains with every remedy switched on."""
    values: dict[str, object] = {
        "iterations": 6, "batch": 2, "crop": (32, 32), "optimizer": "adamw", "learning_rate": 2e-3, "recycle": 0.5,
        "corrupt": 0.5, "loss_dice": 1.0, "loss_mse": 0.5, "validate_every": 3, "validate_slices": 1, "ema": 0.9,
    }  # fmt: skip
    return RunConfig(
        model_id="toy",
        network=NetworkConfig((8, 8, 16), (8, 8), 2, 8, "decoder"),
        process=ProcessConfig(signal_scale=0.5),
        sampling=SamplingConfig(steps=2),
        augment=AugmentConfig(zoom=1.2, gamma=0.2, bias_field=0.2, blur_px=1.0, noise=0.05, low_resolution=2.0),
        training=dataclasses.replace(TrainingConfig(), **{**values, **training}),  # type: ignore[arg-type]
    )


def write_raw_dataset(folder: Path, cases: int = 3, ending: str = ".nii.gz") -> Path:
    """The toy patients as an nnU-Net raw data set of sagittal volumes (or films, with ``.png``)."""
    import SimpleITK as sitk

    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    names = []
    for index in range(cases):
        case = toy_case(f"toy{index}", index)
        names.append(case.name)
        image, mask = ((case.images.astype(np.float32) + 1) * 127).astype(np.uint8), case.labels
        if ending == ".png":
            image, mask = image[0], mask[0]
        for part, name, array in (("imagesTr", f"{case.name}_0000", image), ("labelsTr", case.name, mask)):
            picture = sitk.GetImageFromArray(array)
            if ending != ".png":
                # Slices run to the right, rows downwards, columns backwards: a sagittal acquisition in LPS.
                picture.SetDirection((0, 0, -1, 1, 0, 0, 0, -1, 0))
                picture.SetSpacing((1.0, 1.0, 3.0))
            sitk.WriteImage(picture, str(folder / part / f"{name}{ending}"))
    description = {"labels": {"background": 0, "vertebra": 1, "disc": 2}, "file_ending": ending, "numTraining": cases}
    (folder / "dataset.json").write_text(json.dumps(description), "utf-8")
    splits = [{"train": names[1:], "val": names[:1]}]
    (folder / "splits_final.json").write_text(json.dumps(splits), "utf-8")
    return folder


def write_nnunet_dataset(folder: Path) -> Path:
    """The toy patients as nnU-Net itself wants them: its description names the channel."""
    write_raw_dataset(folder)
    description = json.loads((folder / "dataset.json").read_text("utf-8"))
    (folder / "dataset.json").write_text(json.dumps({**description, "channel_names": {"0": "MR"}}), "utf-8")
    return folder


def write_films(folder: Path, cases: int, put_aside: int) -> Path:
    """The toy patients as films with one fold, whose first ``put_aside`` are scored."""
    write_raw_dataset(folder, cases=cases, ending=".png")
    names = [f"toy{number}" for number in range(cases)]
    split = {"train": names[put_aside:], "val": names[:put_aside]}
    (folder / "splits_final.json").write_text(json.dumps([split]), "utf-8")
    return folder
