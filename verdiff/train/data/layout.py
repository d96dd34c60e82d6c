"""The nnU-Net raw layout on disk: ``dataset.json``, pairs of files, and what can be wrong with either.

``imagesTr/CASE_0000.ext`` is a case's first channel, ``labelsTr/CASE.ext`` its mask. Two keys of ``dataset.json`` are
verdiff's own, and nnU-Net takes no notice of them: ``patients`` (``{case: patient}``, where a patient has several
cases) and ``empty_masks`` (cases that are known to show none of the structures).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from verdiff.choices import View
from verdiff.errors import DataError
from verdiff.imaging.slicing import plan_slices
from verdiff.imaging.volume import Volume
from verdiff.train.data.findings import Finding
from verdiff.train.data.splits import FOLDS, SPLITS, Split, make_splits, read_splits

DESCRIPTION = "dataset.json"
IMAGES, MASKS = "imagesTr", "labelsTr"
# verdiff's own: masks on a finer grid over the same field of view, where an image was made coarser than its mask.
FINE_MASKS = "labelsFull"
# Corners of an image and of its mask that lie so far apart, in mm, are on different grids.
GRID_TOLERANCE_MM = 1e-2
MOST_STRUCTURES = 255
IGNORED = "ignore"
_LABELS_EXPECTED = f"labels as {{name: id}}, background 0, whole ids from 1 to {MOST_STRUCTURES}"
_NAMED = 5


@dataclass(frozen=True)
class Description:
    """What ``dataset.json`` says.

    Attributes:
        ending: The files' ending, dot included.
        labels: Id of each structure, background left out, in the file's order.
        patients: The patient of a case, for cases whose patient is not named as they are.
        empty: Cases whose masks may be empty.
        stated_cases: ``numTraining``, where it is given.
        ignore: Id of nnU-Net's label ``ignore``: of such voxels nothing is known, and none of them counts.
        channels: Names of the channels by number, where they are given.
    """

    ending: str
    labels: dict[str, int]
    patients: dict[str, str] = field(default_factory=dict)
    empty: frozenset[str] = frozenset()
    stated_cases: int | None = None
    ignore: int | None = None
    channels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Files:
    """A raw data set's files.

    Attributes:
        images: First channel of each case.
        masks: Mask of each case.
        fine: Mask of a case on a finer grid, for cases that have one.
        further: Cases that have a further channel, by channel (``0001`` ...).
        strange: Names, with their folder, that follow no rule of the layout.
    """

    images: dict[str, Path]
    masks: dict[str, Path]
    further: dict[str, frozenset[str]]
    strange: tuple[str, ...]
    fine: dict[str, Path] = field(default_factory=dict)


def read_description(folder: Path) -> Description:
    """Read ``dataset.json``. Raises DataError when it is missing, no JSON, or states labels that cannot be trained."""
    path = folder / DESCRIPTION
    where = f"{folder.name}/{DESCRIPTION}"
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{where} cannot be read ({error})", f"an nnU-Net raw data set with {DESCRIPTION}", "check the folder given"
        ) from error
    if not isinstance(values, dict) or not {"file_ending", "labels"} <= set(values):
        lacking = sorted({"file_ending", "labels"} - set(values)) if isinstance(values, dict) else ["file_ending"]
        raise DataError(
            f"{where} lacks a usable '{lacking[0]}'",
            "file_ending, and labels as {name: id} with background 0",
            f"correct {DESCRIPTION}",
        )
    ending, patients, empty = values["file_ending"], values.get("patients", {}), values.get("empty_masks", [])
    if not isinstance(ending, str) or not ending.startswith("."):
        raise DataError(
            f"{where} has file_ending {ending!r}", "an ending with its dot, such as .nii.gz", f"correct {DESCRIPTION}"
        )
    if not isinstance(patients, dict) or not all(isinstance(name, str) for name in patients.values()):
        raise DataError(
            f"{where} has patients {patients!r:.60}", "{case: patient}, both text", f"correct {DESCRIPTION}"
        )
    if not isinstance(empty, list) or not all(isinstance(name, str) for name in empty):
        raise DataError(f"{where} has empty_masks {empty!r:.60}", "a list of case names", f"correct {DESCRIPTION}")
    stated = values.get("numTraining")
    table = _label_table(values["labels"], where)
    ignore = table.pop(IGNORED, None)
    if not table:
        raise DataError(f"{where} names no structure", _LABELS_EXPECTED, f"correct {DESCRIPTION}")
    channels = values.get("channel_names", values.get("modality", {}))
    return Description(
        ending,
        table,
        patients,
        frozenset(empty),
        stated if isinstance(stated, int) else None,
        ignore,
        {str(key): str(name) for key, name in channels.items()} if isinstance(channels, dict) else {},
    )


def _label_table(labels: Any, where: str) -> dict[str, int]:
    expected, remedy = _LABELS_EXPECTED, f"correct {DESCRIPTION}"
    if not isinstance(labels, dict):
        raise DataError(f"{where} has labels that are no table", expected, remedy)
    table: dict[str, int] = {}
    for name, value in labels.items():
        if isinstance(value, list):
            raise DataError(
                f"{where} makes the region {name!r} of {value}", expected, "write masks with one id a structure"
            )
        try:
            whole = int(value) if not isinstance(value, bool | float) else None
        except (TypeError, ValueError):
            whole = None
        lowest = 0 if name == "background" else 1
        highest = 0 if name == "background" else MOST_STRUCTURES
        if whole is None or not lowest <= whole <= highest:
            raise DataError(f"{where} gives {name!r} the id {value!r}", expected, remedy)
        if name == "background":
            continue
        twin = next((other for other, taken in table.items() if taken == whole), None)
        if twin is not None:
            raise DataError(f"{where} gives {twin!r} and {name!r} the id {whole}", expected, remedy)
        table[str(name)] = whole
    return table


def find_files(folder: Path, ending: str) -> Files:
    """The files of a raw data set, by case, sorted. Raises DataError when there is no mask at all."""
    masks, images = {}, {}
    further: dict[str, set[str]] = {}
    strange = []
    for path in _visible(folder / MASKS):
        if path.name.endswith(ending):
            masks[path.name.removesuffix(ending)] = path
        else:
            strange.append(f"{MASKS}/{path.name}")
    for path in _visible(folder / IMAGES):
        name, separator, channel = path.name.removesuffix(ending).rpartition("_")
        if not path.name.endswith(ending) or not separator or not (len(channel) == 4 and channel.isdecimal()):
            strange.append(f"{IMAGES}/{path.name}")
        elif channel == "0000":
            images[name] = path
        else:
            further.setdefault(channel, set()).add(name)
    if not masks:
        there = f", but {strange[0]}" if strange else ""
        raise DataError(
            f"{folder.name}: nothing named CASE{ending} in {MASKS}{there}",
            f"{IMAGES}/CASE_0000{ending} and {MASKS}/CASE{ending} for every case",
            f"complete the data set, or correct file_ending in {DESCRIPTION}",
        )
    fine = {
        path.name.removesuffix(ending): path for path in _visible(folder / FINE_MASKS) if path.name.endswith(ending)
    }
    return Files(images, masks, {key: frozenset(names) for key, names in further.items()}, tuple(strange), fine)


def channel_remark(description: Description, files: Files) -> str | None:
    """What is said of channels that are not trained on; None where there is one channel alone."""
    further = sorted(
        {*files.further, *(f"{int(key):04d}" for key in description.channels if key.isdecimal())} - {"0000"}
    )
    if not further:
        return None
    taken = f" ({description.channels['0']})" if "0" in description.channels else ""
    named = (description.channels.get(str(int(channel)), "") for channel in further)
    left = ", ".join(f"{channel} ({name})" if name else channel for channel, name in zip(further, named, strict=True))
    return f"of each case channel 0000{taken} alone is taken; left out: {left}"


def _visible(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if not p.name.startswith(".")) if folder.is_dir() else []


def pair_findings(files: Files, ending: str) -> Iterator[Finding]:
    """Cases that have an image only, or a mask only."""
    for name in sorted(set(files.images) ^ set(files.masks)):
        what = "an image" if name in files.images else "a mask"
        yield Finding(
            None,
            f"{name} with {what} only",
            f"CASE_0000{ending} and CASE{ending} for every case",
            "complete the data set, or remove what is left of the case",
        )


def patient_findings(description: Description, cases: Collection[str]) -> Iterator[Finding]:
    """Cases that ``dataset.json`` speaks of and that are not there, and a data set of one patient."""
    for key, names in (("patients", description.patients), ("empty_masks", description.empty)):
        for name in sorted(set(names) - set(cases)):
            yield Finding(
                name, f"{DESCRIPTION} has it under {key}; it has no files", "a case", f"correct {DESCRIPTION}"
            )
    people = {description.patients.get(name, name) for name in cases}
    if len(people) == 1:
        yield Finding(
            None,
            f"one patient only, {next(iter(people))}",
            "at least two: one to train on and one to validate on",
            "add patients",
        )


def case_findings(
    name: str,
    image: Volume,
    mask: Volume,
    labels: Mapping[str, int],
    *,
    may_be_empty: bool = False,
    ignore: int | None = None,
) -> Iterator[Finding]:
    """A mask on another grid, ids that are neither in ``labels`` nor ``ignore``, an empty mask."""
    ours, theirs = image.geometry, mask.geometry
    if not ours.matches(theirs, GRID_TOLERANCE_MM):
        how = "lie apart in space" if ours.size == theirs.size else "differ in size"
        yield Finding(
            name,
            f"image {ours.size} and mask {theirs.size} do not lie on one grid: they {how}",
            "equal size, spacing, origin and direction",
            "resample the mask onto its image",
        )
    present = {int(value) for value in np.unique(mask.array)} - {ignore}
    unknown = sorted(present - {0, *labels.values()})
    if unknown:
        counted = [f"label {value} ({int((mask.array == value).sum())} voxels)" for value in unknown[:_NAMED]]
        rest = f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
        yield Finding(
            name,
            ", ".join(counted) + rest,
            f"0 or one of {sorted(labels.values())}",
            f"correct the mask or {DESCRIPTION}",
        )
    if not present - {0} and not may_be_empty:
        yield Finding(
            name,
            "its mask is empty",
            "at least one labelled voxel",
            f"remove the case; or, if it truly shows no structure, name it under empty_masks in {DESCRIPTION}",
        )


def fine_findings(name: str, image: Volume, fine: Volume, description: Description, view: View) -> Iterator[Finding]:
    """A mask in ``labelsFull`` that does not cover its image's field of view, slice by slice, with pixels as fine.

    Args:
        name: Name of the case.
        image: Its image.
        fine: The mask.
        description: The data set's.
        view: Direction in which its slices are taken: a finer mask has the same slices.
    """
    ours, theirs = image.geometry, fine.geometry
    # The field of view ends half a voxel beyond the centres of the outermost voxels.
    ends = [geometry.index_to_mm([[-0.5] * 3, [size - 0.5 for size in geometry.size]]) for geometry in (ours, theirs)]
    apart = float(np.abs(ends[0] - ends[1]).max())
    coarser = any(a > b for a, b in zip(ours.size, theirs.size, strict=True))
    if apart > max(theirs.spacing_mm) / 2 or coarser:
        yield Finding(
            name,
            f"its mask in {FINE_MASKS} has {theirs.size} voxels and ends {apart:.2f} mm from where its image ends",
            f"as many voxels as the image's {ours.size} or more, over the same field of view",
            f"correct the mask, or remove it from {FINE_MASKS}",
        )
    across = plan_slices(ours, view=view, spacing_mm=None).permutation[0]
    if theirs.shape[across] > ours.shape[across]:
        yield Finding(
            name,
            f"its mask in {FINE_MASKS} has {theirs.shape[across]} slices ({view})",
            f"the image's {ours.shape[across]}: a finer mask has more rows and columns, and the same slices",
            f"make the mask on the image's slices, or remove it from {FINE_MASKS}",
        )
    unknown = sorted({int(v) for v in np.unique(fine.array)} - {0, *description.labels.values(), description.ignore})
    if unknown:
        yield Finding(
            name,
            f"its mask in {FINE_MASKS} has the label {unknown[0]}",
            f"0 or one of {sorted(description.labels.values())}",
            f"correct the mask or {DESCRIPTION}",
        )


def class_findings(labels: Mapping[str, int], seen: Mapping[str, Collection[int]]) -> Iterator[Finding]:
    """Structures that are in no mask; ``seen`` holds the ids of each case's mask."""
    for structure, value in labels.items():
        if not any(value in ids for ids in seen.values()):
            yield Finding(
                None,
                f"the structure {structure!r} (label {value}) is in none of the {len(seen)} masks",
                f"every label of {DESCRIPTION} in at least one mask",
                f"remove it from {DESCRIPTION}, or add masks that have it",
            )


def patients_of(description: Description, cases: Iterable[str]) -> dict[str, str]:
    """The patient of each case: the one ``dataset.json`` names, or else the case is a patient of its own."""
    return {name: description.patients.get(name, name) for name in cases}


def splits_of(folder: Path, patients: Mapping[str, str]) -> tuple[Split, ...]:
    """The folds in ``splits_final.json``; without that file, five by patient (or as many as there are patients)."""
    path = folder / SPLITS
    if path.exists():
        return read_splits(path)
    return make_splits(patients, max(2, min(FOLDS, len(set(patients.values())))))
