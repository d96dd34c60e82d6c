"""One call of a loaded model: the scan checked, what computes held until it is over, the result made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from verdiff.imaging import intensity_bounds, volume_from
from verdiff.imaging.picture import picture_of
from verdiff.runtime.answer import Answer, restore
from verdiff.runtime.budget import require_time
from verdiff.runtime.plausibility import Warned, warnings_of_mask, warnings_of_scan
from verdiff.runtime.provenance import describe_backend, describe_run
from verdiff.runtime.request import CheckedScan, Request, Work
from verdiff.runtime.result import Segmentation
from verdiff.runtime.slicewise import SLICES
from verdiff.runtime.suitability import require_suitable, unsuitable_reasons

if TYPE_CHECKING:
    from verdiff.bundle import Manifest
    from verdiff.runtime.loaded import LoadedModel
    from verdiff.runtime.request import Kind


@dataclass(frozen=True)
class Call:
    """A call that is under way.

    Attributes:
        model: The loaded model.
        request: What was asked for.
        scan: The scan, checked.
        work: What answers it.
        unlike: What of the scan is unlike the training data.
    """

    model: LoadedModel
    request: Request
    scan: CheckedScan
    work: Work
    unlike: tuple[Warned, ...]

    def results(self) -> Iterator[Segmentation]:
        """Do the work; a result after every pass, each of which stands alone, the last one with the outcome."""
        for outcome in self.work.passes():
            answer = self.work.answer
            yield self.result(outcome, answer.copy() if outcome in ("prior", "sampling") else answer)

    def last(self) -> Segmentation:
        """Do the work; the result of the last pass."""
        *_, outcome = self.work.passes()
        return self.result(outcome, self.work.answer)

    def result(self, outcome: str, answer: Answer) -> Segmentation:
        """The mask in the scan's grid of what is known so far."""
        model, work, scan, clock = self.model, self.work, self.scan, self.request.clock
        # A deadline that came before a single step leaves the prior's answer, and no other.
        too_late = outcome == "budget" and not np.any(answer.samples)
        if model.diffusion and (work.sampling.table is None or too_late):
            outcome = "prior"
        answer = answer.smoothed(work.plan.slice_spacing_mm, self.request.options.smooth_mm)
        with clock.stage("restore"):
            labels = restore(answer, work.plan, scan.ids, work.lanes.map)
            array, bounds = scan.volume.array, scan.bounds
            warned = warnings_of_mask(model.manifest, work.whole, labels, array, bounds)
        provenance = describe_run(
            model.identity,
            describe_backend(model.executor.backend),
            scan.volume,
            work.sampling,
            answer,
            outcome=outcome,
            forced=scan.forced,
            warned=(*self.unlike, *warned),
        )
        if self.request.options.smooth_mm:
            provenance["smooth_mm"] = self.request.options.smooth_mm
        provenance["computed"] = work.describe()
        if too_late:
            # None: the pace does not say.
            provenance["computed"].setdefault("sampling_would_take_ms", None)
        if model.chosen:
            provenance["chosen"] = model.chosen
        return Segmentation(
            labels=labels,
            label_table=model.manifest.labels,
            geometry=scan.volume.geometry,
            outcome=outcome,
            timings={**clock.timings, "total": clock.elapsed},
            provenance=provenance,
            _answer=answer,
            _plan=work.plan,
            identity=scan.volume.identity,
        )


@contextmanager
def open_call(model: LoadedModel, request: Request) -> Iterator[Call]:
    """Check the scan, take the memory, and hold what computes until the call is over.

    Raises:
        InputError, UnsuitableScanError, BudgetError, BackendError: See :meth:`verdiff.runtime.Segmenter.segment`.
    """
    manifest, clock, kind = model.manifest, request.clock, kind_of(model.manifest)
    require_time(clock)
    sampling = kind.sampling(model, request.options)
    volume = volume_from(request.scan)
    with clock.stage("normalise"):
        whole = kind.slices(manifest, volume.geometry)
        forced = unsuitable_reasons(volume, manifest, whole)
        require_suitable(forced, manifest, force=request.options.force)
        picture = picture_of(volume.array)
        bounds = intensity_bounds(volume.array[picture], manifest.intensity)
    ids = manifest.mask_ids
    scan = CheckedScan(volume, picture, bounds, ids, forced)
    with kind.work(model, request, sampling, scan) as work:
        yield Call(model, request, scan, work, warnings_of_scan(manifest, whole, volume.array, bounds))


def kind_of(manifest: Manifest) -> Kind:
    """How a model's calls are done: slice by slice, or in windows of a volume."""
    if not manifest.volume:
        return SLICES
    # Most models take slices, and their hosts start sooner without this.
    from verdiff.runtime.volumetric import VOLUMES

    return VOLUMES
