"""Folds by patient: made from a seed where a data set brings none, read from ``splits_final.json`` where it does."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from verdiff.errors import DataError
from verdiff.imaging.atomic import atomic_path
from verdiff.train.data.findings import Finding

SPLITS = "splits_final.json"
FOLDS = 5
# The seed of Verdiff-Net's experiments (section 3.2).
SEED = 35

Split: TypeAlias = dict[str, list[str]]


@dataclass(frozen=True)
class FoldOptions:
    """How folds are made: see :func:`make_splits`."""

    folds: int = FOLDS
    seed: int = SEED
    first: tuple[str, ...] = ()


def make_splits(
    patients: Mapping[str, str], folds: int = FOLDS, seed: int = SEED, first: Sequence[str] = ()
) -> tuple[Split, ...]:
    """Folds in which each patient is validated on exactly once, the same on every machine.

    The sorted patients are shuffled by Python's Mersenne Twister and cut into runs whose lengths differ by at most one;
    all cases of a patient stay together.

    Args:
        patients: The patient of each case.
        folds: How many.
        seed: Seed of the shuffle.
        first: Patients to validate on in fold 0, whatever the shuffle says.

    Returns:
        Per fold, the sorted case names under ``train`` and ``val``.

    Raises:
        DataError: Fewer than two folds, fewer patients than folds, or a patient in ``first`` that is not there.
    """
    everyone = sorted(set(patients.values()))
    strangers = [patient for patient in first if patient not in everyone]
    if strangers:
        raise DataError(f"patient {strangers[0]!r} is to be in fold 0", "a patient of the data set", "correct the name")
    if not 2 <= folds <= len(everyone):
        only = f"only {everyone[0]!r}" if len(everyone) == 1 else f"{len(everyone)}"
        raise DataError(
            f"{folds} folds of {len(patients)} cases from {only} patient{'s' if len(everyone) > 1 else ''}",
            "at least two folds, and a patient or more for each",
            "add patients, or ask for fewer folds",
        )
    rest = [patient for patient in everyone if patient not in first]
    random.Random(seed).shuffle(rest)
    order = [*dict.fromkeys(first), *rest]
    short, longer = divmod(len(order), folds)
    ends = [(fold + 1) * short + min(fold + 1, longer) for fold in range(folds)]
    splits = []
    for start, end in zip([0, *ends], ends, strict=False):
        validated = set(order[start:end])
        splits.append(
            {
                "train": sorted(case for case, patient in patients.items() if patient not in validated),
                "val": sorted(case for case, patient in patients.items() if patient in validated),
            }
        )
    return tuple(splits)


def read_splits(path: Path) -> tuple[Split, ...]:
    """The folds of a ``splits_final.json``. Raises DataError when it is not a list of ``{"train": [], "val": []}``."""
    try:
        folds = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path.parent.name}/{path.name} cannot be read ({error})",
            "a JSON list of folds",
            "mend it, or remove it: folds are then made by patient",
        ) from error
    right = isinstance(folds, list) and all(
        isinstance(fold, dict)
        and all(
            isinstance(fold.get(side), list) and all(isinstance(name, str) for name in fold[side])
            for side in ("train", "val")
        )
        for fold in folds
    )
    if not right or not folds:
        raise DataError(
            f"{path.parent.name}/{path.name} holds no folds",
            'a list of {"train": [names], "val": [names]}',
            "mend it, or remove it: folds are then made by patient",
        )
    return tuple({side: list(fold[side]) for side in ("train", "val")} for fold in folds)


def write_splits(path: Path, splits: Sequence[Split]) -> None:
    """Write a ``splits_final.json``, whole or not at all. Raises OutputError when it cannot be written."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(list(splits), indent=1), "utf-8")


def fold_findings(
    fold: int, split: Mapping[str, Sequence[str]], cases: Collection[str], patients: Mapping[str, str]
) -> Iterator[Finding]:
    """What is wrong with one fold: a case or patient on both sides, an unknown or repeated case, an empty side.

    Args:
        fold: Its number.
        split: Case names under ``train`` and ``val``.
        cases: The names there are.
        patients: The patient of a case; one that is not in it is a patient of its own.
    """
    mend = f"mend {SPLITS}"
    train, val = split["train"], split["val"]
    both = sorted(set(train) & set(val))
    for name in both:
        yield Finding(None, f"case {name} is in train and val of fold {fold}", "each patient on one side", mend)
    for name in sorted((set(train) | set(val)) - set(cases)):
        yield Finding(None, f"fold {fold} names the case {name}", "a case of the data set", mend)
    for side, names in (("train", train), ("val", val)):
        for name, times in Counter(names).items():
            if times > 1:
                yield Finding(None, f"case {name} is {times} times in {side} of fold {fold}", "once", mend)
    if not train or not val:
        yield Finding(
            None,
            f"fold {fold} has {len(train)} training and {len(val)} validation cases",
            "at least one of each",
            mend,
        )
    trained = {patients.get(name, name): name for name in train}
    for name in val:
        other = trained.get(patients.get(name, name))
        if other is not None and name not in both:
            yield Finding(
                name,
                f"patient {patients.get(name, name)} is in val of fold {fold} with it and in train with {other}",
                "each patient on one side",
                mend,
            )


def never_validated(splits: Sequence[Mapping[str, Sequence[str]]], cases: Collection[str]) -> Iterator[Finding]:
    """A finding, not fatal, where some cases are in no fold's ``val``: a score over all folds leaves them out."""
    left = sorted(set(cases) - {name for split in splits for name in split["val"]})
    if left:
        yield Finding(
            left[0],
            f"it and {len(left) - 1} more are validated on in no fold" if left[1:] else "no fold validates on it",
            "each case in the val of one fold, for a score over all folds",
            f"remove {SPLITS}: folds are then made by patient",
            fatal=False,
        )
