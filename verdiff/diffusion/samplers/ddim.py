"""DDIM (Song et al. 2021, equation 12) on u_t = x_t - m_t f, so that it holds for every prior coefficient m_t."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from verdiff.diffusion.process import Process


def ddim_rows(process: Process, grid: NDArray[np.int64], eta: float) -> NDArray[np.float64]:
    """The rows from grid[i] to grid[i + 1], float64 [n, 5].

    Args:
        process: Gives s, m and sigma.
        grid: Timesteps falling from the start to 0, [n + 1].
        eta: 0: deterministic. 1: the noise of the exact posterior, DDPM's ancestral sampling.
    """
    rows = np.zeros((len(grid) - 1, 5))
    abar = process.schedule.abar
    for i, (t, p) in enumerate(pairwise(grid)):
        s_t, m_t, sigma_t = process.signal[t], process.prior[t], process.noise[t]
        s_p, m_p, sigma_p = process.signal[p], process.prior[p], process.noise[p]
        # Equation 16: the standard deviation of the noise that is put back.
        d = eta * (sigma_p / sigma_t) * np.sqrt(1.0 - abar[t] / abar[p])
        # Equation 12 with eps-hat = (x_t - s_t x0hat - m_t f) / sigma_t written out.
        a = np.sqrt(max(sigma_p**2 - d**2, 0.0)) / sigma_t
        rows[i] = a, s_p - a * s_t, m_p - a * m_t, d, 0.0
    return rows
