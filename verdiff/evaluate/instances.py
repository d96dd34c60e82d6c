"""Instances: how many vertebrae were found as separate objects, and how many under their right name.

Panoptic quality asks for the objects (Kirillov et al. 2019, arXiv:1801.00868, Eq. 1 and 2), whatever their numbers;
the identification rate asks for the numbers (VerSe, Sekuboyina et al. 2021, arXiv:2001.09193), whatever their outlines.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verdiff.errors import DataError
from verdiff.evaluate.empty import (
    INSTANCE_METRICS,
    STRICT,
    EmptyPolicy,
    Presence,
    image_diagonal_mm,
    value_without_overlap,
)
from verdiff.evaluate.metrics import optional_library

IDENTIFIED_WITHIN_MM = 20.0
MATCHED_ABOVE_IOU = 0.5
# Smaller connected parts are stray voxels of a drawing or of a mask: the smallest disc has over 1 ml.
LEAST_PART_ML = 0.1
IDS, COMPONENTS = "ids", "components"
# Of an instance, as masks of instances are stored.
MOST_ID = 65535

Labels = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class InstanceGroups:
    """Which voxels are instances of what.

    Attributes:
        groups: Name -> the label ids that belong to it.
        components: False: each id is one instance, and the same id in both masks means the same vertebra. True: the
            connected parts of a group are its instances, which have no name; in a volume, those of at least 0.1 ml.
    """

    groups: Mapping[str, frozenset[int]]
    components: bool = False

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that such instances have: parts without a name cannot be identified."""
        named = ("identification_rate", "centroid_distance_mm")
        return tuple(name for name in INSTANCE_METRICS if not (self.components and name in named))

    @property
    def ids(self) -> frozenset[int]:
        """Every label id that belongs to a group."""
        return frozenset().union(*self.groups.values())


@dataclass(frozen=True)
class InstanceScores:
    """The instances of one group in one case; NaN where the policy says "undefined".

    Attributes:
        identification_rate: Share of the reference's instances that are identified: of all predicted centroids the one
            of the same id lies nearest, and within 20 mm.
        panoptic_quality: Sum of IoU over matches / (matches + half of what is matched nowhere); a match has an
            IoU above 0.5, which no two instances can have with the same third one.
        recognition_quality: matches / (matches + half of what is matched nowhere): the F1 of finding.
        segmentation_quality: Mean IoU over the matches; panoptic = recognition x segmentation.
        centroid_distance_mm: Mean distance of the centroids of ids that are in both masks.
        reference_instances: Instances in the reference.
        predicted_instances: Instances in the prediction.
        matched: Pairs with an IoU above 0.5.
        identified: Instances identified; None where they have no name.
        reference_specks: Connected parts of the reference that are too small for an instance.
        predicted_specks: Connected parts of the prediction that are too small for an instance.
    """

    identification_rate: float
    panoptic_quality: float
    recognition_quality: float
    segmentation_quality: float
    centroid_distance_mm: float
    reference_instances: int
    predicted_instances: int
    matched: int
    identified: int | None
    reference_specks: int = 0
    predicted_specks: int = 0

    @property
    def facts(self) -> dict[str, Any]:
        """What a table carries beside the metrics."""
        names = ("reference_instances", "predicted_instances", "matched", "reference_specks", "predicted_specks")
        presence = Presence.of(self.reference_instances, self.predicted_instances)
        named = {} if self.identified is None else {"identified": self.identified}
        return {**{name: getattr(self, name) for name in names}, **named, "presence": presence.value}


def instance_groups(text: str, labels: Mapping[str, int]) -> InstanceGroups:
    """The groups that a text names.

    Args:
        text: ``"ids"``: each id of ``labels`` is one instance of one group; ``"components"``: the connected parts of
            each structure; else ids by group, for example ``"vertebra=1-25,disc=201-225"``.
        labels: Name -> id of the structures that are scored.

    Raises:
        DataError: The text names no groups, or an id belongs to two of them.
    """
    if text == IDS:
        return InstanceGroups({"instances": frozenset(labels.values())})
    if text == COMPONENTS:
        return InstanceGroups({name: frozenset({label}) for name, label in labels.items()}, components=True)
    groups: dict[str, frozenset[int]] = {}
    for part in text.split(","):
        name, _, span = (piece.strip() for piece in part.partition("="))
        low, _, high = span.partition("-")
        high = high or low
        if not (name and low.isdecimal() and high.isdecimal() and 1 <= int(low) <= int(high) <= MOST_ID) or (
            name in groups
        ):
            raise DataError(
                f"instances {text!r}, unclear at {part.strip()!r}",
                "'ids', 'components', or name=first-last pairs with commas between them, each name once, ids from 1 to "
                f"{MOST_ID}",
                "write for example vertebra=1-25,disc=201-225",
            )
        ids = frozenset(range(int(low), int(high) + 1))
        shared = next((other for other, theirs in groups.items() if theirs & ids), None)
        if shared is not None:
            raise DataError(
                f"instances {text!r}: {shared} and {name} share ids", "each id in one group", "correct them"
            )
        groups[name] = ids
    return InstanceGroups(groups)


def score_instances(
    prediction: Labels,
    reference: Labels,
    *,
    spacing_mm: Sequence[float],
    groups: InstanceGroups,
    policy: EmptyPolicy = STRICT,
) -> dict[str, InstanceScores]:
    """Score every group of instances of one case.

    Args:
        prediction: Label ids [z, y, x].
        reference: Label ids of the expert, same shape.
        spacing_mm: Spacing (z, y, x).
        groups: Which ids are instances of what.
        policy: What the metrics mean where a mask has no instance.

    Raises:
        DataError: The shapes or the spacing do not fit.
        BackendError: Connected parts are asked for and the extra ``[evaluate]`` is not installed.
    """
    if prediction.shape != reference.shape or len(spacing_mm) != reference.ndim:
        raise DataError(
            f"prediction {prediction.shape}, reference {reference.shape}, spacing {tuple(spacing_mm)} mm",
            "one grid: the same shape, one spacing an axis",
            "resample the prediction to the scan's grid before scoring it",
        )
    diagonal = image_diagonal_mm(reference.shape, spacing_mm)
    volume = 1 not in reference.shape and reference.ndim > 2
    least = LEAST_PART_ML * 1000 / math.prod(spacing_mm) if volume else 0
    scores = {}
    for name, ids in groups.groups.items():
        found, truth = np.isin(prediction, sorted(ids)), np.isin(reference, sorted(ids))
        if groups.components:
            (predicted, specks), (expected, true_specks) = _parts(found, least), _parts(truth, least)
        else:
            predicted, specks = np.where(found, prediction, 0), 0
            expected, true_specks = np.where(truth, reference, 0), 0
        scores[name] = replace(
            _score_group(predicted, expected, spacing_mm, policy, diagonal),
            reference_specks=true_specks,
            predicted_specks=specks,
        )
        if groups.components:
            scores[name] = replace(scores[name], identified=None)
    return scores


def _parts(mask: NDArray[np.bool_], least: float) -> tuple[Labels, int]:
    """The connected parts of at least ``least`` voxels, numbered, and how many are smaller.

    Neighbours share a face: parts that touch at an edge or a corner alone are two, as bones are.
    """
    numbered: Labels = optional_library("scipy.ndimage").label(mask)[0]
    sizes = np.bincount(numbered[mask])
    small = np.flatnonzero((sizes > 0) & (sizes < least))
    kept = np.where(np.isin(numbered, small), 0, numbered) if small.size else numbered
    return kept, int(small.size)


def _score_group(
    predicted: Labels, expected: Labels, spacing_mm: Sequence[float], policy: EmptyPolicy, diagonal_mm: float
) -> InstanceScores:
    there, here = _centroids_mm(predicted, spacing_mm), _centroids_mm(expected, spacing_mm)
    overlaps = _ious(predicted, expected)
    matches = [iou for iou in overlaps.values() if iou > MATCHED_ABOVE_IOU]
    distances = [math.dist(there[label], here[label]) for label in here if label in there]
    identified = sum(_identified(label, here[label], there) for label in here)
    presence = Presence.of(len(here), len(there))
    if presence is Presence.BOTH:
        recognition = len(matches) / (0.5 * (len(here) + len(there)))
        segmentation = sum(matches) / len(matches) if matches else math.nan
        values: dict[str, Any] = {
            "identification_rate": identified / len(here),
            "panoptic_quality": sum(matches) / (0.5 * (len(here) + len(there))),
            "recognition_quality": recognition,
            "segmentation_quality": segmentation,
            "centroid_distance_mm": sum(distances) / len(distances) if distances else math.nan,
        }
    else:
        values = {
            name: value_without_overlap(name, presence, diagonal_mm=diagonal_mm, policy=policy)
            for name in INSTANCE_METRICS
        }
    return InstanceScores(
        **values,
        reference_instances=len(here),
        predicted_instances=len(there),
        matched=len(matches),
        identified=identified,
    )


def _identified(label: int, position: Sequence[float], predicted: Mapping[int, Sequence[float]]) -> bool:
    """VerSe's rule: the nearest of all predicted centroids is the one of the same id, less than 20 mm away."""
    if label not in predicted:
        return False
    distance = math.dist(predicted[label], position)
    return distance < IDENTIFIED_WITHIN_MM and all(
        math.dist(other, position) >= distance for other in predicted.values()
    )


def _centroids_mm(instances: Labels, spacing_mm: Sequence[float]) -> dict[int, tuple[float, ...]]:
    """Instance -> centre of mass in mm along the array's axes, from the centre of the first voxel."""
    where = np.nonzero(instances)
    numbers = instances[where]
    counts = np.bincount(numbers)
    found = np.flatnonzero(counts)
    sums = [
        np.bincount(numbers, weights=axis * spacing)[found] for axis, spacing in zip(where, spacing_mm, strict=True)
    ]
    centres = np.stack(sums, axis=1) / counts[found][:, None]
    return {int(number): tuple(centre) for number, centre in zip(found, centres.tolist(), strict=True)}


def _ious(predicted: Labels, expected: Labels) -> dict[tuple[int, int], float]:
    """(Predicted, expected) -> IoU of every two instances that share a voxel."""
    sizes, true_sizes = np.bincount(predicted[predicted > 0]), np.bincount(expected[expected > 0])
    shared = (predicted > 0) & (expected > 0)
    base = len(true_sizes)
    pairs, counts = np.unique(predicted[shared].astype(np.int64) * base + expected[shared], return_counts=True)
    return {
        (pair // base, pair % base): count / int(sizes[pair // base] + true_sizes[pair % base] - count)
        for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True)
    }
