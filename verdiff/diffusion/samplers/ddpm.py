"""DDPM's ancestral sampling (Ho et al. 2020, algorithm 2): the exact posterior of the steps that are kept."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from verdiff.diffusion.process import Process
from verdiff.diffusion.samplers.ddim import ddim_rows


def ddpm_rows(process: Process, grid: NDArray[np.int64]) -> NDArray[np.float64]:
    """The rows from grid[i] to grid[i + 1], float64 [n, 5]: DDIM with eta = 1 (Song et al. 2021, section 4.1).

    On neighbouring timesteps this is :meth:`Process.posterior`; on others it is the posterior of the coarser chain.
    """
    return ddim_rows(process, grid, eta=1.0)
