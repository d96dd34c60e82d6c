"""The way between a host's pixels and the model's as arrays for the device: weights, their ranges, label ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from verdiff.imaging.resample import resize_matrix
from verdiff.runtime.device.kernels import Grids
from verdiff.runtime.device.layout import aligned

if TYPE_CHECKING:
    from collections.abc import Mapping

    from verdiff.imaging import SlicePlan
    from verdiff.runtime.device.driver import Pointer

Tables = dict[str, NDArray[Any]]


def grid_tables(plan: SlicePlan, ids: NDArray[np.uint8]) -> Tables:
    """The weight matrices and ranges of both directions over rows and columns, and the id of each class."""
    tables: Tables = {"ids": ids}
    for axis, host, model in (("rows", plan.scan_rows, plan.model_rows), ("cols", plan.scan_cols, plan.model_cols)):
        for way, n_out, n_in in (("to", model, host), ("from", host, model)):
            weights = resize_matrix(n_out, n_in)
            tables[f"{way} {axis}"] = weights
            tables[f"{way} {axis} range"] = _ranges(weights)
    return tables


def offsets(tables: Mapping[str, NDArray[Any]]) -> tuple[dict[str, int], int]:
    """Where each table lies, one after the other, and how many bytes they take."""
    places, end = {}, 0
    for name, values in tables.items():
        places[name] = end
        end += aligned(values.nbytes)
    return places, end


def grids(plan: SlicePlan, base: Pointer, places: Mapping[str, int], way: str) -> Grids:
    """The tables of one direction, ``"to"`` the model or ``"from"`` it, at their addresses."""
    rows, cols = ((base + places[f"{way} {axis}"], base + places[f"{way} {axis} range"]) for axis in ("rows", "cols"))
    return Grids(
        rows,
        cols,
        (plan.scan_rows, plan.scan_cols),
        (plan.model_rows, plan.model_cols),
        (plan.padded_rows, plan.padded_cols),
    )


def _ranges(weights: NDArray[np.float32]) -> NDArray[np.int32]:
    """Where the numbers that are not zero begin and end in each row of ``weights``: [rows, 2]."""
    there = weights != 0
    first = there.argmax(axis=1)
    return np.stack([first, there.shape[1] - there[:, ::-1].argmax(axis=1)], axis=1).astype(np.int32)
