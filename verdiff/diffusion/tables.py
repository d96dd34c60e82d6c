"""A sampler is a table: one affine update a step, computed once in float64 from the process.

    x <- a x + b x0hat + c f + d z + e x0hat_previous

Everything that runs the loop (numpy, an ONNX graph, a device) needs only this table, the denoiser and noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verdiff.choices import SAMPLERS, STARTS, SamplerName, StartName
from verdiff.diffusion.process import Process
from verdiff.diffusion.samplers.ddim import ddim_rows
from verdiff.diffusion.samplers.ddpm import ddpm_rows
from verdiff.diffusion.samplers.dpmpp import dpmpp_2m_rows
from verdiff.errors import VerdiffError


@dataclass(frozen=True, eq=False)
class SamplerTable:
    """The whole sampler as numbers, for x0 and f on [-1, 1].

    Args:
        timesteps: What the denoiser is told at each row, int64 [n], falling, all at least 1.
        coefficients: (a, b, c, d, e) of each row, float64 [n, 5]. The last row is (0, 1, 0, 0, 0): the result is the
            last x0hat, on [-1, 1]. The process's signal scale is folded into b, c, e of the other rows.
        start: x at the first row is start[0] f + start[1] z, float64 [2].

    Raises:
        VerdiffError: Wrong shapes, timesteps that do not fall, a number that is not finite, another last row, or an
            x0hat_previous in the first row.
    """

    timesteps: NDArray[np.int64]
    coefficients: NDArray[np.float64]
    start: NDArray[np.float64]

    def __post_init__(self) -> None:
        for name, kind in (("timesteps", np.int64), ("coefficients", np.float64), ("start", np.float64)):
            values = np.array(getattr(self, name), dtype=kind)
            values.setflags(write=False)
            object.__setattr__(self, name, values)
        n = len(self.timesteps) if self.timesteps.ndim == 1 else 0
        problem = ""
        if n < 1 or self.coefficients.shape != (n, 5) or self.start.shape != (2,):
            problem = (
                f"shapes {self.timesteps.shape}, {self.coefficients.shape}, {self.start.shape}, not (n,), (n, 5), (2,)"
            )
        elif not (np.isfinite(self.coefficients).all() and np.isfinite(self.start).all()):
            problem = "a coefficient that is not finite"
        elif self.timesteps[-1] < 1 or (np.diff(self.timesteps) >= 0).any():
            problem = f"timesteps {self.timesteps.tolist()}"
        elif self.coefficients[-1].tolist() != [0.0, 1.0, 0.0, 0.0, 0.0]:
            problem = f"a last row {self.coefficients[-1].tolist()}"
        elif self.coefficients[0, 4] != 0.0:
            problem = "a first row that wants an x0hat before it"
        if problem:
            raise VerdiffError(
                f"a sampler table with {problem}",
                "n falling timesteps >= 1, n finite rows (a, b, c, d, e) that end in (0, 1, 0, 0, 0), and two start "
                "coefficients",
                "make the table with verdiff.diffusion.make_table",
            )

    def __len__(self) -> int:
        """The number of steps, which is the number of times the denoiser runs."""
        return len(self.timesteps)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SamplerTable) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash((self.timesteps.tobytes(), self.coefficients.tobytes(), self.start.tobytes()))

    def needs_noise(self, row: int) -> bool:
        """Whether this row adds noise (d is not 0); the start is not a row."""
        return bool(self.coefficients[row, 3] != 0.0)

    @property
    def deterministic(self) -> bool:
        """Whether the start is the only place that needs noise."""
        return not self.coefficients[:, 3].any()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON lists; Python's JSON keeps every float64 exactly."""
        return {
            "timesteps": self.timesteps.tolist(),
            "coefficients": self.coefficients.tolist(),
            "start": self.start.tolist(),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> SamplerTable:
        """The inverse of :meth:`to_dict`.

        Raises:
            VerdiffError: A key is missing, or what it holds is not such a table.
        """
        try:
            return cls(data["timesteps"], data["coefficients"], data["start"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise VerdiffError(
                f"a sampler table that cannot be read ({error})",
                "an object with number lists 'timesteps', 'coefficients' and 'start'",
                "make the table with verdiff.diffusion.make_table",
            ) from error


def select_timesteps(start_step: int, steps: int) -> NDArray[np.int64]:
    """The grid of a sampler: ``steps`` + 1 timesteps, evenly spaced, from start_step down to 0.

    t_i = floor(start_step (steps - i) / steps + 1/2), i = 0 ... steps, in whole numbers; the denoiser runs at all but
    the last. Any host can repeat it, and the timesteps are distinct as long as steps <= start_step.

    Raises:
        VerdiffError: steps outside 1 ... start_step.
    """
    if not 1 <= steps <= start_step:
        raise VerdiffError(
            f"{steps} steps from timestep {start_step}",
            f"1 ... {start_step} steps, since each step is a timestep of its own",
            "ask for fewer steps or start later",
        )
    left = np.arange(steps, -1, -1, dtype=np.int64)
    return (2 * start_step * left + steps) // (2 * steps)


def make_table(
    process: Process,
    *,
    sampler: SamplerName,
    steps: int,
    eta: float = 0.0,
    start: StartName = "noise",
    start_step: int | None = None,
) -> SamplerTable:
    """The sampler's table for one process, number of steps and start.

    Args:
        process: The process the denoiser was trained on.
        sampler: ``ddim``; ``ddpm``, which is ``ddim`` with eta = 1; ``dpmpp-2m``, which has no noise.
        steps: How often the denoiser runs, 1 ... start_step; see :func:`select_timesteps`.
        eta: How much of the posterior's noise ``ddim`` puts back, 0 ... 1. The other samplers take 0 only.
        start: ``noise``: x = k m_t0 f + sigma_t0 z, the end of the process. ``prior``: x = k (s_t0 + m_t0) f +
            sigma_t0 z, the process had the prior been the mask; needs start_step < T.
        start_step: t0, 1 ... T; ``None`` means T.

    Raises:
        VerdiffError: An option outside the range stated here.
    """
    last = process.timesteps
    t0 = last if start_step is None else start_step
    _check_options(sampler, eta, start, t0, last)
    grid = select_timesteps(t0, steps)

    if sampler == "ddim":
        rows = ddim_rows(process, grid, eta)
    elif sampler == "ddpm":
        rows = ddpm_rows(process, grid)
    else:
        rows = dpmpp_2m_rows(process, grid)

    k = process.signal_scale
    rows[:-1, [1, 2, 4]] *= k
    # The last row's value is x0hat exactly; what float64 leaves of the others at t = 0 is rounding.
    rows[-1] = 0.0, 1.0, 0.0, 0.0, 0.0
    on_prior = process.prior[t0] + (process.signal[t0] if start == "prior" else 0.0)
    return SamplerTable(grid[:-1], rows, np.array([k * on_prior, process.noise[t0]]))


def _check_options(sampler: str, eta: float, start: str, t0: int, last: int) -> None:
    if sampler not in SAMPLERS:
        raise VerdiffError(f"sampler {sampler!r}", f"one of {', '.join(SAMPLERS)}", "choose one of them")
    if start not in STARTS:
        raise VerdiffError(f"start {start!r}", f"one of {', '.join(STARTS)}", "choose one of them")
    if not 0.0 <= eta <= (1.0 if sampler == "ddim" else 0.0):
        raise VerdiffError(
            f"eta = {eta} with the sampler {sampler}",
            "0 ... 1 with ddim, 0 with the others",
            "leave eta out, or use ddim",
        )
    if not 1 <= t0 <= last:
        raise VerdiffError(f"start step {t0}", f"1 ... {last}", "use a timestep of this schedule")
    if start == "prior" and t0 == last:
        raise VerdiffError(
            f"a start from the prior at the last timestep {last}, where nothing of it would be left",
            f"a start step below {last}",
            "set start_step, for example to a third of the timesteps",
        )
