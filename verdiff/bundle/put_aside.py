"""Which cases the trainings behind a model put aside, over several of them: what one has seen, no other can unsee."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

PutAside = Mapping[str, Sequence[str]]
"""Data set -> its cases that were put aside; a data set that nothing was trained on is not in it."""


def put_aside_by_all(trainings: Sequence[PutAside]) -> dict[str, tuple[str, ...]]:
    """What is put aside after several trainings: of each data set, the cases that none of them was trained on.

    Args:
        trainings: What each put aside of the data sets it was trained on.
    """
    found: dict[str, tuple[str, ...]] = {}
    for training in trainings:
        for data_set, cases in training.items():
            before = found.get(data_set)
            found[data_set] = tuple(cases) if before is None else tuple(case for case in before if case in cases)
    return found


def stated(value: object) -> dict[str, tuple[str, ...]]:
    """The same as a file has it, which may be anything: what is no list of names counts as nothing put aside."""
    if not isinstance(value, Mapping):
        return {}
    return {
        str(data_set): tuple(str(case) for case in cases) if isinstance(cases, list | tuple) else ()
        for data_set, cases in value.items()
    }
