"""nnU-Net raw data sets (``imagesTr/CASE_0000.ext``, ``labelsTr/CASE.ext``, ``dataset.json``) as prepared cases."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from verdiff.errors import DataError, VerdiffError
from verdiff.imaging.intensity import IntensityRule, intensity_bounds, normalise
from verdiff.imaging.reading import read_labels, read_volume
from verdiff.imaging.slicing import plan_slices
from verdiff.train.config import DataConfig
from verdiff.train.data.cases import INDEX, Case, Dataset, read_cache


def load_dataset(folder: Path, config: DataConfig, progress: Callable[[str], None] | None = None) -> Dataset:
    """A prepared cache if ``folder`` holds one, else an nnU-Net raw data set read and prepared in memory."""
    return read_cache(folder) if (folder / INDEX).is_file() else read_raw(folder, config, progress)


def read_raw(folder: Path, config: DataConfig, progress: Callable[[str], None] | None = None) -> Dataset:
    """Read an nnU-Net raw data set and bring it onto the model's slices, spacing and intensities.

    Only the first channel (``_0000``) is used. Labels have to be ``background`` 0 and one id a structure.

    Raises:
        DataError: Naming the case: a missing pair, grids that differ, a label outside ``dataset.json``, no splits.
    """
    description = _read_json(folder / "dataset.json")
    try:
        ending, labels = str(description["file_ending"]), dict(description["labels"])
        table = {str(name): int(value) for name, value in labels.items() if name != "background"}
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{folder.name}/dataset.json lacks a usable {error}",
            "file_ending, and labels as {name: id} with background 0",
            "correct dataset.json",
        ) from error
    splits = _read_json(folder / "splits_final.json")
    masks = {path.name.removesuffix(ending): path for path in sorted((folder / "labelsTr").glob(f"*{ending}"))}
    images = {path.name.removesuffix(f"_0000{ending}"): path for path in (folder / "imagesTr").glob(f"*_0000{ending}")}
    alone = sorted(set(masks) ^ set(images))
    if alone or not masks:
        where = (
            "nothing in imagesTr"
            if not masks
            else f"{alone[0]} with {'an image' if alone[0] in images else 'a mask'} only"
        )
        raise DataError(
            f"{folder.name}: {where}", f"CASE_0000{ending} and CASE{ending} for every case", "complete the data set"
        )
    cases, facts = [], []
    for number, name in enumerate(masks, start=1):
        case, fact = _prepare(name, images[name], masks[name], table, config)
        cases.append(case)
        facts.append(fact)
        if progress:
            progress(f"{name} ({number} of {len(masks)}): {len(case.images)} slices of {case.images.shape[1:]}")
    statistics = {
        key: [round(float(min(f[key][0] for f in facts)), 4), round(float(max(f[key][1] for f in facts)), 4)]
        for key in facts[0]
    }
    return Dataset(
        folder.name,
        tuple(table),
        tuple(table.values()),
        tuple(cases),
        tuple(dict(split) for split in splits),
        statistics,
    )


def _prepare(
    name: str, image: Path, mask: Path, table: dict[str, int], config: DataConfig
) -> tuple[Case, dict[str, tuple[float, float]]]:
    try:
        volume = read_volume(image, modality=config.modality)
        truth = read_labels(mask)
    except VerdiffError as error:
        raise DataError(f"case {name}: {error.found}", error.expected, error.remedy) from error
    ours, theirs = volume.geometry, truth.geometry
    same = ours.size == theirs.size and np.allclose(ours.corners_mm(), theirs.corners_mm(), atol=1e-2)
    if not same:
        raise DataError(
            f"case {name}: image {ours.size} and mask {theirs.size} do not lie on one grid",
            "equal size, spacing, origin and direction",
            "resample the mask onto its image",
        )
    unknown = sorted(set(np.unique(truth.array).tolist()) - {0, *table.values()})
    if unknown:
        raise DataError(
            f"case {name}: label {unknown[0]:g}",
            f"0 or one of {sorted(table.values())}",
            "correct the mask or dataset.json",
        )
    plan = plan_slices(ours, view=config.view, spacing_mm=config.spacing_mm, multiple=1)  # type: ignore[arg-type]
    rule = IntensityRule(config.intensity_kind, config.intensity_low, config.intensity_high)  # type: ignore[arg-type]
    low, high = intensity_bounds(volume.array, rule)
    images = plan.to_model(normalise(plan.extract(volume.array), low, high))[:, 0].astype(np.float16)
    planes = plan.extract(truth.array)
    one_hot = np.stack([(planes == value) for value in table.values()], axis=1).astype(np.float32)
    resized = np.concatenate([plan.to_model(2 * one_hot[:, k] - 1) for k in range(len(table))], axis=1)
    best = resized.argmax(axis=1)
    labels = np.where(resized.max(axis=1) > 0, best + 1, 0).astype(np.uint8)
    rows, cols = plan.pixel_spacing_mm
    fact = {
        "pixel_spacing_mm": (min(rows, cols), max(rows, cols)),
        "slice_spacing_mm": (plan.slice_spacing_mm, plan.slice_spacing_mm),
        "intensity": (float(volume.array.min()), float(volume.array.max())),
    }
    scale = (plan.scan_rows / plan.model_rows, plan.scan_cols / plan.model_cols)
    return Case(name, images, labels, (rows * scale[0], cols * scale[1], plan.slice_spacing_mm)), fact


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path.parent.name}/{path.name} cannot be read ({error})",
            "an nnU-Net raw data set with dataset.json and splits_final.json",
            "check the folder given with --data",
        ) from error
