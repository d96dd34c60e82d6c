"""Noise schedules: how much of the signal is left after t of T steps.

Every array has T + 1 entries and is indexed by the timestep itself; entry 0 is the clean mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from verdiff.errors import VerdiffError

ScheduleKind = Literal["linear", "cosine"]

BETA_MAX = 0.999
"""No step removes more than this share of the variance (Nichol & Dhariwal 2021, section 3.2)."""


@dataclass(frozen=True)
class Schedule:
    """A named schedule of T timesteps; two schedules are equal when their names and lengths are.

    Args:
        kind: ``linear``: betas from 1e-4 * 1000 / T to 0.02 * 1000 / T (Ho et al. 2020, scaled to T as Nichol &
            Dhariwal do, so that the signal left at the end hardly depends on T). ``cosine``: abar_t = g(t) / g(0),
            g(t) = cos^2((t/T + s) / (1 + s) * pi/2), s = 0.008 (Nichol & Dhariwal 2021, equation 17).
        timesteps: T, at least 1.

    Raises:
        VerdiffError: An unknown kind or a T that is not a positive integer.
    """

    kind: ScheduleKind
    timesteps: int

    def __post_init__(self) -> None:
        if self.kind not in get_args(ScheduleKind):
            raise VerdiffError(
                f"schedule kind {self.kind!r}", f"one of {', '.join(get_args(ScheduleKind))}", "correct the process"
            )
        if isinstance(self.timesteps, bool) or not isinstance(self.timesteps, int) or self.timesteps < 1:
            raise VerdiffError(f"{self.timesteps!r} timesteps", "a whole number of at least 1", "correct the process")

    @cached_property
    def beta(self) -> NDArray[np.float64]:
        """beta_t = 1 - alpha_t, the variance each step adds, float64 [T + 1]; beta[0] = 0."""
        steps = self.timesteps
        if self.kind == "linear":
            scale = 1000.0 / steps
            betas = np.linspace(1e-4 * scale, 0.02 * scale, steps, dtype=np.float64)
        else:
            offset = 0.008
            t = np.arange(steps + 1, dtype=np.float64) / steps
            g = np.cos((t + offset) / (1.0 + offset) * np.pi / 2.0) ** 2
            betas = 1.0 - g[1:] / g[:-1]
        return _frozen(np.concatenate([[0.0], np.minimum(betas, BETA_MAX)]))

    @cached_property
    def alpha(self) -> NDArray[np.float64]:
        """alpha_t = 1 - beta_t, float64 [T + 1]; alpha[0] = 1."""
        return _frozen(1.0 - self.beta)

    @cached_property
    def abar(self) -> NDArray[np.float64]:
        """abar_t = alpha_1 ... alpha_t, float64 [T + 1]; abar[0] = 1."""
        return _frozen(np.cumprod(self.alpha, dtype=np.float64))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: ``{"kind": ..., "timesteps": ...}``."""
        return {"kind": self.kind, "timesteps": self.timesteps}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Schedule:
        """The inverse of :meth:`to_dict`.

        Raises:
            VerdiffError: A key is missing, or a value is not what the constructor takes.
        """
        try:
            return cls(data["kind"], data["timesteps"])
        except (KeyError, TypeError) as error:
            raise VerdiffError(
                f"a schedule that reads {data!r}", "an object with 'kind' and 'timesteps'", "correct the process"
            ) from error


def _frozen(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The array made read-only: it is shared by everyone who holds the schedule."""
    values.setflags(write=False)
    return values
