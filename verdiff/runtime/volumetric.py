"""One call on a model that takes volumes: the prior in overlapping windows, a slab of the volume at a time.

The answer does not depend on how the work was split: windows lie where the volume's size puts them, each is a network
call of the same shape, and their maps are added in one order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from verdiff.bundle.objects import stated
from verdiff.choices import WHOLE
from verdiff.errors import BudgetError, InputError
from verdiff.imaging.windows import Shape, count_windows, fuse_windows
from verdiff.runtime.answer import Answer, ScanSlices
from verdiff.runtime.batching import Batcher
from verdiff.runtime.budget import BESIDE, require_reach
from verdiff.runtime.clock import Cancelled, Clock
from verdiff.runtime.lanes import Lanes
from verdiff.runtime.memory import available_bytes, plan_volume_memory
from verdiff.runtime.request import Kind
from verdiff.runtime.reserve import random_maps, reserve_seconds
from verdiff.runtime.sampling import resolve_sampling
from verdiff.runtime.scan import plan_for

if TYPE_CHECKING:
    from verdiff.bundle import Manifest
    from verdiff.imaging import Geometry, SlicePlan
    from verdiff.imaging.volume_plan import VolumePlan
    from verdiff.options import CallOptions, SampleOptions
    from verdiff.runtime.loaded import LoadedModel
    from verdiff.runtime.request import CheckedScan, Request
    from verdiff.runtime.sampling import Sampling

Maps = NDArray[np.float32]

# What a deadline falls back to when there is no time for the model's own overlap, the best first.
LESS_OVERLAP = (0.25, 0.0)
SAMPLING_ONLY = ("steps", "samples", "sampler", "fusion")


def _sampling(model: LoadedModel, options: CallOptions) -> Sampling:
    refuse_choices(model.manifest, options)
    return resolve_sampling(model.manifest, options, denoiser=False)


def _slices(manifest: Manifest, geometry: Geometry) -> SlicePlan:
    return plan_for(manifest, geometry).planes


@contextmanager
def _work(model: LoadedModel, request: Request, sampling: Sampling, scan: CheckedScan) -> Iterator[VolumeWork]:
    manifest, networks = model.manifest, model.executor.networks
    with request.clock.stage("normalise"):
        grid = plan_for(manifest, scan.volume.geometry)
    memory = plan_volume_memory(
        grid,
        manifest,
        backend=networks.name,
        batch=networks.batch,
        lanes=networks.lanes,
        limit=available_bytes() if model.memory_mb is None else model.memory_mb << 20,
    )
    with Lanes(networks.lanes) as lanes:
        batcher = Batcher(networks.lane, lanes) if memory.lanes > 1 else Batcher(networks)
        yield VolumeWork(model, request, sampling, scan, grid, lanes, batcher, memory.batch)


@dataclass
class VolumeWork:
    """One scan in overlapping windows; its only outcome is ``"complete"``.

    With a deadline that the model's own overlap of windows would miss, judged by the time the network took at load,
    neighbouring windows overlap less; the provenance says by how much.

    Attributes:
        model: The loaded model.
        request: What was asked for.
        sampling: None of it; with the seed that was given.
        scan: The scan.
        grid: Its way to the model's grid.
        lanes: Workers.
        batcher: The network.
        batch: Windows handed to it at once.
        answer: What is known so far.
    """

    model: LoadedModel
    request: Request
    sampling: Sampling
    scan: CheckedScan
    grid: VolumePlan
    lanes: Lanes
    batcher: Batcher
    batch: int
    answer: Answer = field(init=False)
    _computed: dict[str, Any] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.answer = _empty_answer(self.grid, len(self.scan.ids) - 1)

    @property
    def plan(self) -> SlicePlan:
        """The slices of the volume, which are whole."""
        return self.grid.planes

    @property
    def whole(self) -> SlicePlan:
        """All slices of the volume, whole."""
        return self.grid.planes

    def passes(self) -> Iterator[str]:
        """One pass.

        Raises:
            BudgetError: Too little time for every window.
            Cancelled: ``cancel`` said yes before the last window.
        """
        manifest, clock = self.model.manifest, self.request.clock
        reserve = 0.0
        if clock.bounded:
            reserve = reserve_seconds(
                self.answer,
                self.plan,
                manifest,
                self.scan,
                clock,
                whole=self.whole,
                maps=random_maps(self.answer.probabilities.shape),
                smooth_mm=self.request.options.smooth_mm,
                lanes=self.lanes.count,
            )
        overlap, predicted = _overlap_within(self.model, self.grid, clock, reserve)
        total = count_windows(self.grid.shape, _patch(manifest), overlap)
        windows = _Windows(self.batcher, clock, total, reserve, self.request.options.progress)
        read = self.grid.reader(self.scan.volume.array, self.scan.bounds, over=self.lanes.map)
        _fill(self.answer, self.grid, _patch(manifest), overlap, read, windows, self.batch)
        self._computed = _describe_work(self.grid, manifest, overlap, total, predicted)
        yield "complete"

    def describe(self) -> dict[str, Any]:
        """What was computed, with the keys that a call slice by slice has too."""
        return self._computed


def refuse_choices(manifest: Manifest, options: SampleOptions) -> None:
    """Refuse what only makes sense where masks are sampled, slice by slice; a seed changes nothing and is let be.

    Raises:
        InputError: It names the option.
    """
    given: list[tuple[str, Any]] = [(name, getattr(options, name)) for name in SAMPLING_ONLY]
    if options.policy != WHOLE:
        given.append(("policy", options.policy))
    named = [f"{name} = {value!r}" for name, value in given if value is not None]
    if named:
        raise InputError(
            f"{', '.join(named)} for {manifest.model_id}, which answers a volume in one pass",
            "no such option: nothing is sampled, and every window is computed",
            "leave it out, or choose a diffusion model ('verdiff models')",
        )


def _empty_answer(plan: VolumePlan, classes: int) -> Answer:
    slices, rows, cols = plan.inside
    nothing = np.zeros(plan.planes.slices, np.int32)
    return Answer(ScanSlices(slices, (classes, rows, cols), plan.across), None, nothing, nothing.copy())


def _fill(
    answer: Answer,
    plan: VolumePlan,
    patch: Shape,
    overlap: float,
    read: Callable[[slice], Maps],
    windows: _Windows,
    batch: int,
) -> None:
    """Run the windows; each slice's probabilities are kept as soon as no window to come can change them."""
    clock = windows.clock
    slices, rows, cols = plan.inside

    def timed_read(wanted: slice) -> Maps:
        with clock.stage("resample"):
            return read(wanted)

    begun, elsewhere = clock.elapsed, clock.timings["resample"] + clock.timings["prior"]
    for done, maps in fuse_windows(plan.shape, patch, timed_read, windows, overlap=overlap, batch=batch):
        for index in range(done.start, min(done.stop, slices)):
            probabilities = (maps[:, index - done.start, :rows, :cols] + 1) / 2
            answer.probabilities.put(index, np.clip(probabilities, 0, 1))
    windows.check()
    spent = clock.timings["resample"] + clock.timings["prior"] - elsewhere
    clock.timings["fuse"] += clock.elapsed - begun - spent


@dataclass
class _Windows:
    """The network on some windows at a time, with an eye on the clock.

    Attributes:
        batcher: The network.
        clock: Deadline and cancel, and the time of ``prior``.
        total: Windows in all.
        reserve: Seconds that the way back to the scan will take.
        progress: Told the share of the windows that are done, or None.
    """

    batcher: Batcher
    clock: Clock
    total: int
    reserve: float
    progress: Callable[[float], None] | None
    _done: int = field(init=False, default=0)
    _calls: list[float] = field(init=False, default_factory=list)

    def __call__(self, windows: Maps) -> Maps:
        """``windows`` [n, 1, D, H, W] -> prior [n, K, D, H, W] in [-1, 1]."""
        self.check()
        begun = self.clock.elapsed
        with self.clock.stage("prior"):
            prior, _ = self.batcher.prior(windows)
        self._calls.append((self.clock.elapsed - begun) / len(windows))
        self._done += len(windows)
        if self.progress is not None:
            self.progress(self._done / self.total)
        return prior

    def check(self) -> None:
        """Stop as soon as even the quickest window so far, repeated, would not finish in time; not before two calls,
        since the first may pay for what is done once."""
        if not self.clock.bounded:
            return
        to_come = self.total - self._done
        judged = to_come * min(self._calls) if len(self._calls) > 1 else 0.0
        why = self.clock.why_stop(reserve=judged + self.reserve)
        if why == "budget":
            typical = float(np.median(self._calls)) if self._calls else 0.0
            least = self.clock.elapsed + to_come * typical + self.reserve
            raise BudgetError(
                f"a budget below one pass: {self._done} of {self.total} windows are done after "
                f"{1000 * self.clock.elapsed:.0f} ms",
                f"about {math.ceil(1000 * least)} ms on this machine, the least that answers the whole volume",
                "raise the budget, crop the scan, or use a faster backend",
            )
        if why == "cancelled" and to_come:
            raise Cancelled(
                f"cancelled with {self._done} of {self.total} windows done",
                "time for every window, as a slice's answer rests on several",
                "call again, and cancel later",
            )


def _patch(manifest: Manifest) -> Shape:
    return stated(manifest.volume, "volume").patch


def _overlap_within(model: LoadedModel, plan: VolumePlan, clock: Clock, reserve: float) -> tuple[float, float | None]:
    """The model's overlap, or the largest one there is time for (the least if for none), and the seconds predicted.

    Raises:
        BudgetError: Even the fewest windows would overrun the deadline in the network alone.
    """
    manifest, pace = model.manifest, model.pace
    own = stated(manifest.volume, "volume").overlap
    if pace is None or not clock.timed:
        return own, None
    patch = _patch(manifest)
    choices = (own, *(less for less in LESS_OVERLAP if less < own))
    cost = partial(_predicted, plan.shape, patch, pace.prior)
    least = cost(choices[-1]) / BESIDE
    require_reach(clock, least, least, f"{count_windows(plan.shape, patch, choices[-1])} windows")
    chosen = next((overlap for overlap in choices if cost(overlap) <= clock.left - reserve), choices[-1])
    return chosen, cost(chosen)


def _predicted(shape: Shape, patch: Shape, seconds_a_voxel: float, overlap: float) -> float:
    return BESIDE * count_windows(shape, patch, overlap) * math.prod(patch) * seconds_a_voxel


def _describe_work(
    plan: VolumePlan, manifest: Manifest, overlap: float, windows: int, predicted: float | None
) -> dict[str, Any]:
    return {
        "window": None,
        "share": 1.0,
        "window_outgrown": False,
        "slices_settled": 0,
        "predicted_ms": None if predicted is None else round(1000 * predicted, 1),
        "volume": list(plan.inside),
        "spacing_mm": [round(pitch, 4) for pitch in plan.spacing_mm],
        "patch": list(_patch(manifest)),
        "overlap": overlap,
        "overlap_reduced": overlap < stated(manifest.volume, "volume").overlap,
        "windows": windows,
    }


VOLUMES = Kind(_sampling, _slices, _work)
