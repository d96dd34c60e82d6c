"""One call of a Segmenter: the scan checked, the memory taken, what computes held until it is over, the result made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from verdiff.errors import InputError
from verdiff.imaging import IntensityRule, Volume, intensity_bounds, plan_slices, volume_from
from verdiff.options import CallOptions
from verdiff.runtime.answer import Answer, restore
from verdiff.runtime.backends import Backend, CompilesSizes, default_threads, loops_on_device
from verdiff.runtime.budget import require_time
from verdiff.runtime.engine import Engine
from verdiff.runtime.frontier import Setting, settings_of
from verdiff.runtime.host import HostRunner
from verdiff.runtime.lanes import Lanes, lane_count
from verdiff.runtime.plausibility import Warned, warnings_of_mask, warnings_of_scan
from verdiff.runtime.preparing import OpenEffort, Scan, prepare
from verdiff.runtime.provenance import describe_backend, describe_run, describe_work
from verdiff.runtime.result import Segmentation
from verdiff.runtime.sampling import Sampling, resolve_sampling
from verdiff.runtime.suitability import require_suitable, unsuitable_reasons

if TYPE_CHECKING:
    from verdiff.imaging import SlicePlan
    from verdiff.runtime.clock import Clock
    from verdiff.runtime.device.backend import DeviceBackend
    from verdiff.runtime.policy import Policy
    from verdiff.runtime.runner import Runner
    from verdiff.runtime.segmenter import Segmenter


@dataclass(frozen=True)
class Request:
    """What a call to :meth:`Segmenter.segment` or :meth:`Segmenter.stream` asks for; see there."""

    scan: Any
    options: CallOptions
    clock: Clock


@dataclass(frozen=True)
class Call:
    """A call that is under way.

    Attributes:
        segmenter: Whose call it is.
        engine: Does the work.
        volume: The scan.
        forced: Reasons against the scan that ``force`` went past.
        prior_only: Whether a diffusion model was asked for its prior alone.
        unlike: What of the scan is unlike the training data.
    """

    segmenter: Segmenter
    engine: Engine
    volume: Volume
    forced: tuple[str, ...]
    prior_only: bool
    unlike: tuple[Warned, ...] = ()

    def result(self, outcome: str, answer: Answer) -> Segmentation:
        """The mask in the scan's grid of what is known so far."""
        engine = self.engine
        # A deadline that came before a single step leaves the prior's answer, and no other.
        prior_alone = engine.sampling.table is None or (outcome == "budget" and not np.any(answer.samples))
        if self.prior_only or (self.segmenter.diffusion and prior_alone):
            outcome = "prior"
        with engine.clock.stage("restore"):
            labels = restore(answer, engine.plan, engine.scan.ids, engine.lanes.map)
            scan = engine.scan
            warned = warnings_of_mask(self.segmenter.manifest, scan.plan, labels, self.volume.array, scan.bounds)
        provenance = describe_run(
            self.segmenter.model,
            describe_backend(self.segmenter.backend),
            self.volume,
            engine.sampling,
            answer,
            outcome=outcome,
            forced=self.forced,
            warned=(*self.unlike, *warned),
        )
        provenance["computed"] = describe_work(engine)
        if outcome == "prior" and engine.clock.timed and not self.prior_only:
            # None: the pace does not say.
            provenance["computed"].setdefault("sampling_would_take_ms", None)
        if self.segmenter.chosen:
            provenance["chosen"] = self.segmenter.chosen
        return Segmentation(
            labels=labels,
            label_table=self.segmenter.manifest.labels,
            geometry=self.volume.geometry,
            outcome=outcome,
            timings={**engine.clock.timings, "total": engine.clock.elapsed},
            provenance=provenance,
            _answer=answer,
            _plan=engine.plan,
            identity=self.volume.identity,
        )


@contextmanager
def open_call(segmenter: Segmenter, request: Request, *, anytime: bool) -> Iterator[Call]:
    """Check the scan, take the memory, and hold what computes until the call is over.

    Raises:
        InputError, UnsuitableScanError, BudgetError, BackendError: See :meth:`Segmenter.segment`.
    """
    manifest, clock = segmenter.manifest, request.clock
    require_time(clock)
    denoiser = segmenter.diffusion and not request.options.prior_only
    sampling = resolve_sampling(manifest, request.options, denoiser=denoiser)
    _check_policy(segmenter, sampling.policy)
    volume = volume_from(request.scan)
    with clock.stage("normalise"):
        plan = plan_slices(
            volume.geometry,
            view=manifest.view,  # type: ignore[arg-type]
            spacing_mm=manifest.spacing_mm,
            multiple=manifest.multiple,
        )
        forced = unsuitable_reasons(volume, manifest, plan)
        require_suitable(forced, manifest, force=request.options.force)
    with _lanes(segmenter) as lanes, _runner(segmenter, clock, lanes) as runner:
        with clock.stage("normalise"):
            bounds = intensity_bounds(volume.array, IntensityRule.from_dict(manifest.intensity))
        ids = np.array([0, *(label.id for label in manifest.labels)], np.uint8)
        scan = Scan(plan, plan.extract(volume.array), bounds, ids, manifest.multiple)
        effort = _open_effort(segmenter, request) if denoiser else None
        # Agreement is asked after rounds, which an anytime call has.
        anytime = anytime or sampling.policy.agree
        pace = segmenter.pace if clock.timed and not loops_on_device(segmenter.backend) else None
        work = prepare(
            runner,
            scan,
            sampling,
            effort,
            pace,
            clock,
            chunk=segmenter.chunk,
            anytime=anytime,
            waits=partial(_waits_s, segmenter.backend),
        )
        engine = Engine(runner, lanes, scan, work, clock, anytime, request.options.progress)
        unlike = warnings_of_scan(manifest, plan, volume.array, bounds)
        yield Call(segmenter, engine, volume, forced, request.options.prior_only and segmenter.diffusion, unlike)


def _waits_s(backend: Backend | DeviceBackend, plan: SlicePlan, denoiser: bool) -> float:
    """Seconds before the networks can take a plan's slices, of a backend that compiles for each size."""
    if loops_on_device(backend):
        return 0.0
    form = backend.lane if plan.slices > 1 else backend
    if not isinstance(form, CompilesSizes):
        return 0.0
    return form.waits_s(plan.padded_rows, plan.padded_cols, denoiser=denoiser)


def _check_policy(segmenter: Segmenter, policy: Policy) -> None:
    if policy.locate and loops_on_device(segmenter.backend):
        raise InputError(
            f"the policy {policy} on {segmenter.backend.device}",
            "whole slices on a GPU, whose graphs and memory are made for one size",
            "leave the policy out, or choose device='cpu'",
        )


def _open_effort(segmenter: Segmenter, request: Request) -> OpenEffort | None:
    """What a deadline chooses from, unless the caller has said how much to compute."""
    settings, on_device = settings_of(segmenter.manifest), loops_on_device(segmenter.backend)
    known = segmenter.pace is not None and not on_device
    if not settings or not known or not (request.options.effort_is_open and request.clock.timed):
        return None

    def resolve(setting: Setting) -> Sampling:
        options = replace(request.options, policy=setting.policy)
        if setting.steps:
            options = replace(options, steps=setting.steps, samples=setting.samples)
        return resolve_sampling(segmenter.manifest, options, denoiser=setting.steps > 0)

    return OpenEffort(settings, resolve)


def _lanes(segmenter: Segmenter) -> Lanes:
    if loops_on_device(segmenter.backend):
        return Lanes(lane_count(default_threads()))
    return Lanes(segmenter.backend.lanes)


def _runner(segmenter: Segmenter, clock: Clock, lanes: Lanes) -> AbstractContextManager[Runner]:
    if loops_on_device(segmenter.backend):
        return segmenter.backend.call()
    limit = None if segmenter.memory_mb is None else segmenter.memory_mb << 20
    return nullcontext(HostRunner(segmenter.backend, segmenter.manifest, clock, lanes, limit))
