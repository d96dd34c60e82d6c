"""A data set for the tiny bundle: patients whose structures its networks can see, in folds of two."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.runtime.tiny_bundle import write_tiny
from verdiff.diffusion import Process, Schedule, make_table
from verdiff.imaging import volume_from, write_array

SAGITTAL = (0.0, 0.0, -1.0, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0)


def write_fold(
    folder: Path, *, folds: int = 2, slices: int = 3, greys: tuple[int, int, int] = (170, 40, 80), noise: float = 30
) -> Path:
    """Two patients a fold; the vertebra is bright, the canal dark, and the grey values are noisy.

    Args:
        folder: The data set to make.
        folds: How many.
        slices: Of each patient.
        greys: Values of vertebra, canal and the rest.
        noise: Standard deviation around them.
    """
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for number in range(2 * folds):
        labels = np.zeros((slices, 26, 22), np.uint8)
        labels[:, 3 : 9 + number, 4:18], labels[:, 20:25, 2:16] = 1, 7
        image = np.where(labels == 1, greys[0], np.where(labels == 7, greys[1], greys[2])).astype(np.float32)
        image += np.random.default_rng(number).normal(0, noise, image.shape).astype(np.float32)
        for part, name, array in (("imagesTr", f"p{number}_0000", image), ("labelsTr", f"p{number}", labels)):
            volume = volume_from((array, (1.0, 1.0, 3.0), SAGITTAL))
            write_array(array, volume, folder / part / f"{name}.nii.gz")
    description = {"labels": {"background": 0, "vertebra": 1, "disc": 2, "canal": 7}, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(description), "utf-8")
    splits = [{"train": [], "val": [f"p{2 * fold}", f"p{2 * fold + 1}"]} for fold in range(folds)]
    (folder / "splits_final.json").write_text(json.dumps(splits), "utf-8")
    return folder


def write_clear_fold(folder: Path) -> Path:
    """Two patients in one fold, with so little noise that the tiny networks are nearly right."""
    return write_fold(folder, folds=1, slices=4, greys=(200, 10, 70), noise=2)


def write_short_chain(path: Path, **stated: Any) -> Path:
    """The tiny bundle on a process of 60 timesteps, for whole chains in tests; what is stated replaces its own."""
    process = Process("verdiff", Schedule("linear", 60), 0.5)
    table = make_table(process, sampler="ddim", steps=3)
    return write_tiny(path, process=process.to_dict(), table=table.to_dict(), **stated)
