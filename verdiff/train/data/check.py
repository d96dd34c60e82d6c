"""``verdiff data check``: everything that is wrong with an nnU-Net raw data set, found in one pass over its files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from verdiff.choices import View
from verdiff.errors import DataError, VerdiffError
from verdiff.imaging.reading import read_labels, read_volume
from verdiff.imaging.slicing import acquisition_view
from verdiff.imaging.volume import Volume
from verdiff.progress import tracked
from verdiff.train.data.findings import Finding
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
from verdiff.train.data.splits import SPLITS, Split, fold_findings, never_validated


@dataclass(frozen=True)
class DataReport:
    """What was looked at and what is wrong with it.

    Attributes:
        name: The data set's folder name.
        cases: Number of masks.
        patients: Number of patients among them.
        labels: Id of each structure.
        cases_with: Number of masks that hold each structure.
        folds: Number of folds, those made by patient included.
        findings: Fatal ones first, otherwise in the order of the files.
    """

    name: str
    cases: int
    patients: int
    labels: dict[str, int]
    cases_with: dict[str, int]
    folds: int
    findings: tuple[Finding, ...]

    @property
    def usable(self) -> bool:
        """Whether nothing fatal was found."""
        return not any(finding.fatal for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "usable": self.usable}


@dataclass(frozen=True)
class Seen:
    """What the pass over the files leaves behind of a case: the ids in its mask, and a digest of its image's voxels."""

    ids: frozenset[int]
    digest: str


@dataclass(frozen=True)
class Inspection:
    """What was found of a raw data set, and what a look at it beside others needs.

    Attributes:
        report: What is wrong with it.
        patients: The patient of each case.
        splits: Its folds, those made by patient included.
        stated_splits: Whether it brought them.
        seen: Its cases.
    """

    report: DataReport
    patients: Mapping[str, str] = field(default_factory=dict)
    splits: tuple[Split, ...] = ()
    stated_splits: bool = False
    seen: Mapping[str, Seen] = field(default_factory=dict)


def check_dataset(folder: Path, *, orientation: str | None = None) -> DataReport:
    """Look at every file of a raw data set; nothing is changed.

    Found are: a ``dataset.json`` that cannot be used, missing pairs and channels, strange files, files that cannot be
    read, masks on another grid, labels outside the table, empty masks, structures that no mask holds or that a fold
    never trains on, a single patient, patients or identical images on both sides of a fold, cases no fold validates.

    Args:
        folder: Folder with ``dataset.json``, ``imagesTr`` and ``labelsTr``.
        orientation: What to take where a file leaves its orientation open, as :func:`verdiff.imaging.read_volume`.

    Raises:
        DataError: There is no such folder. Everything else is in the report.
    """
    return inspect(folder, orientation=orientation).report


def inspect(folder: Path, *, orientation: str | None = None) -> Inspection:
    """:func:`check_dataset`, with what it saw beside its report."""
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}", f"an nnU-Net raw data set with {DESCRIPTION}", "check the path")
    try:
        description = read_description(folder)
        files = find_files(folder, description.ending)
    except DataError as error:
        found = (Finding(None, error.found, error.expected, error.remedy),)
        return Inspection(DataReport(folder.name, 0, 0, {}, {}, 0, found))
    names = list(files.masks)
    patients = patients_of(description, names)
    findings = [
        *_file_findings(description, files),
        *pair_findings(files, description.ending),
        *patient_findings(description, files.masks),
    ]
    seen: dict[str, Seen] = {}
    for name in tracked(names):
        if name in files.images:
            about, seen[name] = _look_at(name, files, description, orientation)
            findings += about
    ids = {name: case.ids for name, case in seen.items()}
    findings += class_findings(description.labels, ids)
    splits: tuple[Split, ...] = ()
    try:
        splits = splits_of(folder, patients)
    except DataError as error:
        # A single patient has been found by then, under its own name.
        if len(set(patients.values())) > 1:
            findings.append(Finding(None, error.found, error.expected, error.remedy))
    findings += _split_findings(splits, description, patients, ids)
    findings += twin_findings(splits, seen, patients)
    report = DataReport(
        folder.name,
        len(names),
        len(set(patients.values())),
        dict(description.labels),
        {name: sum(value in held for held in ids.values()) for name, value in description.labels.items()},
        len(splits),
        tuple(sorted(findings, key=lambda finding: not finding.fatal)),
    )
    return Inspection(report, patients, splits, (folder / SPLITS).exists(), seen)


def _file_findings(description: Description, files: Files) -> Iterator[Finding]:
    if description.stated_cases not in (None, len(files.masks)):
        yield Finding(
            None,
            f"{DESCRIPTION} has numTraining {description.stated_cases}; there are {len(files.masks)} masks",
            "the number of cases",
            f"correct {DESCRIPTION}, or complete the data set",
            fatal=False,
        )
    for name in files.strange:
        yield Finding(
            None,
            f"{name} is no file of the layout",
            f"CASE_0000{description.ending} in imagesTr, CASE{description.ending} in labelsTr",
            "rename or remove it; it is not read",
            fatal=False,
        )
    if (remark := channel_remark(description, files)) is not None:
        yield Finding(
            None,
            remark,
            "one channel: verdiff trains on the first alone",
            "make a data set of its own for another channel, or leave it as it is",
            fatal=False,
        )
    for channel, having in files.further.items():
        lacking = sorted(set(files.masks) - having)
        if lacking:
            yield Finding(
                lacking[0],
                f"it and {len(lacking) - 1} more have no channel {channel}" if lacking[1:] else f"no channel {channel}",
                "the same channels for every case",
                "complete the data set; verdiff trains on channel 0000 alone, nnU-Net on all",
                fatal=False,
            )


def _look_at(name: str, files: Files, description: Description, orientation: str | None) -> tuple[list[Finding], Seen]:
    findings: list[Finding] = []
    image = mask = None
    try:
        image = read_volume(files.images[name], orientation=orientation)
    except VerdiffError as error:
        findings.append(Finding(name, error.found, error.expected, error.remedy))
    try:
        mask = read_labels(files.masks[name], orientation=orientation)
    except VerdiffError as error:
        findings.append(Finding(name, error.found, error.expected, error.remedy))
    if image is not None and mask is not None:
        findings += case_findings(
            name,
            image,
            mask,
            description.labels,
            may_be_empty=name in description.empty,
            ignore=description.ignore,
        )
    if image is not None and name in files.fine:
        try:
            fine = read_labels(files.fine[name], orientation=orientation)
            findings += fine_findings(name, image, fine, description, _view_of(image))
        except VerdiffError as error:
            findings.append(Finding(name, error.found, error.expected, error.remedy))
    digest = "" if image is None else hashlib.sha256(np.ascontiguousarray(image.array).data).hexdigest()
    ids = frozenset() if mask is None else frozenset(int(value) for value in np.unique(mask.array))
    return findings, Seen(ids, digest)


def _view_of(image: Volume) -> View:
    """The view in which an image is trained on where a configuration says nothing else."""
    return "film" if acquisition_view(image.geometry) == "film" else "sagittal"


def _split_findings(
    splits: Sequence[Split], description: Description, patients: Mapping[str, str], ids: Mapping[str, frozenset[int]]
) -> Iterator[Finding]:
    for number, split in enumerate(splits):
        yield from fold_findings(number, split, patients, patients)
        for structure, value in description.labels.items():
            holders = {patients[name] for name, held in ids.items() if value in held}
            if holders and not any(value in ids.get(name, ()) for name in split["train"]):
                only = f": it validates on the one patient who has it, {min(holders)}" if len(holders) == 1 else ""
                yield Finding(
                    None,
                    f"fold {number} never trains on {structure!r} (label {value}){only}",
                    "every structure in the training side of each fold",
                    f"mend {SPLITS}, or leave the structure out",
                    fatal=len(holders) > 1,
                )
    if splits:
        yield from never_validated(splits, patients)


def twin_findings(splits: Sequence[Split], seen: Mapping[str, Seen], patients: Mapping[str, str]) -> Iterator[Finding]:
    """Images with the same voxels under two names: one scan counted twice, or a patient who hides in two splits."""
    by_digest: dict[str, list[str]] = {}
    for name, case in seen.items():
        if case.digest:
            by_digest.setdefault(case.digest, []).append(name)
    for twins in by_digest.values():
        for one, other in combinations(twins, 2):
            apart = [
                number
                for number, split in enumerate(splits)
                if any(a in split["train"] and b in split["val"] for a, b in ((one, other), (other, one)))
            ]
            same = patients[one] == patients[other]
            where = f", on both sides of fold {apart[0]}" if apart else ""
            yield Finding(
                other,
                f"its image is that of case {one}{where}",
                "each scan once, and all scans of a patient on one side of a fold",
                "remove one of them"
                if same
                else f"remove one of them, or give both one patient under patients in {DESCRIPTION}",
                fatal=bool(apart),
            )
