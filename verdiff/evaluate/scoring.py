"""Score cases as they come, one in memory at a time, with everything that was asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verdiff.errors import DataError
from verdiff.evaluate.empty import METRICS, POLICIES, UNCERTAINTY_METRICS
from verdiff.evaluate.instances import LEAST_PART_ML, InstanceGroups, InstanceScores, score_instances
from verdiff.evaluate.metrics import CaseScores, optional_library, score_case
from verdiff.evaluate.tables import Results, Table
from verdiff.evaluate.uncertainty import UncertaintyScores, score_uncertainty

OnCase = Callable[[str, Mapping[str, CaseScores]], None]


@dataclass(frozen=True)
class ScoredCase:
    """One case on one grid, whoever predicted it.

    Attributes:
        name: Name of the case.
        prediction: Label ids [z, y, x].
        reference: Label ids of the expert, same shape.
        spacing_mm: Spacing (z, y, x).
        uncertainty: 0 sure ... 255 unsure, same shape; None where it is not known.
        probability: Gives a structure's probabilities, float [z, y, x], by name; None where they are not known.
        instances: Prediction and reference as instances, where those are not the labels themselves.
        about: How the prediction was made, as plain JSON values.
        notes: What a reader of the scores must know.
    """

    name: str
    prediction: NDArray[np.integer[Any]]
    reference: NDArray[np.integer[Any]]
    spacing_mm: tuple[float, ...]
    uncertainty: NDArray[np.uint8] | None = None
    probability: Callable[[str], NDArray[np.floating[Any]]] | None = None
    instances: tuple[NDArray[np.integer[Any]], NDArray[np.integer[Any]]] | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Measures:
    """What to score.

    Attributes:
        policy: What metrics mean on empty masks, a key of :data:`verdiff.evaluate.empty.POLICIES`.
        distances: Whether to search for surface distances, which is most of the time.
        instances: Which ids are instances of what; None scores no instances.
        uncertainty: Whether to score uncertainty and, where there are probabilities, calibration.
        ignore: Id of voxels of the reference of which nothing is known; they count as background in both masks, and not
            at all for uncertainty.
    """

    policy: str = "strict"
    distances: bool = True
    instances: InstanceGroups | None = None
    uncertainty: bool = False
    ignore: int | None = None

    def check(self) -> None:
        """Refuse what cannot be scored before any case is.

        Raises:
            DataError: The policy is unknown.
            BackendError: The extra ``[evaluate]`` is needed and not installed.
        """
        if self.policy not in POLICIES:
            raise DataError(f"policy {self.policy!r}", "one of " + ", ".join(POLICIES), "choose one of these policies")
        if self.distances:
            optional_library("surface_distance")
        if self.instances is not None and self.instances.components:
            optional_library("scipy.ndimage")


def score_cases(
    cases: Iterable[ScoredCase], labels: Mapping[str, int], measures: Measures, on_case: OnCase | None = None
) -> Results:
    """Score every case.

    Args:
        cases: Cases to score; each is dropped before the next is asked for.
        labels: Name -> id of each structure, in both masks.
        measures: What to score.
        on_case: Called after each case with its masks' scores, for a progress bar.

    Raises:
        DataError: The policy is unknown, a case lacks its uncertainty, or there is no case.
        BackendError: The extra ``[evaluate]`` is needed and not installed.
    """
    measures.check()
    masks: dict[str, dict[str, CaseScores]] = {}
    instances: dict[str, dict[str, InstanceScores]] = {}
    uncertainty: dict[str, dict[str, UncertaintyScores]] = {}
    about: dict[str, Mapping[str, Any]] = {}
    notes: list[str] = []
    calibrated = True
    policy = POLICIES[measures.policy]
    for case in cases:
        known = None if measures.ignore is None else case.reference != measures.ignore
        case = without_ignored(case, measures.ignore)
        masks[case.name] = score_case(
            case.prediction,
            case.reference,
            spacing_mm=case.spacing_mm,
            label_ids=labels,
            policy=policy,
            distances=measures.distances,
        )
        if measures.instances is not None:
            found, truth = case.instances or (case.prediction, case.reference)
            instances[case.name] = score_instances(
                found,
                truth,
                spacing_mm=case.spacing_mm,
                groups=measures.instances,
                policy=policy,
            )
            notes += _specks(case.name, instances[case.name])
        if measures.uncertainty:
            uncertainty[case.name] = _uncertainty_scores(case, labels, known)
            calibrated = calibrated and case.probability is not None
        if case.about:
            about[case.name] = case.about
        notes += case.notes
        grouped = measures.instances.ids if measures.instances is not None and case.instances is None else frozenset()
        notes += _unscored(case, {*labels.values(), *grouped})
        if on_case is not None:
            on_case(case.name, masks[case.name])
    if not masks:
        raise DataError("no case", "at least one case to score", "name the cases, or none to score all")
    metrics = [name for name, metric in METRICS.items() if measures.distances or not metric.needs_surfaces]
    judged = [name for name in UNCERTAINTY_METRICS if calibrated or name != "ece"]
    groups = measures.instances
    return Results(
        Table.of(masks, metrics, list(dict.fromkeys(notes)), averaged=len(labels) > 1),
        Table.of(instances, groups.metrics, averaged=len(groups.groups) > 1) if groups is not None else None,
        Table.of(uncertainty, judged, averaged=False) if measures.uncertainty else None,
        about,
        measures.policy,
    )


def without_ignored(case: ScoredCase, ignore: int | None) -> ScoredCase:
    """A case whose two masks show nothing where the reference says that nothing is known."""
    if ignore is None:
        return case
    ignored = case.reference == ignore
    return replace(
        case,
        prediction=np.where(ignored, 0, case.prediction),
        reference=np.where(ignored, 0, case.reference),
        instances=None
        if case.instances is None
        else (np.where(ignored, 0, case.instances[0]), np.where(ignored, 0, case.instances[1])),
    )


def _uncertainty_scores(
    case: ScoredCase, labels: Mapping[str, int], known: NDArray[np.bool_] | None
) -> dict[str, UncertaintyScores]:
    if case.uncertainty is None:
        raise DataError(
            f"no uncertainty for {case.name}",
            "an uncertainty map of every case",
            "write it with verdiff infer --uncertainty, or score without it",
        )
    return score_uncertainty(
        case.prediction,
        case.reference,
        case.uncertainty,
        spacing_mm=case.spacing_mm,
        label_ids=labels,
        probability=case.probability,
        known=known,
    )


def _specks(case: str, scores: Mapping[str, InstanceScores]) -> list[str]:
    return [
        f"{case}: {count} part(s) of {name} in the {where} are below {LEAST_PART_ML} ml and no instances."
        for name, one in scores.items()
        for where, count in (("prediction", one.predicted_specks), ("reference", one.reference_specks))
        if count
    ]


def _unscored(case: ScoredCase, known: set[int]) -> list[str]:
    notes = []
    for name, mask in (("prediction", case.prediction), ("reference", case.reference)):
        others = sorted(set(np.unique(mask).tolist()) - {0} - known)
        if others:
            notes.append(f"{case.name}: the {name} also holds label ids {others}, which were not scored.")
    return notes
