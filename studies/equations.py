"""Verdiff-Net's printed equations beside the consistent ones, as numbers. No sampler runs any of them.

Every figure is about the coefficient of the prior f in x_t, which the denoiser is trained to see at m_t = sigma_t
(the paper's equations 3 and 5). ``python -m studies equations`` prints the table that ``docs/diffusion.md`` shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import erf, log, sqrt

import numpy as np
from numpy.typing import NDArray

from verdiff.diffusion.process import Process
from verdiff.diffusion.schedules import Schedule
from verdiff.markdown import markdown_table


@dataclass(frozen=True)
class PrintedFormula:
    """One printed formula: what it says, what number follows from it, and what the number should be."""

    equation: str
    quantity: str
    printed: float
    consistent: float | None
    verdict: str


def equation_2_prior(schedule: Schedule) -> NDArray[np.float64]:
    """The coefficient of f after t steps of equation 2, whose mean adds sqrt(1 - alpha_t) f at each: [T + 1]."""
    prior = np.zeros(schedule.timesteps + 1)
    for t in range(1, schedule.timesteps + 1):
        prior[t] = sqrt(schedule.alpha[t]) * prior[t - 1] + sqrt(schedule.beta[t])
    return prior


def equation_2_text_variance(schedule: Schedule) -> NDArray[np.float64]:
    """The noise variance after t steps with the mean that the text under equation 2 gives, alpha_t x_{t-1}: [T + 1]."""
    variance = np.zeros(schedule.timesteps + 1)
    for t in range(1, schedule.timesteps + 1):
        variance[t] = schedule.alpha[t] ** 2 * variance[t - 1] + schedule.beta[t]
    return variance


def equation_6_prior(process: Process) -> NDArray[np.float64]:
    """The coefficient of f along the chain of equation 6 with the true x0, from m_T down: [T + 1].

    Its mean adds sqrt(1 - abar_t) f where the posterior adds (m_{t-1} - B_t m_t) f.
    """
    prior = process.prior.copy()
    for t in range(process.timesteps, 0, -1):
        prior[t - 1] = process.posterior(t).x * prior[t] + process.noise[t]
    return prior


def equation_7_prior(process: Process) -> NDArray[np.float64]:
    """The coefficient of f along the chain of equation 7, with the epsilon equation 3 gives for the true x0: [T + 1].

    The exact mean in terms of epsilon is equation 7 plus (m_{t-1} - m_t / sqrt(alpha_t)) f.
    """
    prior = process.prior.copy()
    for t in range(process.timesteps, 0, -1):
        omitted = process.prior[t - 1] - process.prior[t] / sqrt(process.schedule.alpha[t])
        exact = process.posterior(t)
        prior[t - 1] = exact.x * prior[t] + exact.prior - omitted
    return prior


def algorithm_2_prior(process: Process) -> NDArray[np.float64]:
    """The coefficient of f along the exact chain with the true x0, from N(0, I) as algorithm 2 prints: [T + 1]."""
    prior = process.prior.copy()
    prior[-1] = 0.0
    for t in range(process.timesteps, 0, -1):
        exact = process.posterior(t)
        prior[t - 1] = exact.x * prior[t] + exact.prior
    return prior


def equation_9_loss(epsilon: float, predicted: float) -> float:
    """The binary cross entropy of equation 9 for one pixel; ``predicted`` must lie in (0, 1)."""
    return -(epsilon * log(predicted) + (1.0 - epsilon) * log(1.0 - predicted))


def outside_unit_interval() -> float:
    """The share of a standard normal that lies outside [0, 1], where a binary cross entropy has no meaning."""
    return 1.0 - 0.5 * erf(1.0 / sqrt(2.0))


def comparisons(schedule: Schedule) -> tuple[PrintedFormula, ...]:
    """Every printed formula that differs from a consistent one, with the numbers of this schedule."""
    process = Process("verdiff", schedule)
    last, m = schedule.timesteps, process.prior
    two, six, seven = equation_2_prior(schedule), equation_6_prior(process), equation_7_prior(process)
    off_seven = int(np.abs(seven - m).argmax())
    late = last - last // 10
    return (
        PrintedFormula("2", "largest coefficient of f over t", two.max(), m.max(), "does not compose into equation 3"),
        PrintedFormula("2", f"coefficient of f at t = {last}", two[-1], m[-1], "does not compose into equation 3"),
        PrintedFormula(
            "2, its text",
            f"noise variance at t = {last}",
            equation_2_text_variance(schedule)[-1],
            1.0 - schedule.abar[-1],
            "mean alpha_t x + (1 - alpha_t) f, variance 1 - alpha_t",
        ),
        PrintedFormula(
            "6",
            "largest multiple of f added in one step",
            process.noise.max(),
            max(process.posterior(t).prior for t in range(1, last + 1)),
            "the exact term is m_{t-1} - B_t m_t",
        ),
        PrintedFormula("6", "largest coefficient of f, true x0", six.max(), m.max(), "leaves what the denoiser knows"),
        PrintedFormula(
            "7",
            f"coefficient of f at t = {off_seven}, true x0",
            seven[off_seven],
            m[off_seven],
            "the f term is missing",
        ),
        PrintedFormula("7", "coefficient of f left at t = 0, true x0", seven[0], m[0], "the f term is missing"),
        PrintedFormula(
            "Algorithm 2", f"coefficient of f at t = {last}", 0.0, m[-1], "equation 5 starts at N(f, I), not N(0, I)"
        ),
        PrintedFormula(
            "Algorithm 2",
            f"coefficient of f at t = {late}, true x0",
            algorithm_2_prior(process)[late],
            m[late],
            "the prior arrives late",
        ),
        PrintedFormula(
            "9", "share of its targets outside [0, 1]", outside_unit_interval(), 0.0, "the target is Gaussian noise"
        ),
        PrintedFormula(
            "9",
            "loss at epsilon = 2, predicted 0.999999",
            equation_9_loss(2.0, 0.999999),
            None,
            "no lower bound, so no minimum",
        ),
    )


def markdown(schedule: Schedule) -> str:
    """The comparisons as a Markdown table."""
    rows = []
    for row in comparisons(schedule):
        consistent = "none" if row.consistent is None else f"{row.consistent:.3f}"
        rows.append((row.equation, row.quantity, f"{row.printed:.3f}", consistent, row.verdict))
    titles = ("printed", "quantity", "as printed", "consistent", "why")
    return "\n".join(markdown_table(titles, rows, words=titles)) + "\n"
