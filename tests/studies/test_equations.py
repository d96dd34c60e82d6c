"""The paper's printed equations do what the docs say of them, and the docs show the numbers the code gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from studies.equations import (
    algorithm_2_prior,
    equation_2_prior,
    equation_2_text_variance,
    equation_6_prior,
    equation_7_prior,
    equation_9_loss,
    markdown,
    outside_unit_interval,
)
from verdiff.diffusion import Process, Schedule

LINEAR = Schedule("linear", 1000)
PROCESS = Process("verdiff", LINEAR)


def test_equation_2_reaches_eighteen_times_the_prior() -> None:
    prior = equation_2_prior(LINEAR)
    assert prior.max() == pytest.approx(18.126, abs=1e-3)
    assert prior[1] == pytest.approx(PROCESS.prior[1])  # the first step is right; it is the composition that is not
    assert (prior[2:] > PROCESS.prior[2:] * 1.3).all()


def test_the_text_under_equation_2_settles_at_half_the_noise() -> None:
    variance = equation_2_text_variance(LINEAR)
    assert variance[-1] == pytest.approx(0.505, abs=1e-3)
    assert 1 - LINEAR.abar[-1] == pytest.approx(1.0, abs=1e-4)


def test_equation_6_drowns_the_state_in_the_prior() -> None:
    assert equation_6_prior(PROCESS).max() == pytest.approx(150.641, abs=1e-3)
    assert max(PROCESS.posterior(t).prior for t in range(1, 1001)) < 0.0101


def test_equation_7_doubles_the_prior_on_the_way_and_leaves_a_hundredth_of_it() -> None:
    prior = equation_7_prior(PROCESS)
    assert (prior / np.maximum(PROCESS.prior, 1e-9))[1:].max() == pytest.approx(2.25, abs=0.01)
    assert prior[0] == pytest.approx(0.0100005, abs=1e-7)


def test_equation_7_is_exact_without_a_prior() -> None:
    """With m = 0 equation 7 is DDPM's own update: its mean is the posterior's for the epsilon of the marginal."""
    process = Process("ddpm", LINEAR)
    x0, x = 0.3, -1.1
    for t in (1, 2, 500, 1000):
        alpha, sigma, s = LINEAR.alpha[t], process.noise[t], process.signal[t]
        printed = (x - (1 - alpha) / sigma * (x - s * x0) / sigma) / np.sqrt(alpha)
        exact = process.posterior(t)
        assert printed == pytest.approx(exact.x0 * x0 + exact.x * x, abs=1e-12)


def test_algorithm_2_starts_one_standard_deviation_from_equation_5() -> None:
    prior = algorithm_2_prior(PROCESS)
    assert prior[1000] == 0.0
    assert PROCESS.prior[1000] / PROCESS.noise[1000] == 1.0
    assert prior[900] == pytest.approx(0.617, abs=1e-3)
    assert prior[0] == pytest.approx(0.0, abs=1e-12)


def test_equation_9_has_no_minimum_on_gaussian_targets() -> None:
    losses = [equation_9_loss(2.0, 1 - 10.0**-digits) for digits in range(1, 12)]
    assert (np.diff(losses) < -2).all()
    drawn = np.random.default_rng(0).normal(size=100_000)
    assert outside_unit_interval() == pytest.approx(((drawn < 0) | (drawn > 1)).mean(), abs=0.006)


def test_the_docs_show_the_table_the_command_prints() -> None:
    page = (Path(__file__).parents[2] / "docs" / "diffusion.md").read_text(encoding="utf-8")
    shown = page.split("<!-- printed: begin -->\n")[1].split("<!-- printed: end -->")[0]
    assert shown == markdown(LINEAR)
