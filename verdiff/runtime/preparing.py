"""Before the work of a call begins: where to compute, how much of it, and the memory for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from verdiff.runtime.frontier import BESIDE, Pace, Setting, best_within
from verdiff.runtime.locating import locate
from verdiff.runtime.policy import Policy

if TYPE_CHECKING:
    from verdiff.imaging import SlicePlan
    from verdiff.runtime.clock import Clock
    from verdiff.runtime.memory import MemoryPlan
    from verdiff.runtime.runner import Runner
    from verdiff.runtime.sampling import Sampling


@dataclass(frozen=True)
class Scan:
    """A scan as the networks take it.

    Attributes:
        plan: Whole slices and their grid.
        planes: The slices in their own pixels, [slices, rows, cols].
        bounds: Intensities that become -1 and 1.
        ids: Label id of each class index, uint8 [K + 1].
        multiple: What the networks' rows and columns are multiples of.
    """

    plan: SlicePlan
    planes: NDArray[np.generic]
    bounds: tuple[float, float]
    ids: NDArray[np.uint8]
    multiple: int


@dataclass(frozen=True)
class Work:
    """What one call will do.

    Attributes:
        plan: The slices, whole or in a window.
        sampling: Table, samples, seed, fusion and policy.
        memory: Chunk size, and what may be kept between passes.
        predicted: Seconds for all of it, where a deadline made it choose; else None.
    """

    plan: SlicePlan
    sampling: Sampling
    memory: MemoryPlan
    predicted: float | None = None


@dataclass(frozen=True)
class OpenEffort:
    """A call with a deadline and nothing said about how much to compute: the model's frontier decides.

    Attributes:
        settings: To choose from.
        pace: Of this machine.
        resolve: A setting as a sampling.
    """

    settings: tuple[Setting, ...]
    pace: Pace
    resolve: Callable[[Setting], Sampling]


def prepare(
    runner: Runner,
    scan: Scan,
    sampling: Sampling,
    effort: OpenEffort | None,
    clock: Clock,
    *,
    chunk: int | None,
    anytime: bool,
) -> Work:
    """Look for the spine if the policy says so, choose the setting if that is open, and take the memory.

    Args:
        runner: Not begun.
        scan: The scan.
        sampling: What was asked for.
        effort: What to choose from instead, or None.
        clock: With the deadline.
        chunk: Slices worked on at once; None is the runner's choice.
        anytime: Whether there will be rounds.

    Raises:
        BudgetError, BackendError: See :meth:`verdiff.runtime.runner.Runner.begin`.
    """
    plan, seconds = scan.plan, 0.0
    policies = [sampling.policy] if effort is None else [Policy.parse(each.policy) for each in effort.settings]
    if any(policy.locate for policy in policies):
        look = replace(sampling, table=None, samples=0)
        memory = runner.begin(scan.plan, look, chunk=chunk, anytime=False)
        plan, seconds = locate(runner, scan, clock, memory.chunk)
    predicted = None
    if effort is not None:
        chosen, predicted = _choose(effort, scan.plan, plan, seconds, clock.left)
        sampling = effort.resolve(chosen)
        plan = plan if sampling.policy.locate else scan.plan
    memory = runner.begin(plan, sampling, chunk=chunk, anytime=anytime)
    return Work(plan, sampling, memory, predicted)


def _choose(
    effort: OpenEffort, whole: SlicePlan, window: SlicePlan, seconds: float, left: float
) -> tuple[Setting, float]:
    """The best setting for the time that is left, or the quickest; ``seconds`` is what a whole slice's prior took."""
    pixels = whole.padded_rows * whole.padded_cols
    prior = seconds / pixels or effort.pace.prior
    step = prior * effort.pace.denoiser / effort.pace.prior

    def cost(setting: Setting) -> float:
        plan = window if Policy.parse(setting.policy).locate else whole
        passes = prior + setting.steps * setting.samples * step
        return BESIDE * plan.slices * plan.padded_rows * plan.padded_cols * passes

    found = best_within(effort.settings, left, cost)
    if found is not None:
        return found
    quickest = min(effort.settings, key=cost)
    return quickest, cost(quickest)
