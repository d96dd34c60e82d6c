"""The schedules against their papers' formulas."""

from __future__ import annotations

import json

import numpy as np
import pytest

from verdiff.diffusion import Schedule
from verdiff.errors import VerdiffError


def test_linear_schedule_of_1000_steps_has_the_ddpm_betas() -> None:
    schedule = Schedule("linear", 1000)
    np.testing.assert_allclose(schedule.beta[1:], np.linspace(1e-4, 0.02, 1000), rtol=1e-12)
    assert schedule.abar[0] == 1.0
    assert schedule.abar[-1] == pytest.approx(4.0358e-5, rel=1e-4)  # the value in diffusers and guided-diffusion


def test_cosine_schedule_is_the_squared_cosine_until_beta_is_clipped() -> None:
    schedule = Schedule("cosine", 1000)
    g = np.cos((np.arange(1001) / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2
    unclipped = schedule.beta < 0.999
    np.testing.assert_allclose(schedule.abar[unclipped], (g / g[0])[unclipped], rtol=1e-9, atol=1e-15)
    assert not unclipped[-1]


@pytest.mark.parametrize("kind", ["linear", "cosine"])
@pytest.mark.parametrize("timesteps", [1, 5, 30, 1000])
def test_signal_falls_strictly_from_one_and_never_reaches_zero(kind: str, timesteps: int) -> None:
    schedule = Schedule(kind, timesteps)  # type: ignore[arg-type]
    assert schedule.abar.shape == schedule.alpha.shape == schedule.beta.shape == (timesteps + 1,)
    assert schedule.abar[0] == 1.0
    assert (np.diff(schedule.abar) < 0).all()
    assert schedule.abar[-1] > 0


def test_the_signal_left_by_the_linear_schedule_hardly_depends_on_its_length() -> None:
    ends = [np.log(Schedule("linear", timesteps).abar[-1]) for timesteps in (250, 1000, 4000)]
    np.testing.assert_allclose(ends, np.log(4.0358e-5), rtol=0.03)


def test_spinesegdiff_cosine_start_of_30_steps_erases_the_presegmentation() -> None:
    assert np.sqrt(Schedule("cosine", 30).abar[-1]) == pytest.approx(0.0016, abs=5e-5)


def test_arrays_cannot_be_written_through() -> None:
    with pytest.raises(ValueError, match="read-only"):
        Schedule("linear", 10).abar[3] = 0.0


def test_schedule_survives_json() -> None:
    schedule = Schedule("cosine", 77)
    assert Schedule.from_dict(json.loads(json.dumps(schedule.to_dict()))) == schedule


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"kind": "linear"},
        {"kind": "sigmoid", "timesteps": 10},
        {"kind": "linear", "timesteps": 0},
        {"kind": "linear", "timesteps": 10.0},
        {"kind": "linear", "timesteps": True},
        {"kind": ["linear"], "timesteps": 10},
        [],
    ],
)
def test_damaged_schedules_are_refused_with_a_remedy(data: dict[str, object]) -> None:
    with pytest.raises(VerdiffError) as caught:
        Schedule.from_dict(data)
    assert caught.value.remedy
