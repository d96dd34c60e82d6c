"""Calls on a model that takes slices: the policy checked, where and how much to compute, and the work made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from verdiff.errors import InputError
from verdiff.runtime.preparing import prepare
from verdiff.runtime.request import Kind
from verdiff.runtime.reserve import reserve_seconds
from verdiff.runtime.sampling import Sampling, resolve_sampling
from verdiff.runtime.scan import Scan, slices_of
from verdiff.runtime.slice_work import SliceWork

if TYPE_CHECKING:
    from verdiff.bundle.objects import Setting
    from verdiff.imaging import SlicePlan
    from verdiff.options import CallOptions
    from verdiff.runtime.answer import Answer
    from verdiff.runtime.loaded import LoadedModel
    from verdiff.runtime.request import CheckedScan, Request
    from verdiff.runtime.runner import Maps


def _sampling(model: LoadedModel, options: CallOptions) -> Sampling:
    sampling = resolve_sampling(model.manifest, options, denoiser=_samples(model, options))
    if sampling.policy.locate and not model.executor.windows:
        raise InputError(
            f"the policy {sampling.policy} on {model.executor.backend.device}",
            "whole slices on a GPU, whose graphs and memory are made for one size",
            "leave the policy out, or choose device='cpu'",
        )
    return sampling


@contextmanager
def _work(model: LoadedModel, request: Request, sampling: Sampling, checked: CheckedScan) -> Iterator[SliceWork]:
    manifest, clock, options = model.manifest, request.clock, request.options
    with model.executor.call(manifest, clock, model.memory_mb) as (lanes, runner):
        with clock.stage("normalise"):
            plan = slices_of(manifest, checked.volume.geometry, checked.picture)
            planes = plan.extract(checked.volume.array)
        scan = Scan(plan, planes, checked.bounds, checked.ids, manifest.multiple)
        # Agreement is asked after rounds, which an anytime call has.
        anytime = request.anytime or sampling.policy.agree
        settings, resolve = _open_effort(model, request)
        pace = model.pace if clock.timed else None
        planned = prepare(
            runner,
            scan,
            sampling,
            settings,
            resolve,
            pace,
            clock,
            chunk=model.chunk,
            anytime=anytime,
            only_checked=request.only_checked,
        )

        def reserve_of(answer: Answer, plan: SlicePlan, maps: Maps) -> float:
            return reserve_seconds(
                answer,
                plan,
                manifest,
                checked,
                clock,
                whole=scan.plan,
                maps=maps,
                smooth_mm=options.smooth_mm,
                lanes=lanes.count,
            )

        yield SliceWork(runner, lanes, scan, planned, clock, anytime, reserve_of, options.progress)


def _samples(model: LoadedModel, options: CallOptions) -> bool:
    """Whether the denoiser is asked for."""
    return model.diffusion and not options.prior_only


def _open_effort(model: LoadedModel, request: Request) -> tuple[tuple[Setting, ...], Callable[[Setting], Sampling]]:
    """What a deadline chooses from, unless the caller has said how much to compute, and a setting as a sampling."""
    manifest, options = model.manifest, request.options

    def resolve(setting: Setting) -> Sampling:
        chosen = replace(options, policy=setting.policy)
        if setting.steps:
            chosen = replace(chosen, steps=setting.steps, samples=setting.samples)
        return resolve_sampling(manifest, chosen, denoiser=setting.steps > 0)

    left_open = options.effort_is_open and request.clock.timed and model.pace is not None
    return (manifest.settings if left_open and _samples(model, options) else ()), resolve


SLICES = Kind(_sampling, slices_of, _work)
