"""Dice, IoU, HD95 and ASSD of one case, in millimetres and on the scan's own grid.

Distances come from DeepMind's surface-distance (Nikolov et al. 2018, arXiv:1809.04430): every surface element counts
with its area in mm2, so anisotropic voxels do not distort the percentile or the mean.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verdiff.errors import BackendError, DataError
from verdiff.evaluate.empty import METRICS, STRICT, EmptyPolicy, Presence, image_diagonal_mm, value_without_overlap


@dataclass(frozen=True)
class CaseScores:
    """The scores of one structure in one case; NaN only where the policy says "undefined".

    Attributes:
        dice: 2 |A and B| / (|A| + |B|), in [0, 1].
        iou: |A and B| / |A or B|, in [0, 1].
        hd95_mm: The larger of the two directed 95th percentiles of surface distance, weighted by area.
        assd_mm: Mean distance over both surfaces together, weighted by area.
        reference_voxels: Voxels of the structure in the reference.
        predicted_voxels: Voxels of the structure in the prediction.
    """

    dice: float
    iou: float
    hd95_mm: float
    assd_mm: float
    reference_voxels: int
    predicted_voxels: int

    @property
    def presence(self) -> Presence:
        """In which of the two masks the structure is."""
        return Presence.of(self.reference_voxels, self.predicted_voxels)


def dice_and_iou(prediction: NDArray[np.bool_], reference: NDArray[np.bool_]) -> tuple[float, float]:
    """Dice and IoU of two masks of one shape; at least one of them has voxels."""
    both = int(np.count_nonzero(prediction & reference))
    total = int(np.count_nonzero(prediction)) + int(np.count_nonzero(reference))
    return 2 * both / total, both / (total - both)


def surface_distances_mm(
    prediction: NDArray[np.bool_], reference: NDArray[np.bool_], spacing_mm: Sequence[float]
) -> tuple[float, float]:
    """HD95 and ASSD in mm of two masks that both have voxels.

    Args:
        prediction: Mask [z, y, x] (or [y, x]).
        reference: Mask of the same shape.
        spacing_mm: Spacing along the same axes.
    """
    # A single plane has a contour, not a surface: as a volume, all of its area would lie at distance zero.
    flat = [axis for axis, size in enumerate(reference.shape) if size == 1 and reference.ndim > 2][:1]
    prediction, reference = np.squeeze(prediction, tuple(flat)), np.squeeze(reference, tuple(flat))
    spacing_mm = [float(spacing) for axis, spacing in enumerate(spacing_mm) if axis not in flat]
    library = optional_library("surface_distance")
    with warnings.catch_warnings():
        # surface-distance 0.1 reaches scipy.ndimage through names that scipy keeps until 2.0.
        warnings.simplefilter("ignore", DeprecationWarning)
        found = library.compute_surface_distances(reference, prediction, spacing_mm)
    distances = np.concatenate([found["distances_gt_to_pred"], found["distances_pred_to_gt"]])
    areas = np.concatenate([found["surfel_areas_gt"], found["surfel_areas_pred"]])
    return float(library.compute_robust_hausdorff(found, 95)), float(np.average(distances, weights=areas))


def optional_library(module: str) -> Any:
    """A module of the extra ``[evaluate]``, imported where it is needed.

    Raises:
        BackendError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise BackendError(
            f"{module} is not installed", "the packages of the extra [evaluate]", "pip install 'verdiff[evaluate]'"
        ) from error


def score_case(
    prediction: NDArray[Any],
    reference: NDArray[Any],
    *,
    spacing_mm: Sequence[float],
    label_ids: Mapping[str, int],
    policy: EmptyPolicy = STRICT,
    distances: bool = True,
) -> dict[str, CaseScores]:
    """Score every structure of one case.

    Args:
        prediction: Label ids, integer [z, y, x] in the scan's grid.
        reference: Label ids of the expert, same shape.
        spacing_mm: Spacing (z, y, x).
        label_ids: Name -> id of each structure to score.
        policy: What the metrics mean where a mask is empty (:mod:`verdiff.evaluate.empty`).
        distances: False leaves HD95 and ASSD at NaN, which takes a fraction of the time.

    Raises:
        DataError: The shapes or the spacing do not fit, or no structure is asked for.
        BackendError: Distances are asked for and the extra ``[evaluate]`` is not installed.
    """
    if prediction.shape != reference.shape or len(spacing_mm) != reference.ndim:
        raise DataError(
            f"prediction {prediction.shape}, reference {reference.shape}, spacing {tuple(spacing_mm)} mm",
            "one grid: the same shape, one spacing an axis",
            "resample the prediction to the scan's grid before scoring it",
        )
    if not label_ids:
        raise DataError("an empty table of labels", "at least one name and id", "give the labels to score")
    diagonal = image_diagonal_mm(reference.shape, spacing_mm)
    scores: dict[str, CaseScores] = {}
    for name, label in label_ids.items():
        found, truth = prediction == label, reference == label
        counts = int(np.count_nonzero(truth)), int(np.count_nonzero(found))
        presence = Presence.of(*counts)
        if presence is Presence.BOTH:
            dice, iou = dice_and_iou(found, truth)
            hd95, assd = surface_distances_mm(found, truth, spacing_mm) if distances else (np.nan, np.nan)
        else:
            dice, iou, hd95, assd = (
                value_without_overlap(metric, presence, diagonal_mm=diagonal, policy=policy) for metric in METRICS
            )
            if not distances:
                hd95 = assd = np.nan
        scores[name] = CaseScores(dice, iou, hd95, assd, *counts)
    return scores
