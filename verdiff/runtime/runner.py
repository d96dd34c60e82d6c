"""What the work of a call asks of whoever computes: the networks and the loop, on the host or on a device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from verdiff.diffusion import Fused
    from verdiff.imaging import SlicePlan
    from verdiff.runtime.memory import MemoryPlan
    from verdiff.runtime.sampling import Sampling

Maps = NDArray[np.float32]

Conditions = Any
"""What the prior gave for a chunk of slices, wherever it lies; the runner's own."""

OnImages = Callable[[int], None]
"""Told how many images a network has done since it was told last."""

Stop = Callable[[int], bool]
"""Asked before a step of so many images; yes ends the sampling with what there is."""


@dataclass(frozen=True)
class Sampled:
    """Samples of a chunk of slices.

    Attributes:
        members: How many ensemble members there are of every slice.
        steps: Denoiser steps behind each of them; fewer than the table has when it was stopped.
        kept: The runner's own: the last x0hat of each, or every step's.
    """

    members: int
    steps: int
    kept: Any


class Runner(Protocol):
    """The networks and the loop for the length of one call."""

    def begin(self, plan: SlicePlan, sampling: Sampling, *, chunk: int | None, anytime: bool) -> MemoryPlan:
        """Take the memory of one call, or refuse it, before any work.

        Args:
            plan: The slices and their grids.
            sampling: Table, samples, seed and fusion.
            chunk: Slices worked on at once; None is the runner's choice.
            anytime: Whether there are rounds, which would use conditions and samples again.

        Raises:
            BudgetError: One slice at a time is still too much.
            BackendError: The device cannot run slices of this size.
        """
        ...

    def waits_s(self, plan: SlicePlan, denoiser: bool) -> float:
        """Seconds before the prior, or with ``denoiser`` both networks, can take the slices of a plan.

        Of the form of the networks that :meth:`begin` takes for that plan, where the memory allows it.
        """
        ...

    def prior(self, image: Maps, chunk: slice) -> Conditions:
        """``image`` [n, 1, H, W], the slices ``chunk`` of the scan, through the prior.

        Raises:
            BackendError: The network failed or gave a number that is not finite.
        """
        ...

    def fuse_prior(self, conditions: Conditions) -> Fused:
        """The prior's own answer."""
        ...

    def structures(self, conditions: Conditions) -> NDArray[np.bool_]:
        """Where the prior finds any structure, [n, H, W]."""
        ...

    def sample(
        self, conditions: Conditions, chunk: slice, members: range, report: OnImages, stop: Stop | None
    ) -> Sampled:
        """The samples ``members`` of the slices ``chunk``; with ``stop=None`` nothing interrupts them.

        Stopped halfway it has the members that are whole, or if none is, all that were begun at their latest step.

        Raises:
            BackendError: The network failed or gave a number that is not finite.
        """
        ...

    def fuse(self, parts: list[Sampled]) -> Fused:
        """One answer of all the samples of a chunk of slices, in order."""
        ...
