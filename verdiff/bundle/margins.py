"""The manifest's `margins`: by how much a structure's surface has to be moved, and how sure that is.

Split-conformal prediction (Vovk et al. 2005; Angelopoulos and Bates 2023, doi 10.1561/2200000101). Each calibration
patient gives one number, the distance by which the surface had to be moved for that patient. If the next patient is
like them, the k-th smallest of n such numbers is enough for the next one with a probability of at least k / (n + 1).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from verdiff.bundle import checks
from verdiff.errors import InputError

OUTER, INNER = "outer", "inner"
SIDES = (OUTER, INNER)
# The shares of a surface that distances are kept for, and the one that is meant where nobody says.
SHARES = (0.95, 0.99, 1.0)
SHARE = 0.99
# What is promised where nobody says; less where the patients are too few for it.
PROBABILITY = 0.95
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Margin:
    """A distance and the promise that goes with it.

    Attributes:
        structure: Name of a structure in the model's table.
        side: ``"outer"``, which holds the true structure, or ``"inner"``, which the true structure holds.
        mm: How far the surface is moved; infinite where too many patients were missed.
        probability: Least probability that a patient like those it was calibrated on is covered, over all patients
            and all calibrations of this size.
        share: Share of the true surface that the outer one holds. What is left to 1 is how much of the structure that
            was found is wrong and within the inner one, at most.
        patients: Number of patients that it was calibrated on.
        at_least: The probability that this one calibration reaches with a confidence of 95 %: few patients may have
            been lucky ones.
    """

    structure: str
    side: str
    mm: float
    probability: float
    share: float
    patients: int
    at_least: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            **asdict(self),
            "mm": None if math.isinf(self.mm) else round(self.mm, 2),
            "probability": round(self.probability, 4),
            "at_least": round(self.at_least, 4),
        }


def most_probable(patients: int) -> float:
    """The largest probability that a number of patients can promise."""
    return patients / (patients + 1)


def rank_of(patients: int, probability: float) -> int:
    """Which of the sorted distances carries a probability: ceil((n + 1) p).

    Raises:
        InputError: More than the patients can promise.
    """
    if not 0 < probability <= most_probable(patients) + 1e-9:
        raise InputError(
            f"a probability of {probability:g} from {patients} patients",
            f"above 0, and at most {most_probable(patients):.3f}: that is what {patients} patients can promise",
            "ask for less, or calibrate on more patients with 'verdiff calibrate'",
        )
    return max(1, math.ceil((patients + 1) * probability - 1e-9))


def reached_at_least(patients: int, rank: int, confidence: float = CONFIDENCE) -> float:
    """The coverage that one calibration has with a confidence: a quantile of Beta(rank, n + 1 - rank).

    The coverage of the rank-th smallest of n has that distribution over calibrations (Vovk 2012, arXiv 1209.2673).
    """
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        terms = (math.comb(patients, j) * middle**j * (1 - middle) ** (patients - j) for j in range(rank, patients + 1))
        low, high = (middle, high) if sum(terms) < 1 - confidence else (low, middle)
    return low


def margin_of(
    record: Mapping[str, Any],
    structure: str,
    side: str,
    *,
    probability: float | None = None,
    share: float | None = None,
) -> Margin:
    """The margin of a structure from a manifest's `margins`.

    Args:
        record: The manifest's.
        structure: Its name.
        side: ``"outer"`` or ``"inner"``.
        probability: What is promised; None is the record's own, else 0.95, or less if the patients are too few.
        share: One of the record's shares; None is 0.99.

    Raises:
        InputError: No margins of that structure, an unknown share, or more than the patients can promise.
    """
    structures = record.get("structures", {})
    if structure not in structures:
        raise InputError(
            f"no margins of {structure}",
            f"one of {', '.join(structures) or 'no structures: the model is not calibrated'}",
            "calibrate the model on labelled patients with 'verdiff calibrate'",
        )
    by_share = structures[structure][side]
    wanted = SHARE if share is None else share
    key = next((each for each in by_share if math.isclose(float(each), wanted)), None)
    if key is None:
        raise InputError(f"a share of {wanted:g}", f"one of {', '.join(by_share)}", "choose one that was calibrated")
    distances = sorted(math.inf if each is None else float(each) for each in by_share[key])
    patients = len(distances)
    stated = record.get("probability")
    asked = probability or stated or min(PROBABILITY, most_probable(patients))
    rank = rank_of(patients, asked)
    return Margin(structure, side, distances[rank - 1], asked, wanted, patients, reached_at_least(patients, rank))


def check_margins(margins: Mapping[str, Any]) -> None:
    """`margins`: a level, and for each structure and side the distances of the patients by share; null: missed.

    Raises:
        BundleError: A key is missing or of the wrong type or range.
    """
    if not margins:
        return
    level = checks.number("margins.level", margins.get("level"), 0, "a probability between 0 and 1")
    if not 0 < level < 1:
        raise checks.wrong("margins.level", level, "a probability between 0 and 1")
    if margins.get("probability") is not None:
        checks.number("margins.probability", margins["probability"], 1e-6, "a probability above 0, or null")
    for name, structure in checks.mapping("margins.structures", margins.get("structures")).items():
        key = f"margins.structures.{name}"
        sides = checks.mapping(key, structure)
        patients = checks.integer(f"{key}.patients", sides.get("patients"), 1, 1_000_000)
        for side in SIDES:
            for share, distances in checks.mapping(f"{key}.{side}", sides.get(side)).items():
                place = f"{key}.{side}.{share}"
                checks.text(place, share, r"1|0\.\d+", "a share such as 0.99, above 0 and at most 1")
                values = checks.sequence(place, distances)
                if len(values) != patients:
                    raise checks.wrong(place, values, f"a list of {patients} distances, one a patient")
                for index, value in enumerate(values):
                    if value is not None:
                        checks.number(f"{place}[{index}]", value, 0, "millimetres, at least 0, or null")
