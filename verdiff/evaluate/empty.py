"""What each metric means when a structure is in only one of the two masks, or in neither.

The policy is data: a table from metric and :class:`Presence` to a :class:`Meaning`. A structure that the prediction
missed gets the worst value there is; for a distance that is the diagonal of the image, which no distance inside it can
exceed. Leaving such cases out of a mean, as a NaN would, rewards a model for finding nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType


class Presence(Enum):
    """Which of the two masks have voxels of a structure."""

    BOTH = "in both"
    MISSED = "in the reference only"
    INVENTED = "in the prediction only"
    NEITHER = "in neither"

    @classmethod
    def of(cls, reference_voxels: int, predicted_voxels: int) -> Presence:
        """The presence that two voxel counts stand for."""
        if reference_voxels:
            return cls.BOTH if predicted_voxels else cls.MISSED
        return cls.INVENTED if predicted_voxels else cls.NEITHER


class Meaning(Enum):
    """What a metric is worth where it cannot be computed."""

    BEST = "best value"
    WORST = "worst value"
    UNDEFINED = "undefined: left out of the means and counted"


@dataclass(frozen=True)
class Metric:
    """One metric: its unit, its best value and its worst.

    Attributes:
        name: The field of the scores that hold it.
        title: The heading in a table.
        unit: ``""`` for a ratio, ``"mm"`` for a distance.
        best: The value of a perfect mask.
        worst: The value of a useless one; None stands for the diagonal of the image in mm.
        higher_is_better: True for overlaps, False for distances and errors.
        needs_surfaces: Whether it takes the search for surface distances, which is most of the time of an evaluation.
    """

    name: str
    title: str
    unit: str
    best: float
    worst: float | None
    higher_is_better: bool = True
    needs_surfaces: bool = False

    @property
    def digits(self) -> int:
        """Digits behind the point in a table: four of a ratio, two of a length."""
        return 2 if self.unit else 4


def _table(*metrics: Metric) -> Mapping[str, Metric]:
    return MappingProxyType({metric.name: metric for metric in metrics})


METRICS = _table(
    Metric("dice", "Dice", "", 1.0, 0.0),
    Metric("iou", "IoU", "", 1.0, 0.0),
    Metric("hd95_mm", "HD95 (mm)", "mm", 0.0, None, higher_is_better=False, needs_surfaces=True),
    Metric("assd_mm", "ASSD (mm)", "mm", 0.0, None, higher_is_better=False, needs_surfaces=True),
    Metric("surface_dice_1mm", "Surface Dice 1 mm", "", 1.0, 0.0, needs_surfaces=True),
    Metric("surface_dice_2mm", "Surface Dice 2 mm", "", 1.0, 0.0, needs_surfaces=True),
    Metric("volume_error", "Volume error", "", 0.0, 2.0, higher_is_better=False),
)
"""Metrics of one structure's mask; see :class:`verdiff.evaluate.metrics.CaseScores`."""

INSTANCE_METRICS = _table(
    Metric("identification_rate", "Identification rate", "", 1.0, 0.0),
    Metric("panoptic_quality", "Panoptic quality", "", 1.0, 0.0),
    Metric("recognition_quality", "Recognition quality", "", 1.0, 0.0),
    Metric("segmentation_quality", "Segmentation quality", "", 1.0, 0.0),
    Metric("centroid_distance_mm", "Centroid distance (mm)", "mm", 0.0, None, higher_is_better=False),
)
"""Metrics of a group of instances; see :class:`verdiff.evaluate.instances.InstanceScores`."""

UNCERTAINTY_METRICS = _table(
    Metric("ece", "Calibration error", "", 0.0, 1.0, higher_is_better=False),
    Metric("error_auroc", "AUROC of errors", "", 1.0, 0.0),
)
"""Metrics of probabilities and uncertainty; see :class:`verdiff.evaluate.uncertainty.UncertaintyScores`."""

EVERY_METRIC: Mapping[str, Metric] = MappingProxyType({**METRICS, **INSTANCE_METRICS, **UNCERTAINTY_METRICS})

EmptyPolicy = Mapping[str, Mapping[Presence, Meaning]]

_MISSED_IS_WORST = MappingProxyType(
    {Presence.MISSED: Meaning.WORST, Presence.INVENTED: Meaning.WORST, Presence.NEITHER: Meaning.BEST}
)
_ABSENT_IS_LEFT_OUT = MappingProxyType({**_MISSED_IS_WORST, Presence.NEITHER: Meaning.UNDEFINED})
_NEEDS_A_PAIR = MappingProxyType(
    dict.fromkeys((Presence.MISSED, Presence.INVENTED, Presence.NEITHER), Meaning.UNDEFINED)
)
# Averages over matched instances: where nothing is matched they say nothing, and the other metrics carry the loss.
_OF_MATCHES = MappingProxyType({name: _NEEDS_A_PAIR for name in ("segmentation_quality", "centroid_distance_mm")})

STRICT: EmptyPolicy = MappingProxyType(
    {**dict.fromkeys((*METRICS, *INSTANCE_METRICS), _MISSED_IS_WORST), **_OF_MATCHES}
)
"""The default: missed and invented are the worst value, rightly absent is the best."""

LEAVE_ABSENT_OUT: EmptyPolicy = MappingProxyType(
    {**dict.fromkeys((*METRICS, *INSTANCE_METRICS), _ABSENT_IS_LEFT_OUT), **_OF_MATCHES}
)
"""STRICT, except that a structure in neither mask enters no mean (what nnU-Net's summaries do)."""

POLICIES: Mapping[str, EmptyPolicy] = MappingProxyType({"strict": STRICT, "leave-absent-out": LEAVE_ABSENT_OUT})


def image_diagonal_mm(shape: Sequence[int], spacing_mm: Sequence[float]) -> float:
    """Length in mm of the diagonal of an image, from outer voxel edge to outer voxel edge.

    Args:
        shape: Voxels along each axis.
        spacing_mm: Spacing in mm along the same axes.
    """
    return math.hypot(*(size * spacing for size, spacing in zip(shape, spacing_mm, strict=True)))


def value_without_overlap(name: str, presence: Presence, *, diagonal_mm: float, policy: EmptyPolicy = STRICT) -> float:
    """The value the policy gives to a metric when at least one mask is empty; NaN for :attr:`Meaning.UNDEFINED`.

    Args:
        name: A key of :data:`METRICS` or :data:`INSTANCE_METRICS`.
        presence: Anything but :attr:`Presence.BOTH`, for which the metric is computed (KeyError).
        diagonal_mm: The worst value of a distance, from :func:`image_diagonal_mm`.
        policy: The table to look the meaning up in.
    """
    metric, meaning = EVERY_METRIC[name], policy[name][presence]
    if meaning is Meaning.BEST:
        return metric.best
    if meaning is Meaning.WORST:
        return diagonal_mm if metric.worst is None else metric.worst
    return math.nan
