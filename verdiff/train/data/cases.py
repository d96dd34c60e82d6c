"""Prepared cases: slices on the model's pixel spacing with normalised intensities, in memory or as an .npz cache.

A cache is a folder with ``index.json`` and one ``CASE.npz`` a case, holding ``images`` float16 [slices, H, W] in
[-1, 1] and ``labels`` uint8 [slices, H, W]; where there are soft masks ``coverage`` uint8 [slices, K, H, W], and where
the scan has other pixels ``own`` uint8 [slices, its rows, its columns]. It is read with NumPy alone.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from verdiff.errors import DataError, OutputError
from verdiff.files import Staging, made_by_verdiff
from verdiff.train.data.findings import refuse_first
from verdiff.train.data.splits import fold_findings, make_splits

INDEX = "index.json"
# The "fold" that trains on every case and puts none aside, for weights that are to be released.
ALL = -1
# In label maps: a pixel of which nothing is known, nnU-Net's label "ignore".
IGNORE = 255
# Slices of validation patients that a run puts aside for the checks of its export.
VERIFICATION_SLICES = "verification.npz"


@dataclass(frozen=True)
class CaseSlices:
    """One patient's (or film's) slices in canonical orientation, without padding.

    Attributes:
        name: The case's name in the data set.
        images: float16 [slices, H, W] in [-1, 1].
        labels: uint8 [slices, H, W], 0 background, then channel order + 1; :data:`IGNORE` where nothing is known.
        spacing_mm: Row and column spacing of these pixels, and the distance between slices.
        coverage: uint8 [slices, K, H, W], the share of each pixel that a structure covers, 255 for all of it; None
            where masks are not soft.
        own: uint8 [slices, rows, columns], the labels on the pixels of the scan (or of a finer mask) itself, for
            validation there; None where those are the prepared ones.
        unknown: Channels of structures that the case's data set does not label: neither there nor absent.
        data_set: The data set it came from, where several are joined.
        weight: How often it is drawn for training, relative to the others.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    spacing_mm: tuple[float, float, float]
    coverage: np.ndarray | None = None
    own: np.ndarray | None = None
    unknown: tuple[int, ...] = ()
    data_set: str = ""
    weight: float = 1.0

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What there is of its arrays, by field."""
        named = {"images": self.images, "labels": self.labels, "coverage": self.coverage, "own": self.own}
        return {name: array for name, array in named.items() if array is not None}


@dataclass(frozen=True)
class Dataset:
    """A prepared data set.

    Attributes:
        name: Folder name of the source data set.
        labels: Foreground structure names in channel order.
        label_ids: Their ids in the masks verdiff writes (and in the source).
        cases: All cases.
        splits: Names under ``train`` and ``val``, fold by fold.
        statistics: Measured ranges of the source scans, for the bundle's suitability check.
        preparation: The ``[data]`` settings that the cases were made with (:meth:`DataConfig.preparation`).
        patients: The patient of each case; a case that is not in it is a patient of its own.
        stated_splits: Whether the splits came with the data set, and were not made from its patients.
        remarks: What has to be said of it when it is trained on, such as channels that are left out.
    """

    name: str
    labels: tuple[str, ...]
    label_ids: tuple[int, ...]
    cases: tuple[CaseSlices, ...]
    splits: tuple[dict[str, list[str]], ...]
    statistics: dict[str, Any]
    preparation: Mapping[str, Any]
    patients: Mapping[str, str] = field(default_factory=dict)
    stated_splits: bool = True

    def parts(self, validation: Sequence[CaseSlices]) -> dict[str, dict[str, Any]]:
        """What each of several joined data sets brings, under its name; empty for a single one.

        Cases, patients, the weight of a patient, the structures it labels, and the names in it of its cases among those
        put aside for ``validation``.
        """
        found: dict[str, dict[str, Any]] = {}
        for name in dict.fromkeys(case.data_set for case in self.cases if case.data_set):
            cases = [case for case in self.cases if case.data_set == name]
            people = {self.patients.get(case.name, case.name) for case in cases}
            found[name] = {
                "cases": len(cases),
                "patients": len(people),
                "weight": round(sum(case.weight for case in cases) / len(people), 6),
                "structures": [label for k, label in enumerate(self.labels) if k not in cases[0].unknown],
                "validation_cases": [
                    case.name.removesuffix(f"@{name}") for case in validation if case.data_set == name
                ],
            }
        return found

    remarks: tuple[str, ...] = ()

    def refolded(self, folds: int) -> Dataset:
        """The same cases in folds made by patient, whatever splits the data set brought.

        Raises:
            DataError: Fewer than two folds, or fewer patients than folds.
        """
        patients = {case.name: self.patients.get(case.name, case.name) for case in self.cases}
        return replace(self, splits=make_splits(patients, folds), stated_splits=False)

    def fold(self, fold: int) -> tuple[list[CaseSlices], list[CaseSlices]]:
        """Training and validation cases of a fold; of :data:`ALL`, all cases and those of fold 0 that are only watched.

        Raises:
            DataError: An unknown fold, a patient on both sides, an unknown case, an empty side, or a structure that is
                in no training mask although more than one patient has it.
        """
        if fold == ALL:
            return list(self.cases), self.fold(0)[1]
        if not 0 <= fold < len(self.splits):
            raise DataError(
                f"fold {fold}", f"0 to {len(self.splits) - 1} ({self.name} has {len(self.splits)})", "pass --fold"
            )
        split, by_name = self.splits[fold], {case.name: case for case in self.cases}
        refuse_first(fold_findings(fold, split, by_name, self.patients))
        self._refuse_unseen(fold, [by_name[name] for name in split["train"]])
        return [by_name[name] for name in split["train"]], [by_name[name] for name in split["val"]]

    def _refuse_unseen(self, fold: int, training: list[CaseSlices]) -> None:
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


# What the index says of a case; an older index lacks all but the first.
_FACTS = ("spacing_mm", "unknown", "data_set", "weight")


def write_cache(dataset: Dataset, folder: Path) -> None:
    """Write ``dataset`` as a cache, all of it or nothing; it may replace a cache that verdiff wrote.

    Raises:
        OutputError: It cannot be written, or the folder holds a file of such a name that is not verdiff's.
    """
    with cache_files(folder) as staged:
        for case in dataset.cases:
            np.savez_compressed(staged[folder / f"{case.name}.npz"], **case.arrays)  # type: ignore[arg-type]
        staged[folder / INDEX].write_text(json.dumps(_index(dataset), indent=1), "utf-8")


def cache_files(folder: Path) -> Staging:
    """Where the files of a cache in ``folder`` are written until all are there.

    Raises:
        OutputError: The folder holds an index that is not verdiff's.
    """
    ours = made_by_verdiff(folder / INDEX)

    def check(path: Path) -> None:
        if os.path.lexists(path) and not (ours and path.is_file()):
            raise OutputError(
                f"{path} is there, and the folder holds no cache that verdiff wrote",
                "a new folder, or a cache of an earlier 'verdiff train --prepare'",
                "choose another folder with -o, or move the file away",
            )

    check(folder / INDEX)
    return Staging(folder, check=check, mark=True)


def _index(dataset: Dataset) -> dict[str, Any]:
    index = {
        **{k: v for k, v in asdict(dataset).items() if k != "cases"},
        "cases": [{key: getattr(case, key) for key in ("name", *_FACTS)} for case in dataset.cases],
    }
    return index


def read_cache(folder: Path) -> Dataset:
    """Read a cache. Raises DataError when a file is missing or does not match the index."""
    try:
        index = json.loads((folder / INDEX).read_text("utf-8"))
        cases = []
        for entry in index["cases"]:
            with np.load(folder / f"{entry['name']}.npz", allow_pickle=False) as arrays:
                images, labels = arrays["images"], arrays["labels"]
                further: dict[str, Any] = {name: arrays[name] for name in ("coverage", "own") if name in arrays}
            if images.ndim != 3 or images.shape != labels.shape:
                raise DataError(
                    f"{entry['name']}.npz has images {images.shape} and labels {labels.shape}",
                    "two arrays [slices, H, W] of one shape",
                    "prepare the cache again with verdiff train --prepare",
                )
            facts: dict[str, Any] = {
                key: tuple(entry[key]) if isinstance(entry[key], list) else entry[key] for key in _FACTS if key in entry
            }
            cases.append(CaseSlices(entry["name"], images, labels, **facts, **further))
        return Dataset(
            index["name"],
            tuple(index["labels"]),
            tuple(index["label_ids"]),
            tuple(cases),
            tuple(index["splits"]),
            index["statistics"],
            index["preparation"],
            index.get("patients", {}),
            index.get("stated_splits", True),
        )
    except (OSError, EOFError, zipfile.BadZipFile, KeyError, ValueError, TypeError) as error:
        raise DataError(
            f"{folder.name} is not a complete cache ({type(error).__name__}: {error})",
            f"a folder with {INDEX} and one .npz a case",
            "prepare it again with verdiff train --prepare",
        ) from error


def slices_of(cases: list[CaseSlices]) -> int:
    """Number of slices in ``cases``."""
    return sum(len(case.images) for case in cases)
