"""nnU-Net raw data sets (``imagesTr/CASE_0000.ext``, ``labelsTr/CASE.ext``, ``dataset.json``) as prepared cases."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from verdiff.errors import DataError, VerdiffError
from verdiff.imaging.intensity import IntensityRule, intensity_bounds, normalise
from verdiff.imaging.look import look_of_mask, look_of_scan
from verdiff.imaging.picture import picture_of
from verdiff.imaging.reading import read_labels, read_volume
from verdiff.imaging.slicing import SlicePlan, plan_slices
from verdiff.imaging.volume import Volume
from verdiff.progress import tracked
from verdiff.train.config import DataConfig
from verdiff.train.data.cases import INDEX, CaseSlices, Dataset, read_cache
from verdiff.train.data.findings import refuse_first
from verdiff.train.data.layout import (
    DESCRIPTION,
    Description,
    Files,
    case_findings,
    channel_remark,
    class_findings,
    find_files,
    fine_findings,
    pair_findings,
    patient_findings,
    patients_of,
    read_description,
    splits_of,
)
from verdiff.train.data.masks import finer, label_map, labels_on, share_covered
from verdiff.train.data.middle import middle_slices
from verdiff.train.data.splits import SPLITS, Split, fold_findings
from verdiff.train.data.volumes import volume_case


def load_dataset(folder: Path, config: DataConfig, progress: Callable[[str], None] | None = None) -> Dataset:
    """A prepared cache if ``folder`` holds one, else an nnU-Net raw data set read and prepared in memory.

    Raises:
        DataError: What :func:`read_raw` and :func:`read_cache` raise; a cache that was prepared with other settings.
    """
    if (folder / INDEX).is_file():
        cached = read_cache(folder)
        _refuse_other_preparation(folder, cached, config)
        dataset = replace(cached, preparation=config.preparation())
    else:
        dataset = read_raw(folder, config, progress)
    return middle_slices(dataset, config.middle_slices)


def _refuse_other_preparation(folder: Path, dataset: Dataset, config: DataConfig) -> None:
    """Cases on one grid and a configuration of another would make a model whose bundle prepares scans otherwise."""
    # A cache from before a setting existed was made with what is its default now.
    made, wanted = {**DataConfig().preparation(), **dataset.preparation}, config.preparation()
    differing = [key for key in wanted if made[key] != wanted[key]]
    if differing:
        raise DataError(
            f"the cache {folder.name} was prepared with {', '.join(f'{key} = {made[key]}' for key in differing)}",
            f"what the configuration has: {', '.join(f'{key} = {wanted[key]}' for key in differing)}",
            "prepare the data set with this configuration (verdiff train --prepare), or set it to what the cache has",
        )


@dataclass(frozen=True)
class RawLayout:
    """What the names and the JSON files of an nnU-Net raw data set say, no image read.

    Attributes:
        description: Its ``dataset.json``.
        files: Its files, by case.
        patients: Case -> patient.
        splits: Its folds, or those made by patient.
    """

    description: Description
    files: Files
    patients: Mapping[str, str]
    splits: tuple[Split, ...]


def look_at_raw(folder: Path) -> RawLayout:
    """Check everything of an nnU-Net raw data set that needs no image.

    Raises:
        DataError: A wrong ``dataset.json``, a missing pair, a single patient, a patient on both sides of a fold.
    """
    description = read_description(folder)
    files = find_files(folder, description.ending)
    refuse_first(pair_findings(files, description.ending))
    refuse_first(patient_findings(description, files.masks))
    patients = patients_of(description, files.masks)
    splits = splits_of(folder, patients)
    refuse_first(
        finding
        for number, split in enumerate(splits)
        for finding in fold_findings(number, split, files.masks, patients)
    )
    return RawLayout(description, files, patients, splits)


def read_raw(folder: Path, config: DataConfig, progress: Callable[[str], None] | None = None) -> Dataset:
    """Read an nnU-Net raw data set and bring it onto the model's slices, spacing and intensities.

    Only the first channel (``_0000``) is used. Labels have to be ``background`` 0 and one id a structure. Without
    ``splits_final.json`` folds are made by patient (:func:`verdiff.train.data.splits.make_splits`).

    Raises:
        DataError: Naming the case: what :func:`look_at_raw` raises; grids that differ, a label outside
            ``dataset.json``, an empty mask, a structure in no mask.
    """
    layout = look_at_raw(folder)
    description, files = layout.description, layout.files
    remark = channel_remark(description, files)
    if remark and progress:
        progress(remark)
    cases: list[CaseSlices] = []
    facts: list[Mapping[str, tuple[float, float]]] = []
    seen: dict[str, set[int]] = {}
    for number, name in enumerate(tracked(list(files.masks)), start=1):
        case, fact, seen[name] = _prepare(name, files, description, config)
        cases.append(case)
        facts.append(fact)
        if progress:
            progress(f"{name} ({number} of {len(files.masks)}): {len(case.images)} slices of {case.images.shape[1:]}")
    refuse_first(class_findings(description.labels, seen))
    statistics = ranges(facts)
    return Dataset(
        folder.name,
        tuple(description.labels),
        tuple(description.labels.values()),
        tuple(cases),
        layout.splits,
        statistics,
        config.preparation(),
        layout.patients,
        (folder / SPLITS).exists(),
        () if remark is None else (remark,),
    )


def ranges(facts: Sequence[Mapping[str, tuple[float, float]]]) -> dict[str, list[float]]:
    """The least and the most of each number over the cases that have it."""
    keys = dict.fromkeys(key for fact in facts for key in fact)
    return {
        key: [
            round(min(float(fact[key][0]) for fact in facts if key in fact), 4),
            round(max(float(fact[key][1]) for fact in facts if key in fact), 4),
        ]
        for key in keys
    }


def _prepare(
    name: str, files: Files, description: Description, config: DataConfig
) -> tuple[CaseSlices, dict[str, tuple[float, float]], set[int]]:
    fine = None
    try:
        volume = read_volume(files.images[name], modality=config.modality, orientation=config.orientation)
        truth = read_labels(files.masks[name], orientation=config.orientation)
        if config.soft_masks and name in files.fine:
            fine = read_labels(files.fine[name], orientation=config.orientation)
    except VerdiffError as error:
        raise DataError(f"case {name}: {error.found}", error.expected, error.remedy) from error
    table = description.labels
    refuse_first(
        case_findings(name, volume, truth, table, may_be_empty=name in description.empty, ignore=description.ignore)
    )
    if fine is not None:
        refuse_first(fine_findings(name, volume, fine, description, config.view))  # type: ignore[arg-type]
    plan = plan_slices(volume.geometry, view=config.view, spacing_mm=config.spacing_mm, multiple=1)  # type: ignore[arg-type]
    rows, cols = plan.pixel_spacing_mm
    fact = {
        "pixel_spacing_mm": (min(rows, cols), max(rows, cols)),
        "slice_spacing_mm": (plan.slice_spacing_mm, plan.slice_spacing_mm),
        "intensity": (float(volume.array.min()), float(volume.array.max())),
    }
    rule = IntensityRule(config.intensity_kind, config.intensity_low, config.intensity_high)  # type: ignore[arg-type]
    bounds = intensity_bounds(volume.array[picture_of(volume.array)], rule)
    look = look_of_scan(plan, volume.array, bounds) | look_of_mask(plan, truth.array, table, volume.array, bounds)
    fact.update({key: (value, value) for key, value in look.items()})
    if config.slice_spacing_mm is not None:
        if description.ignore is not None:
            raise DataError(
                f"{DESCRIPTION} has the label 'ignore', for a 3D system",
                "masks in which every voxel counts",
                "train a 2D system on it, or leave out the cases that are not fully labelled",
            )
        case = volume_case(name, volume, truth, tuple(table.values()), config)
    else:
        case = _slices_case(name, volume, fine or truth, plan, description, config)
    return case, fact, {int(value) for value in np.unique(truth.array)}


def _slices_case(
    name: str, volume: Volume, truth: Volume, plan: SlicePlan, description: Description, config: DataConfig
) -> CaseSlices:
    """The slices of a scan, and of its mask on the same grid or on a finer one over the same field of view."""
    rule = IntensityRule(config.intensity_kind, config.intensity_low, config.intensity_high)  # type: ignore[arg-type]
    low, high = intensity_bounds(volume.array[picture_of(volume.array)], rule)
    images = plan.to_model(normalise(plan.extract(volume.array), low, high))[:, 0].astype(np.float16)
    masks = finer(plan, truth.geometry)
    planes = masks.extract(truth.array)
    labels = labels_on(masks, planes, description)
    own = None
    if labels.shape != planes.shape:
        own = label_map(planes, description)
    coverage = share_covered(masks, planes, description) if config.soft_masks else None
    rows, cols = plan.pixel_spacing_mm
    scale = (plan.scan_rows / plan.model_rows, plan.scan_cols / plan.model_cols)
    spacing = (rows * scale[0], cols * scale[1], plan.slice_spacing_mm)
    return CaseSlices(name, images, labels, spacing, coverage, own)
