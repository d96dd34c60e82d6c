"""Before the work of a call begins: where to compute, how much of it, and the memory for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from verdiff.runtime.budget import BESIDE, require_reach
from verdiff.runtime.frontier import Pace, best_within
from verdiff.runtime.locating import locate, slices_to_look_at
from verdiff.runtime.policy import Policy

if TYPE_CHECKING:
    from verdiff.bundle.objects import Setting
    from verdiff.imaging import SlicePlan
    from verdiff.runtime.clock import Clock
    from verdiff.runtime.memory import MemoryPlan
    from verdiff.runtime.runner import Runner
    from verdiff.runtime.sampling import Sampling
    from verdiff.runtime.scan import Scan


@dataclass(frozen=True)
class CallPlan:
    """What one call will do.

    Attributes:
        plan: The slices, whole or in a window.
        sampling: Table, samples, seed, fusion and policy.
        memory: Chunk size, and what may be kept between passes.
        predicted: Seconds for all of it, where a deadline made it choose; else None.
        sampling_needs: Seconds of the quickest better setting that samples, where the deadline left time for the prior
            alone; else None.
        step_s_a_pixel: Seconds a pixel of one denoiser pass, by the pace; 0 where there is none.
    """

    plan: SlicePlan
    sampling: Sampling
    memory: MemoryPlan
    predicted: float | None = None
    sampling_needs: float | None = None
    step_s_a_pixel: float = 0.0


Waits = Callable[["SlicePlan", bool], float]


def prepare(
    runner: Runner,
    scan: Scan,
    sampling: Sampling,
    settings: tuple[Setting, ...],
    resolve: Callable[[Setting], Sampling],
    pace: Pace | None,
    clock: Clock,
    *,
    chunk: int | None,
    anytime: bool,
    only_checked: bool = False,
) -> CallPlan:
    """Look for the spine if the policy says so, choose the setting if that is open, and take the memory.

    Args:
        runner: Runner that has not begun.
        scan: The scan.
        sampling: What was asked for.
        settings: What to choose from instead, where a deadline leaves open how much to compute; else empty.
        resolve: A setting as a sampling.
        pace: Pace of this machine, where there is a deadline to judge by it; else None.
        clock: Clock with the deadline.
        chunk: Slices worked on at once; None is the runner's choice.
        anytime: Whether there will be rounds.
        only_checked: Whether nothing follows. Then the look is left out, and all that it would tell.

    Raises:
        BudgetError: The deadline comes before the networks could have answered every slice, or see
            :meth:`verdiff.runtime.runner.Runner.begin`.
        Cancelled: ``cancel`` said yes before the look was over.
        BackendError: See there.
    """
    plan, seconds = scan.plan, 0.0
    policies = [Policy.parse(each.policy) for each in settings] or [sampling.policy]
    looks = any(policy.locate for policy in policies)
    if pace is not None:
        # How small the window will be is not known yet; the look that finds it takes whole slices.
        whole, slices = pace.prior * _pixels(scan.plan), scan.plan.slices
        looked = len(slices_to_look_at(slices)) if looks else slices
        work = f"a look at {looked} of {slices} slices" if looks else f"{slices} slices"
        begins = runner.waits_s(scan.plan, False)
        require_reach(clock, begins + whole * looked / slices, begins + whole, work)
    if looks:
        look = replace(sampling, table=None, samples=0)
        memory = runner.begin(scan.plan, look, chunk=chunk, anytime=False)
        if only_checked:
            return CallPlan(plan, sampling, memory)
        plan, seconds = locate(runner, scan, clock, memory.chunk)
    predicted = needed = None
    if pace is not None:
        pace = _corrected(pace, seconds / _pixels(scan.plan) * scan.plan.slices)
        answered = plan if looks else scan.plan
        least = runner.waits_s(answered, False) + pace.prior * _pixels(answered)
        require_reach(clock, least, least, f"{plan.slices} slices")
    if settings and pace is not None:
        chosen, predicted, needed = _choose(settings, pace, runner.waits_s, scan.plan, plan, clock.left)
        sampling = resolve(chosen)
        plan = plan if sampling.policy.locate else scan.plan
    memory = runner.begin(plan, sampling, chunk=chunk, anytime=anytime)
    return CallPlan(plan, sampling, memory, predicted, needed, 0.0 if pace is None else pace.denoiser)


def _pixels(plan: SlicePlan) -> int:
    return plan.slices * plan.padded_rows * plan.padded_cols


def _corrected(pace: Pace, seen: float) -> Pace:
    """``pace`` with what the look saw of the prior, seconds a pixel or 0, where that is quicker.

    A pace that promises too much does no harm: the prior answers every slice first, and the deadline ends the rest.
    """
    share = seen / pace.prior if 0 < seen < pace.prior else 1.0
    return Pace(share * pace.prior, share * pace.denoiser)


def _choose(
    settings: tuple[Setting, ...], pace: Pace, waits: Waits, whole: SlicePlan, window: SlicePlan, left: float
) -> tuple[Setting, float, float | None]:
    """The best setting for the time that is left, or the quickest, and its seconds.

    The third is the seconds of the quickest setting that samples and was measured to be better, where the chosen one
    does not sample; else None. The time was too short for each of those, or the best of them would have been chosen.
    """

    def cost(setting: Setting) -> float:
        plan = window if Policy.parse(setting.policy).locate else whole
        passes = pace.prior + setting.steps * setting.samples * pace.denoiser
        return waits(plan, setting.steps > 0) + BESIDE * _pixels(plan) * passes

    quickest = min(settings, key=cost)
    chosen, predicted = best_within(settings, left, cost) or (quickest, cost(quickest))
    better = [cost(each) for each in settings if each.steps and each.dice > chosen.dice]
    return chosen, predicted, min(better, default=None) if not chosen.steps else None
