"""The process family: every system here is x_t = k s_t x0 + k m_t f + sigma_t eps with its own prior coefficient m_t.

u_t = x_t - k m_t f is an ordinary variance-preserving diffusion of k x0, which is why every known sampler applies.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from verdiff.diffusion.schedules import Schedule
from verdiff.errors import VerdiffError

ProcessName = Literal["verdiff", "card", "ddpm"]


class Kernel(NamedTuple):
    """One forward step: x_t = ``previous`` x_{t-1} + ``prior`` (k f) + ``noise`` eps."""

    previous: float
    prior: float
    noise: float


class Posterior(NamedTuple):
    """q(x_{t-1} | x_t, x0, f): mean ``x0`` (k x0) + ``x`` x_t + ``prior`` (k f), and its ``variance``."""

    x0: float
    x: float
    prior: float
    variance: float


@dataclass(frozen=True)
class Process:
    """A diffusion of masks towards noise around a prior mask f.

    Args:
        name: ``verdiff``: m_t = sigma_t (Verdiff-Net equations 3 and 5). ``card``: m_t = 1 - s_t (CARD, Han et
            al. 2022). ``ddpm``: m_t = 0 (Ho et al. 2020, equation 4).
        schedule: Gives s_t = sqrt(abar_t) and sigma_t = sqrt(1 - abar_t).
        signal_scale: k, in (0, 1]: both x0 and f are multiplied by it, so that a smaller k hides the mask at earlier
            timesteps. ``signal``, ``prior``, ``noise``, :meth:`kernel` and :meth:`posterior` are those of k x0 and
            k f, without the factor; :meth:`marginal` and the sampler tables apply it.

    Raises:
        VerdiffError: An unknown name or a scale outside (0, 1].
    """

    name: ProcessName
    schedule: Schedule
    signal_scale: float = 1.0

    def __post_init__(self) -> None:
        if self.name not in get_args(ProcessName):
            raise VerdiffError(
                f"process {self.name!r}", f"one of {', '.join(get_args(ProcessName))}", "correct the process"
            )
        if not 0.0 < self.signal_scale <= 1.0:
            raise VerdiffError(f"signal scale {self.signal_scale!r}", "a number in (0, 1]", "correct the process")

    @property
    def timesteps(self) -> int:
        """T: timesteps run from 0 (the clean mask) to T."""
        return self.schedule.timesteps

    @cached_property
    def signal(self) -> NDArray[np.float64]:
        """s_t = sqrt(abar_t), float64 [T + 1]."""
        return np.sqrt(self.schedule.abar)

    @cached_property
    def noise(self) -> NDArray[np.float64]:
        """sigma_t = sqrt(1 - abar_t), float64 [T + 1]."""
        return np.sqrt(1.0 - self.schedule.abar)

    @cached_property
    def prior(self) -> NDArray[np.float64]:
        """m_t, the coefficient of the prior, float64 [T + 1]; m_0 = 0."""
        prior: dict[ProcessName, NDArray[np.float64]] = {
            "verdiff": self.noise,
            "card": 1.0 - self.signal,
            "ddpm": np.zeros(self.timesteps + 1),
        }
        return prior[self.name]

    def marginal(self, x0: ArrayLike, f: ArrayLike, eps: ArrayLike, t: int | NDArray[np.integer[Any]]) -> NDArray[Any]:
        """x_t = k s_t x0 + k m_t f + sigma_t eps (Verdiff-Net equation 3).

        Args:
            x0: The mask on [-1, 1], [N, K, H, W] or any shape.
            f: The prior mask on [-1, 1], the same shape.
            eps: Standard normal noise, the same shape.
            t: One timestep, or one for each entry of the first axis, [N]; each in 0 ... T.

        Returns:
            x_t in the inputs' common float type (float32 in, float32 out).

        Raises:
            VerdiffError: A timestep outside 0 ... T.
        """
        x0, f, eps = np.asarray(x0), np.asarray(f), np.asarray(eps)
        index = np.asarray(t)
        self._check(int(index.min()), 0)
        self._check(int(index.max()), 0)
        kind = np.result_type(x0, f, eps, np.float32)

        def at(coefficients: NDArray[np.float64]) -> NDArray[Any]:
            chosen = np.asarray(coefficients[index], dtype=kind)
            return chosen.reshape(index.shape + (1,) * (x0.ndim - index.ndim))

        k = self.signal_scale
        x_t: NDArray[Any] = at(k * self.signal) * x0 + at(k * self.prior) * f + at(self.noise) * eps
        return x_t

    def kernel(self, t: int) -> Kernel:
        """The step from t - 1 to t that composes into the marginal; t in 1 ... T.

        x_t = sqrt(alpha_t) x_{t-1} + (m_t - sqrt(alpha_t) m_{t-1}) k f + sqrt(1 - alpha_t) eps.
        """
        self._check(t, 1)
        root = float(np.sqrt(self.schedule.alpha[t]))
        prior = float(self.prior[t] - root * self.prior[t - 1])
        return Kernel(root, prior, float(np.sqrt(self.schedule.beta[t])))

    def posterior(self, t: int) -> Posterior:
        """The exact q(x_{t-1} | x_t, x0, f); t in 1 ... T.

        A = sqrt(abar_{t-1}) beta_t / (1 - abar_t), B = sqrt(alpha_t) (1 - abar_{t-1}) / (1 - abar_t),
        C = m_{t-1} - B m_t, variance (1 - abar_{t-1}) beta_t / (1 - abar_t). With m = 0 these are Ho et al. 2020,
        equation 7; with m = 1 - s, CARD's gamma_0, gamma_1, gamma_2.
        """
        self._check(t, 1)
        abar, beta = self.schedule.abar, self.schedule.beta[t]
        left = 1.0 - abar[t - 1]
        total = 1.0 - abar[t]
        b = np.sqrt(self.schedule.alpha[t]) * left / total
        return Posterior(
            x0=float(np.sqrt(abar[t - 1]) * beta / total),
            x=float(b),
            prior=float(self.prior[t - 1] - b * self.prior[t]),
            variance=float(left * beta / total),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: name, schedule, signal_scale."""
        return {"name": self.name, "schedule": self.schedule.to_dict(), "signal_scale": self.signal_scale}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Process:
        """The inverse of :meth:`to_dict`.

        Raises:
            VerdiffError: A key is missing, or a value is not what the constructor takes.
        """
        try:
            return cls(data["name"], Schedule.from_dict(data["schedule"]), float(data["signal_scale"]))
        except (KeyError, TypeError, ValueError) as error:
            raise VerdiffError(
                f"a process that reads {data!r}",
                "an object with 'name', 'schedule' and 'signal_scale'",
                "correct the process",
            ) from error

    def _check(self, t: int, least: int) -> None:
        if not least <= t <= self.timesteps:
            raise VerdiffError(f"timestep {t}", f"{least} ... {self.timesteps}", "use a timestep of this schedule")
