"""The process family: marginal, kernel and posterior agree with each other, with Bayes and with the papers."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from verdiff.diffusion import Process, Schedule
from verdiff.errors import VerdiffError

NAMES = ("verdiff", "card", "ddpm")
SCHEDULES = (Schedule("linear", 1000), Schedule("cosine", 1000), Schedule("cosine", 30))
PROCESSES = [Process(name, schedule) for name in NAMES for schedule in SCHEDULES]  # type: ignore[arg-type]


def label(process: Process) -> str:
    return f"{process.name}-{process.schedule.kind}-{process.timesteps}"


each_process = pytest.mark.parametrize("process", PROCESSES, ids=label)


@each_process
def test_kernel_composed_t_times_is_the_marginal(process: Process) -> None:
    signal, prior, variance = 1.0, 0.0, 0.0
    for t in range(1, process.timesteps + 1):
        kernel = process.kernel(t)
        signal *= kernel.previous
        prior = kernel.previous * prior + kernel.prior
        variance = kernel.previous**2 * variance + kernel.noise**2
        assert signal == pytest.approx(process.signal[t], rel=1e-11)
        assert prior == pytest.approx(process.prior[t], abs=1e-11)
        assert variance == pytest.approx(process.noise[t] ** 2, abs=1e-11)


@each_process
@given(st.data())
def test_posterior_is_bayes_on_random_numbers(process: Process, data: st.DataObject) -> None:
    number = st.floats(-2, 2)
    x0, f, x_t = data.draw(number), data.draw(number), data.draw(number)
    t = data.draw(st.integers(2, process.timesteps))
    kernel, posterior = process.kernel(t), process.posterior(t)
    # The prior belief about x_{t-1}, N(mean, left), meets the observation x_t = previous x_{t-1} + prior f + noise.
    left = process.noise[t - 1] ** 2
    mean = process.signal[t - 1] * x0 + process.prior[t - 1] * f
    precision = 1.0 / left + kernel.previous**2 / kernel.noise**2
    expected = (mean / left + kernel.previous * (x_t - kernel.prior * f) / kernel.noise**2) / precision
    assert posterior.variance == pytest.approx(1.0 / precision, rel=1e-8)
    assert posterior.x0 * x0 + posterior.x * x_t + posterior.prior * f == pytest.approx(expected, rel=1e-8, abs=1e-9)


@each_process
def test_posterior_of_the_first_step_is_the_clean_mask(process: Process) -> None:
    np.testing.assert_allclose(process.posterior(1), (1.0, 0.0, 0.0, 0.0), atol=1e-12)


@each_process
def test_the_prior_coefficient_starts_at_zero_and_rises_to_at_most_one(process: Process) -> None:
    assert process.prior[0] == 0.0
    assert (np.diff(process.prior) >= 0).all()
    assert process.prior[-1] <= 1.0


def test_without_prior_coefficient_the_family_is_ddpm() -> None:
    process = Process("ddpm", Schedule("linear", 1000))
    alpha = 1 - np.linspace(1e-4, 0.02, 1000)
    abar = np.cumprod(alpha)
    for t in (2, 17, 500, 1000):
        now, before = abar[t - 1], abar[t - 2]
        posterior = process.posterior(t)
        # Ho et al. 2020, equations 6 and 7.
        assert posterior.x0 == pytest.approx(np.sqrt(before) * (1 - alpha[t - 1]) / (1 - now), rel=1e-9)
        assert posterior.x == pytest.approx(np.sqrt(alpha[t - 1]) * (1 - before) / (1 - now), rel=1e-9)
        assert posterior.prior == 0.0
        assert posterior.variance == pytest.approx((1 - before) / (1 - now) * (1 - alpha[t - 1]), rel=1e-9)
        assert process.kernel(t).prior == 0.0


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: f"{schedule.kind}-{schedule.timesteps}")
def test_card_posterior_has_the_published_gammas(schedule: Schedule) -> None:
    process = Process("card", schedule)
    alpha, abar, beta = schedule.alpha, schedule.abar, schedule.beta
    for t in range(2, schedule.timesteps + 1):
        gamma_0 = beta[t] * np.sqrt(abar[t - 1]) / (1 - abar[t])
        gamma_1 = (1 - abar[t - 1]) * np.sqrt(alpha[t]) / (1 - abar[t])
        gamma_2 = 1 + (np.sqrt(abar[t]) - 1) * (np.sqrt(alpha[t]) + np.sqrt(abar[t - 1])) / (1 - abar[t])
        posterior = process.posterior(t)
        assert posterior.x0 == pytest.approx(gamma_0, rel=1e-10)
        assert posterior.x == pytest.approx(gamma_1, rel=1e-10)
        assert posterior.prior == pytest.approx(gamma_2, abs=1e-10)


def test_card_mean_stays_on_a_right_prior_and_verdiff_overshoots_to_root_two() -> None:
    schedule = Schedule("cosine", 1000)
    mask, nothing = np.array([1.0]), np.array([0.0])
    card = [Process("card", schedule).marginal(mask, mask, nothing, t)[0] for t in range(1001)]
    verdiff = [Process("verdiff", schedule).marginal(mask, mask, nothing, t)[0] for t in range(1001)]
    np.testing.assert_allclose(card, 1.0, atol=1e-12)
    assert max(verdiff) == pytest.approx(np.sqrt(2), abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_marginal_takes_one_timestep_or_one_for_each_mask(name: str) -> None:
    process = Process(name, Schedule("linear", 1000), 0.3)  # type: ignore[arg-type]
    x0, f, eps = np.random.default_rng(0).normal(size=(3, 4, 2, 5, 6))
    t = np.array([0, 1, 400, 1000])
    together = process.marginal(x0, f, eps, t)
    for i, timestep in enumerate(t.tolist()):
        alone = process.marginal(x0[i], f[i], eps[i], timestep)
        np.testing.assert_array_equal(together[i], alone)
        by_hand = process.signal[timestep] * 0.3 * x0[i] + process.prior[timestep] * 0.3 * f[i]
        np.testing.assert_allclose(alone, by_hand + process.noise[timestep] * eps[i], atol=1e-12)


def test_marginal_keeps_float32() -> None:
    arrays = np.zeros((3, 2, 1, 4, 4), dtype=np.float32)
    process = Process("verdiff", Schedule("linear", 1000), 0.5)
    assert process.marginal(*arrays, np.array([1, 2])).dtype == np.float32
    assert process.marginal(*arrays, 7).dtype == np.float32


@pytest.mark.parametrize("t", [-1, 1001])
def test_timesteps_outside_the_schedule_are_refused(t: int) -> None:
    process = Process("verdiff", Schedule("linear", 1000))
    with pytest.raises(VerdiffError, match=f"timestep {t}"):
        process.marginal(np.zeros(2), np.zeros(2), np.zeros(2), np.array([5, t]))
    with pytest.raises(VerdiffError, match=f"timestep {t}"):
        process.posterior(t)


def test_there_is_no_step_into_timestep_zero() -> None:
    with pytest.raises(VerdiffError, match="timestep 0"):
        PROCESSES[0].kernel(0)


@each_process
def test_process_survives_json(process: Process) -> None:
    assert Process.from_dict(json.loads(json.dumps(process.to_dict()))) == process


@pytest.mark.parametrize(
    "change",
    [{"name": "vp"}, {"signal_scale": 0.0}, {"signal_scale": 1.5}, {"signal_scale": "much"}, {"schedule": None}],
)
def test_damaged_processes_are_refused_with_a_remedy(change: dict[str, object]) -> None:
    with pytest.raises(VerdiffError) as caught:
        Process.from_dict(PROCESSES[0].to_dict() | change)
    assert caught.value.remedy


def test_a_signal_scale_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(VerdiffError, match="signal scale"):
        Process("verdiff", SCHEDULES[0], float("nan"))
