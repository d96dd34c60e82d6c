"""Prepared cases: slices on the model's pixel spacing with normalised intensities, in memory or as an .npz cache.

A cache is a folder with ``index.json`` and one ``CASE.npz`` a case, holding ``images`` float16 [slices, H, W] in
[-1, 1] and ``labels`` uint8 [slices, H, W]. It is read with NumPy alone.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from verdiff.errors import DataError
from verdiff.train.data.findings import refuse_first
from verdiff.train.data.splits import FOLDS, SEED, fold_findings, make_splits

INDEX = "index.json"
# Slices of validation patients that a run puts aside for the checks of its export.
VERIFICATION_SLICES = "verification.npz"


@dataclass(frozen=True)
class Case:
    """One patient's (or film's) slices in canonical orientation, without padding.

    Attributes:
        name: The case's name in the data set.
        images: float16 [slices, H, W] in [-1, 1].
        labels: uint8 [slices, H, W], 0 background, then channel order + 1.
        spacing_mm: Row and column spacing of these pixels, and the distance between slices.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    spacing_mm: tuple[float, float, float]


@dataclass(frozen=True)
class Dataset:
    """A prepared data set.

    Attributes:
        name: Folder name of the source data set.
        labels: Foreground structure names in channel order.
        label_ids: Their ids in the masks verdiff writes (and in the source).
        cases: All cases.
        splits: Per fold, the names under ``train`` and ``val``.
        statistics: Measured ranges of the source scans, for the bundle's suitability check.
        preparation: The ``[data]`` settings that the cases were made with (:meth:`DataConfig.preparation`).
        patients: The patient of each case; a case that is not in it is a patient of its own.
        remarks: What has to be said of it when it is trained on, such as channels that are left out.
    """

    name: str
    labels: tuple[str, ...]
    label_ids: tuple[int, ...]
    cases: tuple[Case, ...]
    splits: tuple[dict[str, list[str]], ...]
    statistics: dict[str, Any]
    preparation: Mapping[str, Any]
    patients: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    def refolded(self, folds: int = FOLDS, seed: int = SEED) -> Dataset:
        """The same cases in folds made by patient, whatever splits the data set brought.

        Raises:
            DataError: Fewer than two folds, or fewer patients than folds.
        """
        patients = {case.name: self.patients.get(case.name, case.name) for case in self.cases}
        return replace(self, splits=make_splits(patients, folds, seed))

    def fold(self, fold: int) -> tuple[list[Case], list[Case]]:
        """Training and validation cases of a fold.

        Raises:
            DataError: An unknown fold, a patient on both sides, an unknown case, an empty side, or a structure that is
                in no training mask although more than one patient has it.
        """
        if not 0 <= fold < len(self.splits):
            raise DataError(
                f"fold {fold}", f"0 to {len(self.splits) - 1} ({self.name} has {len(self.splits)})", "pass --fold"
            )
        split, by_name = self.splits[fold], {case.name: case for case in self.cases}
        refuse_first(fold_findings(fold, split, by_name, self.patients))
        self._refuse_unseen(fold, [by_name[name] for name in split["train"]])
        return [by_name[name] for name in split["train"]], [by_name[name] for name in split["val"]]

    def _refuse_unseen(self, fold: int, training: list[Case]) -> None:
        for index, structure in enumerate(self.labels, start=1):
            if any(bool((case.labels == index).any()) for case in training):
                continue
            having = [case.name for case in self.cases if bool((case.labels == index).any())]
            # What one patient alone has cannot be on both sides of any fold.
            if len({self.patients.get(name, name) for name in having}) > 1:
                raise DataError(
                    f"the structure {structure!r} is in none of the {len(training)} training masks of fold {fold}",
                    "every structure in the training side of the fold",
                    "choose another fold, or leave the structure out of the data set",
                )


def write_cache(dataset: Dataset, folder: Path) -> None:
    """Write ``dataset`` as a cache; the index comes last, so a folder without one is an unfinished cache."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / INDEX).unlink(missing_ok=True)
    for case in dataset.cases:
        np.savez_compressed(folder / f"{case.name}.npz", images=case.images, labels=case.labels)
    index = {
        **{k: v for k, v in asdict(dataset).items() if k != "cases"},
        "cases": [{"name": case.name, "spacing_mm": case.spacing_mm} for case in dataset.cases],
    }
    (folder / INDEX).write_text(json.dumps(index, indent=1), "utf-8")


def read_cache(folder: Path) -> Dataset:
    """Read a cache. Raises DataError when a file is missing or does not match the index."""
    try:
        index = json.loads((folder / INDEX).read_text("utf-8"))
        cases = []
        for entry in index["cases"]:
            with np.load(folder / f"{entry['name']}.npz", allow_pickle=False) as arrays:
                images, labels = arrays["images"], arrays["labels"]
            if images.ndim != 3 or images.shape != labels.shape:
                raise DataError(
                    f"{entry['name']}.npz has images {images.shape} and labels {labels.shape}",
                    "two arrays [slices, H, W] of one shape",
                    "prepare the cache again with verdiff train --prepare",
                )
            cases.append(Case(entry["name"], images, labels, tuple(entry["spacing_mm"])))
        return Dataset(
            index["name"],
            tuple(index["labels"]),
            tuple(index["label_ids"]),
            tuple(cases),
            tuple(index["splits"]),
            index["statistics"],
            index["preparation"],
            index.get("patients", {}),
        )
    except (OSError, EOFError, zipfile.BadZipFile, KeyError, ValueError, TypeError) as error:
        raise DataError(
            f"{folder.name} is not a complete cache ({type(error).__name__}: {error})",
            f"a folder with {INDEX} and one .npz a case",
            "prepare it again with verdiff train --prepare",
        ) from error
