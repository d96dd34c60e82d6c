"""DPM-Solver++(2M), the multistep second-order solver for x0 prediction (Lu et al. 2022, algorithm 2).

lambda = ln(s / sigma) is half the log signal-to-noise ratio of u_t = x_t - m_t f.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from verdiff.diffusion.process import Process


def dpmpp_2m_rows(process: Process, grid: NDArray[np.int64]) -> NDArray[np.float64]:
    """The rows from grid[i] to grid[i + 1], float64 [n, 5].

    The first row is first order, having no x0hat before it. The last one ends at t = 0, where lambda is infinite and
    the update is x0hat itself; it is first order too, the usual choice for few steps.

    Args:
        process: Gives s, m and sigma.
        grid: Timesteps falling from the start to 0, [n + 1].
    """
    rows = np.zeros((len(grid) - 1, 5))
    inner = grid[:-1]
    lam = np.log(process.signal[inner] / process.noise[inner])
    for i, (t, p) in enumerate(pairwise(inner)):
        h = lam[i + 1] - lam[i]
        a = process.noise[p] / process.noise[t]
        g = -process.signal[p] * np.expm1(-h)
        c = process.prior[p] - a * process.prior[t]
        if i == 0:
            rows[i] = a, g, c, 0.0, 0.0
        else:
            r = (lam[i] - lam[i - 1]) / h
            rows[i] = a, g * (1.0 + 0.5 / r), c, 0.0, -0.5 * g / r
    rows[-1, 1] = 1.0
    return rows
