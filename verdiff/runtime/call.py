"""One call of a Segmenter: the scan checked, the memory taken, what computes held until it is over, the result made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from verdiff.errors import BudgetError
from verdiff.imaging import IntensityRule, Volume, intensity_bounds, plan_slices, volume_from
from verdiff.runtime.answer import Answer, restore
from verdiff.runtime.batching import Batcher
from verdiff.runtime.device.backend import DeviceBackend
from verdiff.runtime.engine import Engine
from verdiff.runtime.host import HostRunner
from verdiff.runtime.provenance import describe_backend, describe_run
from verdiff.runtime.result import Segmentation
from verdiff.runtime.sampling import Choices, resolve_sampling
from verdiff.runtime.suitability import require_suitable, unsuitable_reasons

if TYPE_CHECKING:
    from verdiff.runtime.clock import Clock
    from verdiff.runtime.runner import Runner
    from verdiff.runtime.segmenter import Segmenter


@dataclass(frozen=True)
class Request:
    """What a call to :meth:`Segmenter.segment` or :meth:`Segmenter.stream` asks for; see there."""

    scan: Any
    choices: Choices
    clock: Clock
    force: bool
    prior_only: bool
    progress: Callable[[float], None] | None


@dataclass(frozen=True)
class Call:
    """A call that is under way.

    Attributes:
        segmenter: Whose call it is.
        engine: Does the work.
        volume: The scan.
        forced: Reasons against the scan that ``force`` went past.
        prior_only: Whether a diffusion model was asked for its prior alone.
    """

    segmenter: Segmenter
    engine: Engine
    volume: Volume
    forced: tuple[str, ...]
    prior_only: bool

    def result(self, outcome: str, answer: Answer) -> Segmentation:
        """The mask in the scan's grid of what is known so far."""
        engine = self.engine
        if self.prior_only:
            outcome = "prior"
        with engine.clock.stage("restore"):
            labels, uncertainty = restore(answer, engine.plan, engine.ids)
        provenance = describe_run(
            self.segmenter.model,
            describe_backend(self.segmenter.backend),
            self.volume,
            engine.sampling,
            answer,
            outcome=outcome,
            forced=self.forced,
        )
        return Segmentation(
            labels=labels,
            uncertainty=uncertainty,
            label_table=self.segmenter.manifest.labels,
            geometry=self.volume.geometry,
            outcome=outcome,
            timings={**engine.clock.timings, "total": engine.clock.elapsed},
            provenance=provenance,
            _answer=answer,
            _plan=engine.plan,
        )


@contextmanager
def open_call(segmenter: Segmenter, request: Request, *, anytime: bool) -> Iterator[Call]:
    """Check the scan, take the memory, and hold what computes until the call is over.

    Raises:
        InputError, UnsuitableScanError, BudgetError, BackendError: See :meth:`Segmenter.segment`.
    """
    manifest, clock = segmenter.manifest, request.clock
    if clock.left <= 0:
        raise BudgetError("a budget that is already spent", "time for one prior pass", "give a budget above 0 ms")
    sampling = resolve_sampling(manifest, request.choices, denoiser=segmenter.diffusion and not request.prior_only)
    volume = volume_from(request.scan)
    with clock.stage("normalise"):
        plan = plan_slices(
            volume.geometry,
            view=manifest.view,  # type: ignore[arg-type]
            spacing_mm=manifest.spacing_mm,
            multiple=manifest.multiple,
        )
        forced = unsuitable_reasons(volume, manifest, plan)
        require_suitable(forced, manifest, force=request.force)
    with _runner(segmenter, clock) as runner:
        with clock.stage("normalise"):
            memory = runner.begin(plan, sampling, chunk=segmenter.chunk, anytime=anytime)
            bounds = intensity_bounds(volume.array, IntensityRule.from_dict(manifest.intensity))
        ids = np.array([0, *(label.id for label in manifest.labels)], np.uint8)
        planes = plan.extract(volume.array)
        engine = Engine(runner, plan, planes, bounds, sampling, memory, clock, ids, request.progress)
        yield Call(segmenter, engine, volume, forced, request.prior_only and segmenter.diffusion)


def _runner(segmenter: Segmenter, clock: Clock) -> AbstractContextManager[Runner]:
    if isinstance(segmenter.backend, DeviceBackend):
        return segmenter.backend.call()
    limit = None if segmenter.memory_mb is None else segmenter.memory_mb << 20
    return nullcontext(HostRunner(Batcher(segmenter.backend), segmenter.manifest, clock, limit))
