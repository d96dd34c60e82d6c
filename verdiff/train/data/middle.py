"""The middle slices of every scan, for models of mid-sagittal slices alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from verdiff.errors import DataError
from verdiff.train.data.cases import CaseSlices, Dataset


def middle_slices(dataset: Dataset, count: int | None) -> Dataset:
    """``dataset`` with at most ``count`` slices around the middle of each case; ``None`` leaves it as it is.

    Raises:
        DataError: ``count`` is below 1.
    """
    if count is None:
        return dataset
    if count < 1:
        raise DataError(f"middle_slices = {count}", "1 or more", "leave it out of [data] for every slice")

    def middle(case: CaseSlices) -> CaseSlices:
        first = max(0, len(case.images) // 2 - count // 2)
        kept = slice(first, first + count)
        fewer: dict[str, Any] = {name: array[kept] for name, array in case.arrays.items()}
        return replace(case, **fewer)

    return replace(dataset, cases=tuple(middle(case) for case in dataset.cases))
