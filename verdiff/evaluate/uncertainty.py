"""Whether a model knows what it does not know: calibration of its probabilities, and uncertainty against error.

Both are counted near the anatomy alone: a scan is mostly air and soft tissue that every model is sure and right about,
and over all of it any model looks calibrated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verdiff.errors import DataError

BINS = 15
MARGIN_MM = 10.0
ALL_LABELS = "all labels"
"""The row that judges the label of a voxel, beside those that judge one structure each."""

LEVELS = 256
# Resampling to the scan's grid leaves [0, 1] by rounding errors; logits leave it by far.
_ROUNDING = 1e-4

Floats = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Reliability:
    """Probabilities against what came true, in bins of equal width over [0, 1].

    Attributes:
        voxels: Voxels a bin.
        stated: Sum of their probabilities, a bin.
        observed: How many of them came true, a bin.
    """

    voxels: tuple[int, ...]
    stated: tuple[float, ...]
    observed: tuple[int, ...]

    @property
    def error(self) -> float:
        """Expected calibration error (Guo et al. 2017, arXiv:1706.04599, Eq. 3), in [0, 1]."""
        gaps = (abs(stated - observed) for stated, observed in zip(self.stated, self.observed, strict=True))
        return sum(gaps) / sum(self.voxels)


@dataclass(frozen=True)
class UncertaintyScores:
    """Calibration and error detection of one structure, or of the labels as a whole, in one case.

    Attributes:
        ece: Expected calibration error in 15 bins; NaN without probabilities.
        error_auroc: Probability that a wrong voxel is more uncertain than a right one, ties counting half; NaN where
            every voxel is right (or every one wrong).
        voxels: Voxels near the anatomy, which are the ones judged.
        wrong_voxels: Number of voxels that are wrong.
        reliability: The bins behind ``ece``; None without probabilities.
    """

    ece: float
    error_auroc: float
    voxels: int
    wrong_voxels: int
    reliability: Reliability | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """What a table carries beside the metrics."""
        bins = None if self.reliability is None else {key: list(value) for key, value in vars(self.reliability).items()}
        return {"voxels": self.voxels, "wrong_voxels": self.wrong_voxels, "reliability": bins}


def reliability(probability: Floats, came_true: Mask, *, bins: int = BINS) -> Reliability:
    """Sort voxels into bins by their probability.

    Args:
        probability: Probabilities in [0, 1], of any shape.
        came_true: Whether each came true, of the same shape.
        bins: Bins of equal width; 1 belongs to the last.

    Raises:
        DataError: The shapes differ, there is no voxel, or a probability is outside [0, 1].
    """
    stated, true = np.ravel(probability), np.ravel(came_true)
    fits = stated.shape == true.shape and stated.size > 0
    if not fits or not (stated.min() >= -_ROUNDING and stated.max() <= 1 + _ROUNDING):
        raise DataError(
            f"probabilities {probability.shape} for outcomes {came_true.shape}, or values outside [0, 1]",
            "a probability in [0, 1] for every voxel",
            "give the probabilities of the same grid, not logits",
        )
    stated = np.clip(stated, 0, 1)
    at = np.minimum((stated * bins).astype(np.intp), bins - 1)
    return Reliability(
        tuple(np.bincount(at, minlength=bins).tolist()),
        tuple(np.bincount(at, weights=stated, minlength=bins).tolist()),
        tuple(np.bincount(at[true], minlength=bins).tolist()),
    )


def error_auroc(uncertainty: NDArray[np.uint8], wrong: Mask) -> float:
    """Area under the ROC curve of finding wrong voxels by their uncertainty; NaN where all are right or all wrong.

    Exact for 256 levels: the Mann-Whitney statistic over their histograms, ties counting half.

    Args:
        uncertainty: 0 sure ... 255 unsure, any shape.
        wrong: Whether each voxel is wrong, of the same shape.
    """
    failed = np.bincount(uncertainty[wrong], minlength=LEVELS).astype(np.float64)
    right = np.bincount(uncertainty[~wrong], minlength=LEVELS).astype(np.float64)
    pairs = failed.sum() * right.sum()
    if not pairs:
        return math.nan
    below = np.cumsum(right) - right
    return float(np.sum(failed * (below + 0.5 * right)) / pairs)


def region_near(prediction: Mask, reference: Mask, spacing_mm: Sequence[float]) -> tuple[slice, ...]:
    """The box around two masks, 10 mm larger on every side and cut at the image; the whole image for empty masks."""
    either = prediction | reference
    box = []
    for axis, spacing in enumerate(spacing_mm):
        others = tuple(other for other in range(either.ndim) if other != axis)
        filled = np.flatnonzero(either.any(axis=others))
        margin = math.ceil(MARGIN_MM / spacing)
        box.append(slice(max(0, filled[0] - margin), filled[-1] + 1 + margin) if filled.size else slice(None))
    return tuple(box)


def score_uncertainty(
    prediction: Labels,
    reference: Labels,
    uncertainty: NDArray[np.uint8],
    *,
    spacing_mm: Sequence[float],
    label_ids: Mapping[str, int],
    probability: Callable[[str], Floats] | None = None,
    known: Mask | None = None,
) -> dict[str, UncertaintyScores]:
    """Score the uncertainty of one case, for every structure and for the labels as a whole (:data:`ALL_LABELS`).

    A structure's row sets its probability against whether a voxel belongs to it. The row of all labels sets the
    probability of the likeliest label, background among them, against whether the label is right.

    Args:
        prediction: Label ids [z, y, x].
        reference: Label ids of the expert, same shape.
        uncertainty: 0 sure ... 255 unsure, same shape.
        spacing_mm: Spacing (z, y, x).
        label_ids: Name -> id of each structure; ids that are not among them count as background.
        probability: Gives a structure's probabilities, float [z, y, x] in [0, 1], by name; asked once each. None
            leaves the calibration out.
        known: Where the reference says what is there, same shape: no other voxel counts. None: everywhere. Where no
            voxel is left, the scores are NaN.

    Raises:
        DataError: The shapes or the spacing do not fit, or a probability is outside [0, 1].
    """
    shapes = {each.shape for each in (prediction, reference, uncertainty, known) if each is not None}
    if len(shapes) > 1 or len(spacing_mm) != reference.ndim or uncertainty.dtype != np.uint8:
        raise DataError(
            f"prediction {prediction.shape}, reference {reference.shape}, uncertainty {uncertainty.shape} of "
            f"{uncertainty.dtype}, spacing {tuple(spacing_mm)} mm",
            "one grid: the same shape, one spacing an axis, uncertainty from 0 to 255 in 8 bits",
            "write the uncertainty with verdiff infer --uncertainty",
        )
    ids = list(label_ids.values())
    found, truth = (np.where(np.isin(labels, ids), labels, 0) for labels in (prediction, reference))
    near = region_near(found > 0, truth > 0, spacing_mm)

    def judged(values: NDArray[Any]) -> NDArray[Any]:
        return values[near] if known is None else values[near][known[near]]

    found, truth, unsure = judged(found), judged(truth), judged(uncertainty)
    calibrated = probability if found.size else None

    scores: dict[str, UncertaintyScores] = {}
    best = np.zeros(found.shape, np.float32)
    total = np.zeros(found.shape, np.float32)
    for name, label in label_ids.items():
        bins = None
        if calibrated is not None:
            stated = judged(np.asarray(calibrated(name), np.float32))
            np.maximum(best, stated, out=best)
            total += stated
            bins = reliability(stated, truth == label)
        scores[name] = _scores(unsure, (found == label) != (truth == label), bins)
    # The channels are independent structures: background has what the likeliest leaves, and the sum is made one.
    bins = None if calibrated is None else reliability(np.maximum(best, 1 - best) / (total + 1 - best), found == truth)
    scores[ALL_LABELS] = _scores(unsure, found != truth, bins)
    return scores


def _scores(uncertainty: NDArray[np.uint8], wrong: Mask, bins: Reliability | None) -> UncertaintyScores:
    return UncertaintyScores(
        math.nan if bins is None else bins.error,
        error_auroc(uncertainty, wrong),
        wrong.size,
        int(np.count_nonzero(wrong)),
        bins,
    )
