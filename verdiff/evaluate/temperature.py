"""Whether a temperature would bring probabilities closer to how often they come true, read from calibration bins.

A probability p becomes sigmoid(logit(p) / T), with the T of least negative log likelihood (Guo et al. 2017,
arXiv:1706.04599, section 4.2). One half stays one half, so a mask that begins there stays the same. Each case is judged
with the T of the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verdiff.evaluate.metrics import optional_library
from verdiff.evaluate.tables import Table
from verdiff.evaluate.uncertainty import ALL_LABELS

LEAST, MOST = 0.25, 4.0
# The mean probability of a bin is that of many voxels; the outermost may round to 0 or 1.
_EDGE = 1e-6

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Temperature:
    """The temperature of one structure.

    Attributes:
        value: The T of all cases.
        error: Mean over the cases of the calibration error as it is, in [0, 1].
        error_scaled: Mean of that error with each case's probabilities scaled by the T of the other cases.
        cases: Cases with probabilities.
    """

    value: float
    error: float
    error_scaled: float
    cases: int


def fit_temperature(cases: Sequence[Mapping[str, Sequence[float]]]) -> Temperature | None:
    """The temperature of cases' bins, as :class:`verdiff.evaluate.uncertainty.Reliability` has them.

    Args:
        cases: Bins of each case: ``voxels``, ``stated`` and ``observed``.

    Returns:
        None for fewer than two cases: nobody is left to fit one on.
    """
    if len(cases) < 2:
        return None
    bins = [np.array([case["voxels"], case["stated"], case["observed"]], float) for case in cases]
    errors = [_error(case, 1.0) for case in bins]
    scaled = [_error(case, _fitted(bins[:at] + bins[at + 1 :])) for at, case in enumerate(bins)]
    return Temperature(_fitted(bins), float(np.mean(errors)), float(np.mean(scaled)), len(bins))


def temperatures(table: Table) -> dict[str, Temperature]:
    """The temperature of every structure of an uncertainty table that has probabilities."""
    found = {}
    for name in table.structures:
        bins: list[Any] = [each for each in table.fact(name, "reliability").values() if each]
        fitted = None if name == ALL_LABELS else fit_temperature(bins)
        if fitted is not None:
            found[name] = fitted
    return found


def _scaled(case: Floats, temperature: float) -> tuple[Floats, Floats, Floats]:
    """Voxels, mean scaled probability and observed voxels of the bins that have any."""
    voxels, stated, observed = case[:, case[0] > 0]
    mean = np.clip(stated / voxels, _EDGE, 1 - _EDGE)
    return voxels, 1 / (1 + (1 / mean - 1) ** (1 / temperature)), observed


def _error(case: Floats, temperature: float) -> float:
    voxels, probability, observed = _scaled(case, temperature)
    return float(np.abs(voxels * probability - observed).sum() / voxels.sum())


def _fitted(cases: Sequence[Floats]) -> float:
    whole = np.sum(cases, axis=0)

    def loss(logarithm: float) -> float:
        voxels, probability, observed = _scaled(whole, np.exp(logarithm))
        return -float((observed * np.log(probability) + (voxels - observed) * np.log1p(-probability)).sum())

    minimum = optional_library("scipy.optimize").minimize_scalar
    return float(np.exp(minimum(loss, bounds=np.log([LEAST, MOST]), method="bounded").x))
