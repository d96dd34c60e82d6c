"""One call on a model that takes volumes: the prior in overlapping windows, a slab of the volume at a time.

The answer does not depend on how the work was split: windows lie where the volume's size puts them, each is a network
call of the same shape, and their maps are added in one order.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from verdiff.choices import WHOLE
from verdiff.errors import BudgetError, InputError
from verdiff.imaging import Geometry, IntensityRule, intensity_bounds, volume_from
from verdiff.imaging.volume_plan import VolumePlan, plan_volume
from verdiff.imaging.windows import Shape, count_windows, fuse_windows
from verdiff.options import SampleOptions
from verdiff.runtime.answer import Answer, ScanSlices, restore, restore_slice
from verdiff.runtime.backends import loops_on_device
from verdiff.runtime.batching import Batcher
from verdiff.runtime.budget import BESIDE, require_reach, require_time
from verdiff.runtime.call import Request
from verdiff.runtime.clock import Cancelled, Clock
from verdiff.runtime.engine import RESTORE_MARGIN
from verdiff.runtime.lanes import Lanes
from verdiff.runtime.memory import available_bytes, plan_volume_memory
from verdiff.runtime.plausibility import warnings_of_mask, warnings_of_scan
from verdiff.runtime.provenance import describe_backend, describe_run
from verdiff.runtime.result import Segmentation
from verdiff.runtime.sampling import resolve_sampling
from verdiff.runtime.suitability import require_suitable, unsuitable_reasons

if TYPE_CHECKING:
    from verdiff.bundle import Manifest
    from verdiff.runtime.backends import Backend
    from verdiff.runtime.segmenter import Segmenter

Maps = NDArray[np.float32]

# What a deadline falls back to when there is no time for the model's own overlap, the best first.
LESS_OVERLAP = (0.25, 0.0)
SAMPLING_ONLY = ("steps", "samples", "sampler", "fusion")


def plan_for(manifest: Manifest, geometry: Geometry) -> VolumePlan:
    """A scan's way to the grid of a model with ``manifest.volume``, and back."""
    volume = manifest.volume
    return plan_volume(
        geometry,
        view=manifest.view,  # type: ignore[arg-type]
        spacing_mm=volume["spacing_mm"],
        patch=volume["patch"],
        crop=volume["crop"],
    )


def segment_volume(segmenter: Segmenter, request: Request) -> Segmentation:
    """Segment one scan with a model that takes volumes; its only outcome is ``"complete"``.

    With a deadline that the model's own overlap of windows would miss, judged by the time the network took at load,
    neighbouring windows overlap less; the provenance says by how much.

    Raises:
        InputError: The scan cannot be used, or a choice that only a sampling model has was made.
        UnsuitableScanError: The scan does not look like the training data, and not ``force``.
        BudgetError: Too little time for every window, or too little memory for one.
        Cancelled: ``cancel`` said yes before the last window.
    """
    manifest, clock = segmenter.manifest, request.clock
    require_time(clock)
    refuse_choices(manifest, request.options)
    sampling = resolve_sampling(manifest, request.options, denoiser=False)
    volume = volume_from(request.scan)
    with clock.stage("normalise"):
        plan = plan_for(manifest, volume.geometry)
        forced = unsuitable_reasons(volume, manifest, plan.planes)
        require_suitable(forced, manifest, force=request.options.force)
        bounds = intensity_bounds(volume.array, IntensityRule.from_dict(manifest.intensity))
    ids = np.array([0, *(label.id for label in manifest.labels)], np.uint8)
    backend = _host_backend(segmenter)
    memory = plan_volume_memory(
        plan,
        manifest,
        backend=backend.name,
        batch=backend.batch,
        lanes=backend.lanes,
        limit=available_bytes() if segmenter.memory_mb is None else segmenter.memory_mb << 20,
    )
    with Lanes(backend.lanes) as lanes:
        answer = _empty_answer(plan, len(ids) - 1)
        reserve = _restore_seconds(answer, plan, ids, clock) / lanes.count if clock.bounded else 0.0
        overlap, predicted = _overlap_within(segmenter, plan, clock, reserve)
        windows = _Windows(
            Batcher(backend.lane, lanes) if memory.lanes > 1 else Batcher(backend),
            clock,
            count_windows(plan.shape, _patch(manifest), overlap),
            reserve,
            request.options.progress,
        )
        read = plan.reader(volume.array, bounds, over=lanes.map)
        _fill(answer, plan, _patch(manifest), overlap, read, windows, memory.batch)
        with clock.stage("restore"):
            labels = restore(answer, plan.planes, ids, lanes.map)
    about = (manifest, plan.planes)
    warned = (
        *warnings_of_scan(*about, volume.array, bounds),
        *warnings_of_mask(*about, labels, volume.array, bounds),
    )
    provenance = describe_run(
        segmenter.model,
        describe_backend(segmenter.backend),
        volume,
        sampling,
        answer,
        outcome="complete",
        forced=forced,
        warned=warned,
    )
    provenance["computed"] = _describe_work(plan, manifest, overlap, windows.total, predicted)
    if segmenter.chosen:
        provenance["chosen"] = segmenter.chosen
    return Segmentation(
        labels=labels,
        label_table=manifest.labels,
        geometry=volume.geometry,
        outcome="complete",
        timings={**clock.timings, "total": clock.elapsed},
        provenance=provenance,
        _answer=answer,
        _plan=plan.planes,
        identity=volume.identity,
    )


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


def _host_backend(segmenter: Segmenter) -> Backend:
    assert not loops_on_device(segmenter.backend), "refused when the model was loaded"
    return segmenter.backend


def _patch(manifest: Manifest) -> Shape:
    slices, rows, cols = manifest.volume["patch"]
    return slices, rows, cols


def _restore_seconds(answer: Answer, plan: VolumePlan, ids: NDArray[np.uint8], clock: Clock) -> float:
    """For all slices, on one worker: of two tries on one slice the quicker; the first makes the matrices."""
    tries = []
    for _ in range(2):
        begun = clock.elapsed
        restore_slice(answer, plan.planes, ids, 0)
        tries.append(clock.elapsed - begun)
    return RESTORE_MARGIN * plan.planes.slices * min(tries)


def _overlap_within(segmenter: Segmenter, plan: VolumePlan, clock: Clock, reserve: float) -> tuple[float, float | None]:
    """The model's overlap, or the largest one there is time for (the least if for none), and the seconds predicted.

    Raises:
        BudgetError: Even the fewest windows would overrun the deadline in the network alone.
    """
    manifest, pace = segmenter.manifest, segmenter.pace
    own = float(manifest.volume["overlap"])
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
    """What was computed, with the keys that :func:`verdiff.runtime.provenance.describe_work` has for slices."""
    return {
        "window": None,
        "share": 1.0,
        "window_outgrown": False,
        "slices_settled": 0,
        "predicted_ms": None if predicted is None else round(1000 * predicted, 1),
        "volume": list(plan.inside),
        "spacing_mm": [round(pitch, 4) for pitch in plan.spacing_mm],
        "patch": list(manifest.volume["patch"]),
        "overlap": overlap,
        "windows": windows,
    }
