"""The frontier of a model: settings tried on labelled scans, those worth choosing from, and the manifest's record.

Every figure comes from :meth:`verdiff.runtime.Segmenter.segment` as a user calls it: Dice in the scan's own grid, and
the time of the whole call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from verdiff.bundle.objects import Effort
from verdiff.errors import VerificationError
from verdiff.evaluate.fold import LabelledScan
from verdiff.evaluate.metrics import score_case
from verdiff.imaging import plan_slices
from verdiff.runtime import Segmenter

Say = Callable[[str], object]

# The fast setting is the quickest whose mean Dice is at most this far below the best.
FAST_LOSS = 0.001
# Settings whose times lie closer than this are alike, and the one with the better Dice stands for both.
ALIKE = 0.03


TRIED = (
    Effort(0, 0, "whole"),
    Effort(0, 0, "locate"),
    *(Effort(steps, 1, policy) for steps in (1, 2, 5) for policy in ("whole", "locate+skip")),
    Effort(2, 4, "locate+skip"),
    Effort(2, 4, "locate+skip+agree"),
    Effort(5, 4, "whole"),
    Effort(5, 4, "locate+skip"),
)


@dataclass
class MeasuredEffort:
    """One effort on every patient.

    Attributes:
        effort: What was asked for.
        dice: Patient -> structure -> Dice.
        seconds: Patient -> seconds a slice of the whole call.
        window: Patient -> share of the pixels that lay in the window, 1 for whole slices.
    """

    effort: Effort
    dice: dict[str, dict[str, float]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    window: dict[str, float] = field(default_factory=dict)

    @property
    def patient_means(self) -> list[float]:
        """Mean over structures, a value a patient."""
        return [float(np.mean(list(scores.values()))) for scores in self.dice.values()]

    @property
    def mean(self) -> float:
        """Mean Dice over structures and patients."""
        return float(np.mean(self.patient_means))

    @property
    def milliseconds(self) -> float:
        """Median over patients of the milliseconds a slice."""
        return 1000 * float(np.median(list(self.seconds.values())))

    def by_structure(self) -> dict[str, float]:
        """Mean over patients of each structure's Dice."""
        structures = next(iter(self.dice.values()))
        return {name: float(np.mean([scores[name] for scores in self.dice.values()])) for name in structures}


def measure_efforts(
    segmenter: Segmenter,
    scans: Sequence[LabelledScan],
    efforts: Sequence[Effort] = TRIED,
    *,
    every: int = 1,
    say: Say,
) -> list[MeasuredEffort]:
    """Each effort on each patient; patient by patient, so that a load that comes and goes hits all efforts alike.

    Args:
        segmenter: The model.
        scans: Patients with true masks.
        efforts: What to try.
        every: Every how-manieth slice of each scan.
        say: Told each patient's means.
    """
    manifest = segmenter.manifest
    found = [MeasuredEffort(effort) for effort in efforts]
    for scan in scans:
        plan = plan_slices(
            scan.volume.geometry,
            view=manifest.view,  # type: ignore[arg-type]
            spacing_mm=manifest.spacing_mm,
            multiple=manifest.multiple,
        )
        case = scan.thinned(plan.permutation[0], every)
        segmenter.segment(case.volume, prior_only=True, force=True)
        for measured in found:
            _measure(segmenter, case, measured)
        say(f"{scan.name}: " + ", ".join(f"{m.effort.title} {m.patient_means[-1]:.4f}" for m in found))
    return found


def worth_choosing(measured: Sequence[MeasuredEffort]) -> list[MeasuredEffort]:
    """The settings that nothing else beats in both Dice and time, quickest first."""
    kept: list[MeasuredEffort] = []
    for each in sorted(measured, key=lambda m: m.milliseconds):
        if kept and each.mean <= kept[-1].mean:
            continue
        # Nearly as quick as the one before and better: it takes that one's place.
        if kept and each.milliseconds <= (1 + ALIKE) * kept[-1].milliseconds:
            kept.pop()
        kept.append(each)
    return kept


def fast_of(chosen: Sequence[MeasuredEffort]) -> MeasuredEffort:
    """The quickest of those whose mean Dice is within ``FAST_LOSS`` of the best."""
    best = max(each.mean for each in chosen)
    return min((each for each in chosen if each.mean >= best - FAST_LOSS), key=lambda each: each.milliseconds)


def frontier_record(measured: Sequence[MeasuredEffort], where: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest's ``frontier``: the settings worth choosing, the fast one named, and ``where`` they were measured.

    Raises:
        VerificationError: Nothing was measured.
    """
    if not measured or not measured[0].dice:
        raise VerificationError("no labelled scan", "a fold with validation cases", "check --data and --fold")
    chosen = worth_choosing(measured)
    fast = fast_of(chosen)
    settings = [
        {
            "name": "fast" if each is fast else None,
            "steps": each.effort.steps,
            "samples": each.effort.samples,
            "policy": each.effort.policy,
            "dice": round(each.mean, 5),
            "dice_by_structure": {name: round(value, 5) for name, value in each.by_structure().items()},
            "worst_patient": round(min(each.patient_means), 5),
            "ms_per_slice": round(each.milliseconds, 1),
        }
        for each in chosen
    ]
    return {"settings": settings, **where}


def _measure(segmenter: Segmenter, case: LabelledScan, into: MeasuredEffort) -> None:
    effort = into.effort
    result = segmenter.segment(
        case.volume,
        steps=effort.steps or None,
        samples=effort.samples or None,
        policy=effort.policy,
        prior_only=not effort.steps,
        force=True,
    )
    table = segmenter.manifest.label_ids
    scores = score_case(result.labels, case.truth, spacing_mm=case.spacing_mm, label_ids=table, distances=False)
    into.dice[case.name] = {name: score.dice for name, score in scores.items()}
    into.seconds[case.name] = result.timings["total"] / result.provenance["reached"]["slices"]
    into.window[case.name] = result.provenance["computed"]["share"]
