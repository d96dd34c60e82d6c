"""Calibration of margins: how far each patient's surfaces had to be moved, and whether others' margins covered him.

Everything comes from :meth:`verdiff.runtime.Segmenter.segment` as a user calls it; docs/margins.md says what it means.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from verdiff.anatomy.margins import SurfaceErrors, distance_field, surface_errors
from verdiff.bundle.margins import INNER, OUTER, SHARES, SIDES, margin_of, most_probable
from verdiff.errors import DataError, VerdiffError
from verdiff.evaluate.fold import LabelledScan
from verdiff.options import CalibrateOptions, ScanOptions
from verdiff.progress import done
from verdiff.runtime import Segmenter
from verdiff.runtime.margins import setting_of
from verdiff.settings import part_of

Say = Callable[[str], None]

# Cross-fitting wants a patient to calibrate on and one who was not.
LEAST_PATIENTS = 2


@dataclass
class Calibrated:
    """What was measured.

    Attributes:
        level: Level of the probability map whose surface is moved.
        setting: How the masks were made, see :func:`verdiff.runtime.margins.setting_of`.
        patients: Patient -> structure -> errors of each of his cases. Structures that are not in a case's true mask are
            left out: there is nothing to cover.
    """

    level: float
    setting: dict[str, Any] = field(default_factory=dict)
    patients: dict[str, dict[str, list[SurfaceErrors]]] = field(default_factory=dict)

    def distances(self, structure: str, side: str, share: float) -> dict[str, float]:
        """Patient -> how far the structure's surface had to be moved, in the worst of his cases; infinite if missed."""
        return {
            name: max(_needed(each, side, share) for each in structures[structure])
            for name, structures in self.patients.items()
            if structure in structures
        }

    @property
    def structures(self) -> list[str]:
        """The structures that are in the true masks of two patients at least, in the order they were first met."""
        seen = [structure for structures in self.patients.values() for structure in structures]
        return [name for name in dict.fromkeys(seen) if seen.count(name) >= LEAST_PATIENTS]


def measure_margins(
    segmenter: Segmenter,
    scans: Iterable[LabelledScan],
    labels: Mapping[str, int],
    *,
    patients: Mapping[str, str],
    options: CalibrateOptions,
    say: Say,
) -> Calibrated:
    """Segment labelled scans and measure how their surfaces lie to the true ones, one scan in memory at a time.

    Args:
        segmenter: The model.
        scans: Patients with true masks.
        labels: Name of each structure to its id in those masks.
        patients: Case -> patient.
        options: How the masks are made, and the level of the probability map whose surface is moved.
        say: Takes a line a case.

    Raises:
        VerdiffError: A scan cannot be segmented; it is named.
    """
    found = Calibrated(options.level)
    for scan in scans:
        try:
            result = segmenter.segment(scan.volume, **part_of(options, ScanOptions), progress=done)
        except VerdiffError as error:
            raise type(error)(f"case {scan.name}: {error.found}", error.expected, error.remedy) from error
        found.setting = setting_of(result)
        mine = found.patients.setdefault(patients.get(scan.name, scan.name), {})
        parts = []
        for name, number in labels.items():
            truth = scan.truth == number
            if not truth.any():
                continue
            geometry = scan.volume.geometry
            surface = distance_field(result.probabilities(name), geometry, level=options.level)
            errors = surface_errors(surface, truth, geometry)
            mine.setdefault(name, []).append(errors)
            outward, inward = (_needed(errors, side, SHARES[-2]) for side in SIDES)
            parts.append(
                f"{name} {outward:.2f} mm out, {inward:.2f} in" if math.isfinite(outward) else f"{name} missed"
            )
        say(f"{scan.name}: {'; '.join(parts) or 'no structure'}")
    return found


def margins_record(calibrated: Calibrated, *, probability: float | None, where: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest's ``margins``.

    Args:
        calibrated: What was measured.
        probability: What is promised where nobody says.
        where: Data and backend, for the record.

    Raises:
        DataError: No structure is in the true masks of two patients.
        InputError: More is to be promised than the patients can.
    """
    if not calibrated.structures:
        raise DataError(
            f"no structure in the true masks of {LEAST_PATIENTS} of {len(calibrated.patients)} patients",
            "labelled patients of the model's structures",
            "choose a data set and a fold with more patients",
        )
    record = {
        "level": calibrated.level,
        "probability": probability,
        "setting": calibrated.setting,
        "structures": {name: _structure(calibrated, name) for name in calibrated.structures},
        **where,
    }
    for name in calibrated.structures:
        margin_of(record, name, OUTER)
    return record


def cross_fitted(calibrated: Calibrated, share: float) -> dict[str, Any]:
    """Each patient compared with the margins of all others: structure -> side -> the result.

    The margin is what the others carry at most. ``covered`` counts the patients for whom it was enough. By their ranks
    alone it is all but one, so the figures that say something are ``margins_mm``, the least and the largest of those
    margins, and ``least_share``, how much of the patient that was not covered is within.
    """
    return {name: {side: _held_out(calibrated, name, side, share) for side in SIDES} for name in calibrated.structures}


def _held_out(calibrated: Calibrated, name: str, side: str, share: float) -> dict[str, Any]:
    distances = calibrated.distances(name, side, share)
    margins, shares = [], []
    for patient in distances:
        margin = max(value for other, value in distances.items() if other != patient)
        margins.append(margin)
        reached = (
            (each.covered(margin) if side == OUTER else each.not_wrong(margin))
            for each in calibrated.patients[patient][name]
        )
        shares.append(min(reached))
    return {
        "patients": len(distances),
        "probability": round(most_probable(len(distances) - 1), 4),
        "covered": sum(value <= margin for value, margin in zip(distances.values(), margins, strict=True)),
        "margins_mm": [_plain(min(margins)), _plain(max(margins))],
        "least_share": round(min(shares), 5),
    }


def report(calibrated: Calibrated, record: Mapping[str, Any]) -> dict[str, Any]:
    """All that was measured, as plain JSON values: every patient, every promise, and the cross-fitting by share."""
    return {
        "level": calibrated.level,
        "setting": calibrated.setting,
        "promises": [margin_of(record, name, side).to_dict() for name in calibrated.structures for side in SIDES],
        "cross_fitted": {_key(share): cross_fitted(calibrated, share) for share in SHARES},
        "patients": {
            patient: {
                name: {
                    side: {_key(share): _plain(max(_needed(each, side, share) for each in errors)) for share in SHARES}
                    for side in SIDES
                }
                for name, errors in structures.items()
            }
            for patient, structures in calibrated.patients.items()
        },
    }


def summary(record: Mapping[str, Any], crossed: Mapping[str, Any]) -> list[str]:
    """The lines that say what is promised of each structure, and what came of the patients left out."""
    found = []
    for name in record["structures"]:
        outer, inner = (margin_of(record, name, side) for side in SIDES)
        for margin, does in ((outer, "outwards holds"), (inner, "inwards leaves no more than")):
            what = f"{margin.share:.0%} of its true surface" if margin is outer else f"{1 - margin.share:.0%} wrong"
            told = crossed[name][margin.side]
            if math.isinf(margin.mm):
                found.append(f"{name}: no margin {margin.side}, it was missed in too many patients")
                continue
            found.append(
                f"{name}: {margin.mm:.2f} mm {does} {what} with probability {margin.probability:.3f} "
                f"({margin.patients} patients; this calibration at least {margin.at_least:.2f}); left out in turn "
                f"{told['covered']} of {told['patients']} were covered, the least by {told['least_share']:.1%}"
            )
    return found


def _needed(errors: SurfaceErrors, side: str, share: float) -> float:
    return errors.outward_mm(share) if side == OUTER else errors.inward_mm(share)


def _structure(calibrated: Calibrated, name: str) -> dict[str, Any]:
    def of(side: str) -> dict[str, Any]:
        return {
            _key(share): [_plain(value) for value in sorted(calibrated.distances(name, side, share).values())]
            for share in SHARES
        }

    return {"patients": len(calibrated.distances(name, OUTER, 1.0)), OUTER: of(OUTER), INNER: of(INNER)}


def _key(share: float) -> str:
    return f"{share:g}"


def _plain(value: float) -> float | None:
    return None if math.isinf(value) else round(value, 2)
