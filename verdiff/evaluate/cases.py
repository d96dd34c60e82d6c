"""Pair the predictions of one folder with the references of another and check that they share a grid.

Nothing is left out silently: a case with only one of the two masks is an error that names it, unless the caller lists
the cases to score.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verdiff.errors import DataError
from verdiff.imaging.identity import refuse_other_frame_of_reference
from verdiff.imaging.reading import read_labels
from verdiff.imaging.volume import Geometry

MASK_SUFFIXES = (".seg.nrrd", ".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", ".png")
CORNER_TOLERANCE_MM = 0.01
# Of a list of cases.
LIST_SUFFIXES = (".txt", ".list", ".csv")


@dataclass(frozen=True)
class Pair:
    """The two masks of one case."""

    case: str
    prediction: Path
    reference: Path


@dataclass(frozen=True)
class LoadedPair:
    """The label ids of one case on one grid.

    Attributes:
        prediction: Label ids [z, y, x].
        reference: Label ids [z, y, x].
        geometry: The grid of the reference.
    """

    prediction: NDArray[np.integer[Any]]
    reference: NDArray[np.integer[Any]]
    geometry: Geometry

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Spacing (z, y, x)."""
        x, y, z = (float(spacing) for spacing in self.geometry.spacing_mm)
        return z, y, x


def case_name(path: Path) -> str:
    """The case of a file: its name without suffix, ``_seg`` (verdiff's masks) and ``_0000`` (nnU-Net's channel)."""
    name = path.name
    suffix = next((suffix for suffix in MASK_SUFFIXES if name.lower().endswith(suffix)), "")
    return name[: len(name) - len(suffix)].removesuffix("_seg").removesuffix("_0000")


def mask_files(folder: Path) -> dict[str, Path]:
    """The masks of a folder by case.

    Where some files end in ``_seg``, as ``verdiff infer`` writes them, only those are masks: scans, uncertainty maps
    and previews lie beside them.

    Raises:
        DataError: The folder is missing or holds no mask, or two files are of one case.
    """
    if not folder.is_dir():
        raise DataError(f"no folder {folder}", "a folder of masks", "check the path")
    # Hidden files are none: macOS keeps ._case.nii.gz beside case.nii.gz on disks of other systems.
    files = sorted(
        path
        for path in folder.iterdir()
        if path.name.lower().endswith(MASK_SUFFIXES) and not path.name.startswith(".") and path.is_file()
    )
    marked = [path for path in files if any(path.name.lower().endswith("_seg" + suffix) for suffix in MASK_SUFFIXES)]
    masks: dict[str, Path] = {}
    for path in marked or files:
        other = masks.setdefault(case_name(path), path)
        if other is not path:
            raise DataError(f"{other.name} and {path.name} in {folder}", "one mask a case", "move one of them away")
    if not masks:
        raise DataError(f"no mask in {folder}", "files ending in " + ", ".join(MASK_SUFFIXES), "check the path")
    return masks


def pair_cases(predictions: Path, references: Path, cases: Iterable[str] | None = None) -> list[Pair]:
    """Pair two folders case by case, or two files as the one case they are.

    Args:
        predictions: Folder of predicted masks, or one file.
        references: Folder of reference masks, or one file.
        cases: The cases to score; None scores all and wants the two folders to hold the same cases.

    Raises:
        DataError: A case lacks its prediction or its reference; every such case is named.
    """
    if predictions.is_file() and references.is_file():
        return [Pair(case_name(references), predictions, references)]
    predicted, expected = mask_files(predictions), mask_files(references)
    wanted = sorted(predicted.keys() | expected.keys()) if cases is None else list(dict.fromkeys(cases))
    if not wanted:
        raise DataError("an empty list of cases", "at least one case to score", "name the cases, or none to score all")
    lacking = [f"no prediction for {case}" for case in wanted if case not in predicted]
    lacking += [f"no reference for {case}" for case in wanted if case not in expected]
    if lacking:
        raise DataError(
            "; ".join(lacking),
            f"one mask a case in {predictions} and in {references}",
            "make the missing masks, or name the cases to score" if cases is None else _there(predicted, expected),
        )
    return [Pair(case, predicted[case], expected[case]) for case in wanted]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        # Many names, joined by commas, are longer than a file's name can be.
        return False


def _there(predicted: Iterable[str], expected: Iterable[str]) -> str:
    """What may be named instead of a case that is not there."""
    both = sorted(set(predicted) & set(expected))
    return f"name some of {', '.join(both[:5])}{', ...' if len(both) > 5 else ''}" if both else "check the two folders"


def named_cases(text: str) -> list[str]:
    """The cases that a text names: joined by commas, or in a file with one a line, where ``#`` begins a remark.

    A file's name counts as its case's, so that ``a_0000.nii.gz`` and ``a_seg.nii.gz`` are ``a``.

    Raises:
        DataError: It names none, one twice, or the file cannot be read.
    """
    path, parts = Path(text), text.split(",")
    if path.suffix in LIST_SUFFIXES or _is_file(path):
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, ValueError) as error:
            raise DataError(
                f"the list of cases {path} cannot be read ({error})",
                "a text file with one case a line",
                "check --cases",
            ) from error
        parts = [part for line in lines for part in line.partition("#")[0].split(",")]
    found = [case_name(Path(part.strip())) for part in parts if part.strip()]
    twice = sorted({case for case in found if found.count(case) > 1})
    if not found or twice:
        raise DataError(
            f"{', '.join(twice)} twice" if twice else f"no case in {text!r}",
            "each case once: NAME,NAME or a file with one a line",
            "correct --cases",
        )
    return found


def validation_cases(splits: Path, fold: int) -> list[str]:
    """The validation cases of one fold of nnU-Net's ``splits_final.json``.

    Raises:
        DataError: The file cannot be read, is not such a list, or has no such fold.
    """
    try:
        if fold < 0:
            raise IndexError(f"fold {fold}")
        return [str(case) for case in json.loads(splits.read_text(encoding="utf-8"))[fold]["val"]]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(
            f"{splits}, fold {fold}: {type(error).__name__}: {error}",
            'a list of folds, each with "train" and "val"',
            "give the data set's splits_final.json and one of its folds, counted from 0",
        ) from error


def load_pair(pair: Pair, orientation: str | None = None) -> LoadedPair:
    """Read both masks of a case.

    Args:
        pair: The case.
        orientation: What to take where a file leaves its orientation open, as :func:`verdiff.imaging.read_labels`.

    Raises:
        DataError: The grids differ.
        InputError: The two were read from DICOM and lie in different frames of reference; a file cannot be read, or
            holds anything but whole numbers from 0 on.
    """
    prediction, reference = (read_labels(path, orientation=orientation) for path in (pair.prediction, pair.reference))
    refuse_other_frame_of_reference(
        (pair.prediction.name, prediction.identity), (pair.reference.name, reference.identity)
    )
    check_same_grid(pair.case, (pair.prediction, prediction.geometry), (pair.reference, reference.geometry))
    return LoadedPair(prediction.array, reference.array, reference.geometry)


def load_uncertainty(pair: Pair, geometry: Geometry, orientation: str | None = None) -> NDArray[np.uint8]:
    """The uncertainty map beside a prediction, as ``verdiff infer --uncertainty`` writes it.

    Args:
        pair: The case.
        geometry: The grid of its reference.
        orientation: See :func:`load_pair`.

    Returns:
        0 sure ... 255 unsure, uint8 [z, y, x].

    Raises:
        DataError: There is none, it is on another grid, or its values leave 0 ... 255.
        InputError: The file cannot be read, or holds anything but whole numbers from 0 on.
    """
    name = pair.prediction.name
    suffix = next((suffix for suffix in MASK_SUFFIXES if name.lower().endswith(suffix)), "")
    stem = name[: len(name) - len(suffix)].removesuffix("_seg") + "_uncertainty"
    path = next((path for s in MASK_SUFFIXES if (path := pair.prediction.with_name(stem + s)).is_file()), None)
    if path is None:
        raise DataError(
            f"no uncertainty for {pair.case}: no {stem + suffix} beside {name}",
            "an uncertainty map beside every mask",
            "write it with verdiff infer --uncertainty, or score without it",
        )
    found = read_labels(path, orientation=orientation)
    check_same_grid(pair.case, (path, found.geometry), (pair.reference, geometry))
    if found.array.max() > np.iinfo(np.uint8).max:
        raise DataError(
            f"case {pair.case}: values up to {found.array.max()} in {path.name}",
            "uncertainty from 0 (sure) to 255 (unsure)",
            "write it with verdiff infer --uncertainty",
        )
    return found.array.astype(np.uint8)


def check_same_grid(case: str, first: tuple[Path, Geometry], second: tuple[Path, Geometry]) -> None:
    """Refuse two files that do not share a grid.

    Args:
        case: Whose files they are.
        first: A file and its grid.
        second: The file that it belongs to, and its grid.

    Raises:
        DataError: The sizes differ, or a corner lies elsewhere.
    """
    (path, there), (other, here) = first, second
    if there.size != here.size:
        found = f"{there.size} voxels for {here.size}"
    else:
        gap = float(np.linalg.norm(there.corners_mm() - here.corners_mm(), axis=1).max())
        found = f"corners up to {gap:.3g} mm apart" if gap > CORNER_TOLERANCE_MM else ""
    if found:
        raise DataError(
            f"case {case}: {found} ({path.name}, {other.name})",
            f"the same grid: size, and corners within {CORNER_TOLERANCE_MM} mm",
            f"resample {path.name} to the other's grid, or check that the files belong together",
        )
