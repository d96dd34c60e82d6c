"""Several data sets as one: structures by name, patients by name, folds in which nobody stands on both sides."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from verdiff.errors import DataError
from verdiff.train.data.cases import CaseSlices, Dataset
from verdiff.train.data.splits import FOLDS, SEED, Split

# Letters and a number at the beginning of a case's name, as in spider108t2_s03: what most data sets call a patient.
LEADING_NUMBER = r"[A-Za-z]*[-_]?\d+"


@dataclass(frozen=True)
class TrainingSource:
    """One data set to train on.

    Attributes:
        folder: An nnU-Net raw data set, or a prepared cache.
        weight: How often one of its patients is drawn, relative to those of the others.
    """

    folder: Path
    weight: float = 1.0

    @classmethod
    def parse(cls, text: str) -> TrainingSource:
        """``FOLDER`` or ``FOLDER:WEIGHT``, as on the command line.

        Raises:
            DataError: The weight is not a number above 0.
        """
        folder, colon, weight = text.rpartition(":")
        if not colon or Path(text).exists() or "/" in weight or "\\" in weight:
            return cls(Path(text))
        try:
            number = float(weight)
        except ValueError:
            number = 0.0
        if not 0 < number < float("inf"):
            raise DataError(
                f"--data {text} with the weight {weight!r}",
                "FOLDER, or FOLDER:WEIGHT with a weight above 0, such as Dataset106_SpineT2Slices:0.5",
                "correct the weight",
            )
        return cls(Path(folder), number)


def with_patients(dataset: Dataset, pattern: str) -> Dataset:
    """``dataset`` with the patient of each case read from its name, where the data set does not name one.

    Args:
        dataset: A prepared data set.
        pattern: A regular expression; what it matches first in a case's name is the patient.

    Raises:
        DataError: The pattern is none, or does not match a case's name.
    """
    try:
        search = re.compile(pattern).search
    except re.error as error:
        raise DataError(f"--patients {pattern!r}: {error}", "a regular expression", "correct it") from error
    patients = {}
    for case in dataset.cases:
        named = dataset.patients.get(case.name, case.name)
        match = search(case.name)
        if named == case.name and not (match and match.group()):
            raise DataError(
                f"case {case.name} has no part that matches --patients {pattern!r}",
                "a pattern that finds the patient in every case's name",
                "correct the pattern, or name patients in dataset.json",
            )
        patients[case.name] = match.group() if named == case.name and match else named
    return replace(dataset, patients=patients)


def join(parts: Sequence[tuple[Dataset, float]], *, patients: str | None = None) -> Dataset:
    """Several data sets as one.

    Structures are joined by name. What a data set does not name is unknown on its cases: it is neither learned nor
    scored there. A patient is drawn by the weight of his data set, and then one of his cases. Cases keep their names;
    one that is taken gets its data set's name behind it. Folds are those of the data sets that bring some; patients
    of no such set are shuffled into them. A patient of several sets validates wherever one of them says so; one whom
    such a set puts on neither side is on neither in any other set, and a case that it leaves out stays out.

    Args:
        parts: Data sets, all prepared with the same settings, and their weights.
        patients: Pattern of a patient within a case's name, for cases whose data set does not name their patient;
            :data:`LEADING_NUMBER` by default, or the whole name where that does not match.

    Raises:
        DataError: A data set is named twice, preparations differ, or a patient is on both sides of a fold.
    """
    sets = [part for part, _ in parts]
    _refuse_unlike(sets)
    named = [_named(part, patients) for part in sets]
    labels, ids = _joint_labels(sets)
    cases: list[CaseSlices] = []
    joint_patients: dict[str, str] = {}
    names: dict[tuple[str, str], str] = {}
    for part, weight in zip(named, (weight for _, weight in parts), strict=True):
        many = Counter(part.patients[case.name] for case in part.cases)
        for case in part.cases:
            name = case.name if case.name not in joint_patients else f"{case.name}@{part.name}"
            names[part.name, case.name] = name
            patient = part.patients[case.name]
            joint_patients[name] = patient
            cases.append(_joined(case, name, part, labels, weight / many[patient]))
    return Dataset(
        " + ".join(part.name for part in sets),
        labels,
        ids,
        tuple(cases),
        _joint_splits(named, names, joint_patients),
        _widest(sets, labels),
        sets[0].preparation,
        joint_patients,
        remarks=tuple(f"{part.name}: {remark}" for part in sets for remark in part.remarks),
    )


def _refuse_unlike(sets: Sequence[Dataset]) -> None:
    twice = [name for name, times in Counter(part.name for part in sets).items() if times > 1]
    if twice:
        raise DataError(f"the data set {twice[0]} is named twice", "each data set once", "raise its weight instead")
    for part in sets[1:]:
        if part.preparation != sets[0].preparation:
            raise DataError(
                f"{part.name} was prepared with other settings than {sets[0].name}",
                "data sets prepared with one configuration",
                "prepare them again, or name the raw data sets",
            )


def _named(part: Dataset, pattern: str | None) -> Dataset:
    if pattern is not None:
        return with_patients(part, pattern)
    patients = {}
    for case in part.cases:
        known, match = part.patients.get(case.name, case.name), re.match(LEADING_NUMBER, case.name)
        patients[case.name] = match.group() if known == case.name and match else known
    return replace(part, patients=patients)


def _joint_labels(sets: Sequence[Dataset]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Structures in the order of their first appearance; an id that is taken gives way to the next free one."""
    table: dict[str, int] = {}
    for part in sets:
        for name, value in zip(part.labels, part.label_ids, strict=True):
            if name not in table:
                free = value if value not in table.values() else max(table.values()) + 1
                table[name] = free
    return tuple(table), tuple(table.values())


def _joined(case: CaseSlices, name: str, part: Dataset, labels: tuple[str, ...], weight: float) -> CaseSlices:
    """A case with the joint data set's channels."""
    channels = [labels.index(structure) for structure in part.labels]
    unknown = {channels[k] for k in case.unknown} | (set(range(len(labels))) - set(channels))
    if channels == list(range(len(labels))):
        return replace(case, name=name, data_set=part.name, weight=weight, unknown=tuple(sorted(unknown)))
    numbers = np.arange(256, dtype=np.uint8)
    numbers[1 : len(channels) + 1] = np.array(channels, dtype=np.uint8) + 1
    coverage = None
    if case.coverage is not None:
        coverage = np.zeros((len(case.coverage), len(labels), *case.coverage.shape[2:]), np.uint8)
        coverage[:, channels] = case.coverage
    return replace(
        case,
        name=name,
        data_set=part.name,
        weight=weight,
        labels=numbers[case.labels],
        own=None if case.own is None else numbers[case.own],
        coverage=coverage,
        unknown=tuple(sorted(unknown)),
    )


def _widest(sets: Sequence[Dataset], labels: tuple[str, ...]) -> dict[str, list[float]]:
    """The ranges of what was measured, over all sets.

    How far the structures hang together is known only where all of them are labelled.
    """
    found: dict[str, list[float]] = {}
    for part in sets:
        for key, (least, most) in part.statistics.items():
            if key == "largest_part" and len(part.labels) < len(labels):
                continue
            low, high = found.get(key, (least, most))
            found[key] = [min(low, least), max(high, most)]
    return found


def _joint_splits(
    sets: Sequence[Dataset], names: Mapping[tuple[str, str], str], patients: Mapping[str, str]
) -> tuple[Split, ...]:
    stated = [part for part in sets if part.stated_splits]
    count = len(stated[0].splits) if stated else max(2, min(FOLDS, len(set(patients.values()))))
    for part in stated:
        if len(part.splits) != count:
            raise DataError(
                f"{part.name} has {len(part.splits)} folds and {stated[0].name} {count}",
                "data sets of as many folds",
                "pass --folds: folds are then made by patient",
            )
    fixed = {patients[names[part.name, case.name]] for part in stated for case in part.cases}
    free = sorted(set(patients.values()) - fixed)
    random.Random(SEED).shuffle(free)
    return tuple(_joint_fold(fold, stated, names, patients, set(free[fold::count])) for fold in range(count))


def _joint_fold(
    fold: int,
    stated: Sequence[Dataset],
    names: Mapping[tuple[str, str], str],
    patients: Mapping[str, str],
    dealt: set[str],
) -> Split:
    """One fold: ``dealt`` are the patients of no stated set that validate in it."""
    validated, out, left = set(dealt), set[str](), set[str]()
    for part in stated:
        sides = {case: side for side in ("train", "val") for case in part.splits[fold][side]}
        found: dict[str, set[str | None]] = {}
        for case in part.cases:
            name, side = names[part.name, case.name], sides.get(case.name)
            found.setdefault(patients[name], set()).add(side)
            if side is None:
                left.add(name)
        validated |= {patient for patient, where in found.items() if "val" in where}
        out |= {patient for patient, where in found.items() if where == {None}}
    there = {case: patient for case, patient in patients.items() if case not in left}
    return {
        "train": sorted(case for case, patient in there.items() if patient not in validated | out),
        "val": sorted(case for case, patient in there.items() if patient in validated),
    }
