"""The temperature that brings stated probabilities to what comes true, and what it is worth on a case left out."""

from __future__ import annotations

import numpy as np
import pytest

from verdiff.evaluate.temperature import fit_temperature
from verdiff.evaluate.uncertainty import reliability


def drawn(temperature: float, seed: int, voxels: int = 60_000) -> dict[str, tuple[float, ...]]:
    """Bins of a case whose stated log odds are ``temperature`` times the true ones."""
    rng = np.random.default_rng(seed)
    true = rng.normal(0, 2, voxels)
    stated = 1 / (1 + np.exp(-temperature * true))
    came_true = rng.random(voxels) < 1 / (1 + np.exp(-true))
    return vars(reliability(stated, came_true, bins=15))


@pytest.mark.parametrize("temperature", [0.6, 1.0, 1.8])
def test_the_temperature_of_drawn_probabilities_is_found(temperature: float) -> None:
    found = fit_temperature([drawn(temperature, seed) for seed in range(4)])
    assert found is not None and found.cases == 4
    assert found.value == pytest.approx(temperature, rel=0.06)
    # Within a bin all probabilities count as their mean.
    assert found.error_scaled < 0.012
    assert (found.error > 0.03) == (temperature != 1.0)


def test_a_case_unlike_the_others_is_not_made_to_look_better() -> None:
    found = fit_temperature([drawn(1.0, 1), drawn(1.8, 2)])
    assert found is not None
    # Each is scaled by what the other needs.
    assert found.error_scaled > found.error


def test_empty_bins_and_certain_ones_are_no_obstacle() -> None:
    sure = {"voxels": (50, 0, 50), "stated": (0.0, 0.0, 50.0), "observed": (1, 0, 49)}
    found = fit_temperature([sure, sure])
    assert found is not None and 1 < found.value <= 4


def test_one_case_has_none_to_fit_on() -> None:
    assert fit_temperature([drawn(1.5, 0)]) is None
