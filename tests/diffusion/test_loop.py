"""The host loop: it follows the table, whatever the batch, and stops where it is told to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from verdiff.diffusion import Process, Schedule, StepState, make_table, noise_source, run_loop
from verdiff.errors import VerdiffError

SHAPE = (2, 6, 5)
PROCESS = Process("verdiff", Schedule("cosine", 1000), 0.5)


def batch(n: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).uniform(-1, 1, size=(n, *SHAPE)).astype(np.float32)


def denoise(x: Any, timestep: int) -> Any:
    """Some smooth function of x_t and t with values in (-1, 1)."""
    return np.tanh(1.7 * x - 0.3 + timestep / 1000)


@pytest.mark.parametrize("name", ["verdiff", "card", "ddpm"])
@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpmpp-2m"])
@pytest.mark.parametrize("steps", [1, 2, 5, 20])
@pytest.mark.parametrize("start", [{"start": "noise"}, {"start": "prior", "start_step": 250}], ids=str)
@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_an_oracle_denoiser_returns_the_mask(name: Any, sampler: Any, steps: int, start: Any, scale: float) -> None:
    mask = np.sign(batch(3, seed=1))
    table = make_table(Process(name, Schedule("linear", 1000), scale), sampler=sampler, steps=steps, **start)
    noise = noise_source(35, slices=range(3), samples=[0] * 3, shape=SHAPE)
    np.testing.assert_array_equal(run_loop(lambda x, t: mask, table, batch(3), noise), mask)


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpmpp-2m"])
def test_the_loop_is_the_table_in_float64_up_to_rounding(sampler: Any) -> None:
    table = make_table(PROCESS, sampler=sampler, steps=7)
    f, noise = batch(2), noise_source(1, slices=[0, 1], samples=[0, 0], shape=SHAPE)
    x, before, asked = table.start[0] * f.astype(float) + table.start[1] * noise(0), 0.0, []
    for row, (t, (a, b, c, d, e)) in enumerate(zip(table.timesteps.tolist(), table.coefficients, strict=True)):
        now = denoise(x, t)
        x, before = a * x + b * now + c * f + d * noise(row + 1) + e * before, now

    def recorded(step: int) -> Any:
        asked.append(step)
        return noise(step)

    np.testing.assert_allclose(run_loop(denoise, table, f, recorded), x, atol=2e-5)
    assert asked == [0, *[row + 1 for row in range(7) if table.needs_noise(row)]]


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpmpp-2m"])
@pytest.mark.parametrize("cut", [1, 3, 4])
def test_masks_are_bit_identical_whatever_the_batch_split(sampler: Any, cut: int) -> None:
    table, f = make_table(PROCESS, sampler=sampler, steps=6), batch(5)

    def run(part: slice) -> Any:
        slices = range(10, 15)[part]
        return run_loop(denoise, table, f[part], noise_source(3, slices=slices, samples=[1] * len(slices), shape=SHAPE))

    parts = np.concatenate([run(slice(0, cut)), run(slice(cut, 5))])
    np.testing.assert_array_equal(run(slice(0, 5)), parts)


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpmpp-2m"])
def test_a_denoiser_that_answers_in_one_buffer_gives_the_same_masks(sampler: Any) -> None:
    table, f = make_table(PROCESS, sampler=sampler, steps=6), batch(2)
    noise = noise_source(3, slices=[0, 1], samples=[0, 0], shape=SHAPE)
    buffer = np.empty_like(f)

    def reuse(x: Any, timestep: int) -> Any:
        np.copyto(buffer, denoise(x, timestep))
        return buffer

    kept: list[Any] = []
    expected: list[Any] = []
    run_loop(reuse, table, f, noise, keep_steps=kept)
    run_loop(denoise, table, f, noise, keep_steps=expected)
    np.testing.assert_array_equal(kept, expected)
    assert len(kept) == 6


def test_inputs_are_left_as_they_were() -> None:
    table, f = make_table(PROCESS, sampler="ddpm", steps=4), batch(1)
    start = noise_source(3, slices=[0], samples=[0], shape=SHAPE)(0)
    before = f.copy(), start.copy()
    run_loop(denoise, table, f, lambda step: start)
    np.testing.assert_array_equal(f, before[0])
    np.testing.assert_array_equal(start, before[1])


def test_on_step_sees_every_row_and_false_ends_the_loop_with_that_rows_answer() -> None:
    table, f = make_table(PROCESS, sampler="ddim", steps=5), batch(1)
    noise = noise_source(3, slices=[0], samples=[0], shape=SHAPE)
    every: list[StepState] = []
    kept: list[Any] = []
    result = run_loop(denoise, table, f, noise, on_step=every.append, keep_steps=kept)
    assert [(state.row, state.timestep) for state in every] == list(enumerate(table.timesteps.tolist()))
    np.testing.assert_array_equal([state.x0hat for state in every], kept)
    np.testing.assert_array_equal(result, kept[-1])
    early: list[Any] = []
    stopped = run_loop(denoise, table, f, noise, on_step=lambda state: state.row < 2, keep_steps=early)
    np.testing.assert_array_equal(stopped, kept[2])
    assert len(early) == 3


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_answer_that_is_not_finite_is_refused_with_the_number_of_the_step(bad: float) -> None:
    table, f = make_table(PROCESS, sampler="ddim", steps=5), batch(1)

    def broken(x: Any, timestep: int) -> Any:
        answer = denoise(x, timestep)
        if timestep == 600:
            answer[0, 0, 0, 0] = bad
        return answer

    with pytest.raises(VerdiffError, match=r"step 3 of 5 \(timestep 600\) gave 1 values"):
        run_loop(broken, table, f, noise_source(3, slices=[0], samples=[0], shape=SHAPE))


def test_shapes_that_do_not_match_the_prior_are_refused() -> None:
    table, f = make_table(PROCESS, sampler="ddpm", steps=3), batch(2)
    noise = noise_source(3, slices=[0, 1], samples=[0, 0], shape=SHAPE)
    with pytest.raises(VerdiffError, match="start noise has shape"):
        run_loop(denoise, table, f, lambda step: noise(step)[:1])
    with pytest.raises(VerdiffError, match="noise of step 1 has shape"):
        run_loop(denoise, table, f, lambda step: noise(step)[:, : 2 - step])
    with pytest.raises(VerdiffError, match="denoiser at step 1 of 3"):
        run_loop(lambda x, t: x[:1], table, f, noise)
