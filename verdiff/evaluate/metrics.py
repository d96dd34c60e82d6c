"""Overlap, surface distances and volume error of one case, in millimetres and on the scan's own grid.

Distances come from DeepMind's surface-distance (Nikolov et al. 2018, arXiv:1809.04430): every surface element counts
with its area in mm2, so anisotropic voxels do not distort the percentile, the mean or the share within a tolerance.
"""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verdiff.errors import BackendError, DataError
from verdiff.evaluate.empty import METRICS, STRICT, EmptyPolicy, Presence, image_diagonal_mm, value_without_overlap
from verdiff.evaluate.overlap import dice_of, overlap
from verdiff.extras import install

# NIfTI keeps spacings as float32: ten voxels of 0.1 mm are 1.5e-8 mm more than 1 mm, and within it all the same.
_ROUNDING_MM = 1e-6


@dataclass(frozen=True)
class CaseScores:
    """The scores of one structure in one case; NaN where the policy says "undefined", or distances were not computed.

    Attributes:
        dice: 2 |A and B| / (|A| + |B|), in [0, 1].
        iou: |A and B| / |A or B|, in [0, 1].
        hd95_mm: The larger of the two directed 95th percentiles of surface distance, weighted by area.
        assd_mm: Mean distance over both surfaces together, weighted by area.
        surface_dice_1mm: Share of both surfaces within 1 mm of the other one, by area, in [0, 1].
        surface_dice_2mm: Share of both surfaces within 2 mm of the other one, by area, in [0, 1].
        volume_error: |difference of the volumes| / mean of the volumes, in [0, 2].
        reference_voxels: Voxels of the structure in the reference.
        predicted_voxels: Voxels of the structure in the prediction.
        voxel_ml: Volume of a voxel; None for a film or another single plane, which has no volume.
    """

    dice: float
    iou: float
    hd95_mm: float
    assd_mm: float
    surface_dice_1mm: float
    surface_dice_2mm: float
    volume_error: float
    reference_voxels: int
    predicted_voxels: int
    voxel_ml: float | None = None

    @property
    def presence(self) -> Presence:
        """Which of the two masks have the structure."""
        return Presence.of(self.reference_voxels, self.predicted_voxels)

    @property
    def facts(self) -> dict[str, Any]:
        """What a table carries beside the metrics: presence, voxels and millilitres."""
        counts = {"reference": self.reference_voxels, "predicted": self.predicted_voxels}
        volumes = {} if self.voxel_ml is None else {f"{of}_ml": n * self.voxel_ml for of, n in counts.items()}
        return {**{f"{of}_voxels": n for of, n in counts.items()}, **volumes, "presence": self.presence.value}


@dataclass(frozen=True)
class SurfaceScores:
    """What the distances between two surfaces say; the fields are those of :class:`CaseScores`."""

    hd95_mm: float
    assd_mm: float
    surface_dice_1mm: float
    surface_dice_2mm: float


def dice_and_iou(prediction: NDArray[np.bool_], reference: NDArray[np.bool_]) -> tuple[float, float]:
    """Dice and IoU of two masks of one shape; at least one of them has voxels."""
    both, total = overlap(prediction, reference)
    return dice_of(both, total), both / (total - both)


def volume_error(predicted_voxels: int, reference_voxels: int) -> float:
    """|P - R| / ((P + R) / 2), in [0, 2]; at least one of the two is not 0.

    Twice what Taha and Hanbury (2015, doi 10.1186/s12880-015-0068-x) call 1 - volumetric similarity. Near a right
    volume it is the error as a share of the reference; unlike that share it is bounded, and the same for a structure
    that was missed and one that was invented.
    """
    return 2 * abs(predicted_voxels - reference_voxels) / (predicted_voxels + reference_voxels)


def surface_scores(
    prediction: NDArray[np.bool_], reference: NDArray[np.bool_], spacing_mm: Sequence[float]
) -> SurfaceScores:
    """HD95, ASSD and surface Dice of two masks that both have voxels.

    Args:
        prediction: Mask [z, y, x] (or [y, x]).
        reference: Mask of the same shape.
        spacing_mm: Spacing along the same axes.

    Raises:
        BackendError: The extra ``[evaluate]`` is not installed.
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
    within_1mm, within_2mm = (
        float(library.compute_surface_dice_at_tolerance(found, tolerance + _ROUNDING_MM)) for tolerance in (1.0, 2.0)
    )
    return SurfaceScores(
        float(library.compute_robust_hausdorff(found, 95)),
        float(np.average(distances, weights=areas)),
        within_1mm,
        within_2mm,
    )


def surface_distances_mm(
    prediction: NDArray[np.bool_], reference: NDArray[np.bool_], spacing_mm: Sequence[float]
) -> tuple[float, float]:
    """HD95 and ASSD in mm of two masks that both have voxels, see :func:`surface_scores`."""
    scores = surface_scores(prediction, reference, spacing_mm)
    return scores.hd95_mm, scores.assd_mm


def optional_library(module: str) -> Any:
    """A module of the extra ``[evaluate]``, imported where it is needed.

    Raises:
        BackendError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise BackendError(
            f"{module} is not installed", "the packages of the extra [evaluate]", install("evaluate")
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
        distances: False leaves HD95, ASSD and surface Dice at NaN, which takes a fraction of the time.

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
    voxel_ml = None if 1 in reference.shape or reference.ndim < 3 else math.prod(spacing_mm) / 1000
    scores: dict[str, CaseScores] = {}
    for name, label in label_ids.items():
        found, truth = prediction == label, reference == label
        counts = int(np.count_nonzero(truth)), int(np.count_nonzero(found))
        presence = Presence.of(*counts)
        values = {
            metric: value_without_overlap(metric, presence, diagonal_mm=diagonal, policy=policy)
            for metric in (METRICS if presence is not Presence.BOTH else ())
        }
        if presence is Presence.BOTH:
            values["dice"], values["iou"] = dice_and_iou(found, truth)
            values["volume_error"] = volume_error(counts[1], counts[0])
            if distances:
                values.update(asdict(surface_scores(found, truth, spacing_mm)))
        if not distances:
            values.update({metric: math.nan for metric, about in METRICS.items() if about.needs_surfaces})
        scores[name] = CaseScores(**values, reference_voxels=counts[0], predicted_voxels=counts[1], voxel_ml=voxel_ml)
    return scores
