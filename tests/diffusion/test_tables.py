"""Sampler tables against an oracle, the exact posterior, each other and an equation with a known solution."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from verdiff.diffusion import Process, SamplerTable, Schedule, make_table
from verdiff.diffusion.samplers.ddim import ddim_rows
from verdiff.diffusion.samplers.dpmpp import dpmpp_2m_rows
from verdiff.diffusion.tables import select_timesteps
from verdiff.errors import VerdiffError

SAMPLERS: list[dict[str, Any]] = [
    {"sampler": "ddim"},
    {"sampler": "ddim", "eta": 0.4},
    {"sampler": "ddpm"},
    {"sampler": "dpmpp-2m"},
]
STARTS: list[dict[str, Any]] = [
    {"start": "noise"},
    {"start": "noise", "start_step": 600},
    {"start": "prior", "start_step": 300},
]
each_process = pytest.mark.parametrize("name", ["verdiff", "card", "ddpm"])
each_scale = pytest.mark.parametrize("scale", [1.0, 0.2])


def states(table: SamplerTable, x0: Any, f: Any, rng: np.random.Generator) -> list[Any]:
    """x at each row when the denoiser is an oracle, in float64, and the oracle's answer."""
    x = table.start[0] * f + table.start[1] * rng.normal(size=x0.shape)
    seen = [x]
    for a, b, c, d, e in table.coefficients:
        x = a * x + b * x0 + c * f + d * rng.normal(size=x0.shape) + e * x0
        seen.append(x)
    return seen


@each_process
@each_scale
@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
@pytest.mark.parametrize("steps", [1, 2, 5, 20])
@pytest.mark.parametrize("start", STARTS, ids=str)
def test_an_oracle_x0hat_gives_x0_and_stays_on_the_marginal(
    name: Any, scale: float, sampler: dict[str, Any], steps: int, start: dict[str, Any]
) -> None:
    """Every state is k s x0 + k m f + sigma z with z of unit variance, had the start been that of x0."""
    process = Process(name, Schedule("cosine", 1000), scale)
    table = make_table(process, steps=steps, **sampler, **start)
    rng = np.random.default_rng(steps)
    x0 = rng.choice([-1.0, 1.0], size=20_000)
    # From the prior, the chain is on the marginal of x0 only where the prior is right.
    f = x0.copy() if start["start"] == "prior" else rng.uniform(-1, 1, size=x0.shape)
    seen = states(table, x0, f, rng)
    np.testing.assert_array_equal(seen[-1], x0)
    if start == {"start": "noise", "start_step": 600}:
        return  # this start leaves x0 out where the process still holds some, so the states are off on purpose
    for t, x in zip(table.timesteps, seen[:-1], strict=True):
        z = x - scale * (process.signal[t] * x0 + process.prior[t] * f)
        assert (z / process.noise[t]).std() == pytest.approx(1.0, abs=0.03)
        assert (z / process.noise[t]).mean() == pytest.approx(0.0, abs=0.04)


@each_process
@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_ddpm_and_eta_one_are_the_exact_posterior_on_neighbouring_timesteps(name: Any, kind: Any) -> None:
    process = Process(name, Schedule(kind, 60))
    table = make_table(process, sampler="ddpm", steps=60)
    assert table == make_table(process, sampler="ddim", eta=1.0, steps=60)
    np.testing.assert_array_equal(table.timesteps, np.arange(60, 0, -1))
    for t, (a, b, c, d, e) in zip(table.timesteps[:-1].tolist(), table.coefficients[:-1], strict=True):
        posterior = process.posterior(t)
        np.testing.assert_allclose([b, a, c, d**2], posterior, rtol=1e-9, atol=1e-11)
        assert e == 0.0


@each_process
def test_ddpm_on_skipped_timesteps_is_the_posterior_of_the_coarser_chain(name: Any) -> None:
    process = Process(name, Schedule("linear", 1000))
    abar = process.schedule.abar
    table = make_table(process, sampler="ddpm", steps=10)
    grid = [*table.timesteps.tolist(), 0]
    for (t, p), row in list(zip(pairwise(grid), table.coefficients, strict=True))[:-1]:
        alpha = abar[t] / abar[p]
        x0 = np.sqrt(abar[p]) * (1 - alpha) / (1 - abar[t])
        x = np.sqrt(alpha) * (1 - abar[p]) / (1 - abar[t])
        prior = process.prior[p] - x * process.prior[t]
        variance = (1 - abar[p]) * (1 - alpha) / (1 - abar[t])
        np.testing.assert_allclose(row, [x, x0, prior, np.sqrt(variance), 0.0], rtol=1e-10, atol=1e-13)


@each_process
@each_scale
@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
@pytest.mark.parametrize("start", STARTS, ids=str)
def test_a_folded_signal_scale_equals_scaling_x0_and_f_by_hand(
    name: Any, scale: float, sampler: dict[str, Any], start: dict[str, Any]
) -> None:
    """The scaled table on (x0hat, f) walks through the states of the unscaled one on (k x0hat, k f)."""
    schedule = Schedule("linear", 1000)
    folded = make_table(Process(name, schedule, scale), steps=6, **sampler, **start)
    plain = make_table(Process(name, schedule), steps=6, **sampler, **start)
    rng = np.random.default_rng(3)
    f, z, *x0hats = rng.normal(size=(8, 50))
    x = folded.start @ [f, z]
    y = plain.start @ [scale * f, z]
    before = np.zeros(50)
    for i in range(5):
        np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-12)
        x = folded.coefficients[i] @ [x, x0hats[i], f, z, before]
        y = plain.coefficients[i] @ [y, scale * x0hats[i], scale * f, z, scale * before]
        before = x0hats[i]
    np.testing.assert_array_equal(folded.coefficients[-1], [0, 1, 0, 0, 0])


@each_process
def test_dpmpp_at_first_order_is_ddim(name: Any) -> None:
    process = Process(name, Schedule("linear", 1000))
    grid = select_timesteps(1000, 12)
    second, ddim = dpmpp_2m_rows(process, grid), ddim_rows(process, grid, 0.0)
    np.testing.assert_allclose(second[0], ddim[0], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(second[-1], ddim[-1], atol=1e-12)
    # With the same x0hat twice the two orders cannot differ: b + e is DDIM's b.
    np.testing.assert_allclose(second[:, 1] + second[:, 4], ddim[:, 1], rtol=1e-9)
    np.testing.assert_allclose(second[:, [0, 2, 3]], ddim[:, [0, 2, 3]], rtol=1e-9, atol=1e-12)
    assert (second[1:-1, 4] < 0).all()


def test_dpmpp_extrapolates_x0hat_to_the_middle_of_a_step_in_lambda() -> None:
    """An x0hat that is linear in lambda is read at lambda_t + h/2, however uneven the steps."""
    process = Process("ddpm", Schedule("cosine", 1000))
    table = make_table(process, sampler="dpmpp-2m", steps=5)
    lam = np.log(process.signal / np.maximum(process.noise, 1e-300))[table.timesteps]
    assert np.ptp(np.diff(lam)) > 1.0
    for i in range(1, 4):
        _, b, _, _, e = table.coefficients[i]
        assert (b * lam[i] + e * lam[i - 1]) / (b + e) == pytest.approx((lam[i] + lam[i + 1]) / 2, rel=1e-9)


@each_process
@each_scale
@pytest.mark.parametrize(("sampler", "order"), [("ddim", 1), ("dpmpp-2m", 2)])
def test_convergence_order_on_gaussian_data_with_a_known_solution(
    name: Any, scale: float, sampler: Any, order: int
) -> None:
    """x0 ~ N(mu, v): E[x0 | x_t] is affine, and the probability-flow equation solves to the matching quantiles."""
    timesteps, mu, v, f = 4096, 0.4, 0.3, -0.7
    process = Process(name, Schedule("cosine", timesteps), scale)

    def quantile(t: int, z: float) -> float:
        signal, prior = scale * process.signal[t], scale * process.prior[t]
        return float(signal * mu + prior * f + np.sqrt(signal**2 * v + process.noise[t] ** 2) * z)

    def x0hat(x: float, t: int) -> float:
        signal, prior = scale * process.signal[t], scale * process.prior[t]
        return float(mu + v * signal * (x - prior * f - signal * mu) / (signal**2 * v + process.noise[t] ** 2))

    start, stop = 3072, 1024  # every grid below holds both; the last row ends at t = 0 in one first-order jump
    errors = []
    for steps in (24, 48, 96, 192):
        table = make_table(process, sampler=sampler, steps=steps, start_step=start)
        x, before = quantile(start, 1.3), 0.0
        for t, row in zip(table.timesteps.tolist(), table.coefficients, strict=True):
            if t == stop:
                break
            now = x0hat(x, t)
            x, before = float(row @ [x, now, f, 0.0, before]), now
        errors.append(abs(x - quantile(stop, 1.3)))
    observed = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    np.testing.assert_allclose(observed, order, atol=0.15)


@given(st.integers(1, 1000), st.data())
def test_timesteps_are_evenly_spaced_and_distinct(start_step: int, data: st.DataObject) -> None:
    steps = data.draw(st.integers(1, start_step))
    grid = select_timesteps(start_step, steps)
    assert grid.dtype == np.int64
    assert len(grid) == steps + 1
    assert grid[0] == start_step
    assert grid[-1] == 0
    gaps = -np.diff(grid)
    assert gaps.min() >= 1
    assert gaps.max() - gaps.min() <= 1


def test_the_documented_example_of_timesteps() -> None:
    assert select_timesteps(1000, 5).tolist() == [1000, 800, 600, 400, 200, 0]
    assert select_timesteps(5, 2).tolist() == [5, 3, 0]


def test_starts_are_the_marginal_of_nothing_and_of_the_prior() -> None:
    process = Process("verdiff", Schedule("linear", 1000), 0.3)
    s, m, sigma = (float(values[300]) for values in (process.signal, process.prior, process.noise))
    noise = make_table(process, sampler="ddim", steps=3, start_step=300)
    prior = make_table(process, sampler="ddim", steps=3, start_step=300, start="prior")
    np.testing.assert_allclose(noise.start, [0.3 * m, sigma], rtol=1e-14)
    np.testing.assert_allclose(prior.start, [0.3 * (s + m), sigma], rtol=1e-14)


def test_only_rows_that_add_noise_need_it() -> None:
    process = Process("card", Schedule("linear", 1000))
    ancestral = make_table(process, sampler="ddpm", steps=4)
    assert [ancestral.needs_noise(row) for row in range(4)] == [True, True, True, False]
    assert not ancestral.deterministic
    for sampler in ("ddim", "dpmpp-2m"):
        assert make_table(process, sampler=sampler, steps=4).deterministic  # type: ignore[arg-type]


def test_a_table_survives_json_exactly() -> None:
    table = make_table(Process("verdiff", Schedule("cosine", 1000), 0.7), sampler="dpmpp-2m", steps=7)
    again = SamplerTable.from_dict(json.loads(json.dumps(table.to_dict())))
    assert again == table
    assert hash(again) == hash(table)
    assert again != make_table(Process("verdiff", Schedule("cosine", 1000), 0.6), sampler="dpmpp-2m", steps=7)


GOOD = {"timesteps": [9, 4], "coefficients": [[0.5, 0.5, 0, 0, 0], [0, 1, 0, 0, 0]], "start": [0.0, 1.0]}


@pytest.mark.parametrize(
    "change",
    [
        {"timesteps": [4, 9]},
        {"timesteps": [4, 0]},
        {"timesteps": []},
        {"timesteps": [9]},
        {"timesteps": None},
        {"start": [1.0]},
        {"start": [float("nan"), 1.0]},
        {"coefficients": [[0.5, float("inf"), 0, 0, 0], [0, 1, 0, 0, 0]]},
        {"coefficients": [[0.5, 0.5, 0, 0, 0.1], [0, 1, 0, 0, 0]]},
        {"coefficients": [[0.5, 0.5, 0, 0, 0], [0, 1, 0, 0.1, 0]]},
        {"coefficients": [[0.5, 0.5, 0, 0], [0, 1, 0, 0]]},
        {"coefficients": [[0.5, 0.5, 0, 0, 0], [0, 1]]},
    ],
    ids=str,
)
def test_damaged_tables_are_refused(change: dict[str, Any]) -> None:
    assert len(SamplerTable.from_dict(GOOD)) == 2
    with pytest.raises(VerdiffError, match="sampler table"):
        SamplerTable.from_dict(GOOD | change)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sampler": "euler"}, "sampler 'euler'"),
        ({"start": "mask"}, "start 'mask'"),
        ({"eta": 1.5}, "eta = 1.5"),
        ({"sampler": "dpmpp-2m", "eta": 0.5}, "eta = 0.5"),
        ({"sampler": "ddpm", "eta": 0.5}, "eta = 0.5"),
        ({"start_step": 1001}, "start step 1001"),
        ({"start_step": 0}, "start step 0"),
        ({"steps": 0}, "0 steps"),
        ({"steps": 31, "start_step": 30}, "31 steps from timestep 30"),
        ({"start": "prior"}, "last timestep 1000"),
    ],
    ids=str,
)
def test_options_out_of_range_are_refused_by_name(options: dict[str, Any], words: str) -> None:
    process = Process("verdiff", Schedule("linear", 1000))
    with pytest.raises(VerdiffError, match=words):
        make_table(process, **({"sampler": "ddim", "steps": 5} | options))
