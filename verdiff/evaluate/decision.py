"""The probability from which on a voxel should count as a structure's, read from the bins of a calibration.

One half is right where the cost of a voxel too many is that of a voxel too few. Dice weighs them otherwise: it is
largest where a voxel counts from half of the Dice itself on (Lipton et al. 2014, arXiv:1402.1892), so of thin and
doubtful structures below one half.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from verdiff.evaluate.tables import Table
from verdiff.evaluate.uncertainty import ALL_LABELS


@dataclass(frozen=True)
class Decision:
    """The bin's edge that is best for one structure.

    Attributes:
        probability: Least probability of a voxel that is counted.
        dice: Mean over the cases of the Dice that this gives, other structures left aside.
        dice_half: Dice at the edge next above one half.
        cases: Cases that have the structure.
    """

    probability: float
    dice: float
    dice_half: float
    cases: int


def best_decision(bins: Iterable[Mapping[str, Sequence[float]]]) -> Decision | None:
    """The edge with the largest mean Dice, of bins as :class:`verdiff.evaluate.uncertainty.Reliability` has them.

    Args:
        bins: Bins of each case: ``voxels`` and ``observed``, as many as there are bins.

    Returns:
        None where no case has the structure.
    """
    curves = [_dice_by_edge(case["voxels"], case["observed"]) for case in bins if sum(case["observed"])]
    if not curves:
        return None
    means = [statistics.fmean(at) for at in zip(*curves, strict=True)]
    best = max(range(1, len(means)), key=means.__getitem__)
    return Decision(best / len(means), means[best], means[math.ceil(len(means) / 2)], len(curves))


def decisions(table: Table) -> dict[str, Decision]:
    """The best edge of every structure of an uncertainty table that has probabilities."""
    found = {}
    for name in table.structures:
        bins: list[Any] = [each for each in table.fact(name, "reliability").values() if each]
        decision = None if name == ALL_LABELS else best_decision(bins)
        if decision is not None:
            found[name] = decision
    return found


def _dice_by_edge(voxels: Sequence[float], observed: Sequence[float]) -> list[float]:
    """Dice of the voxels at or above the lower edge of each bin."""
    truth, curve = sum(observed), []
    for at in range(len(voxels)):
        counted = sum(voxels[at:])
        curve.append(2 * sum(observed[at:]) / (counted + truth))
    return curve
