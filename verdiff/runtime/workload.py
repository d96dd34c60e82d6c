"""How much one scan asks of the networks: what choosing a precision for it alone may cost."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from verdiff.imaging import volume_from
from verdiff.keywords import Keywords
from verdiff.options import CallOptions
from verdiff.runtime.frontier import best_within
from verdiff.runtime.sampling import resolve_sampling
from verdiff.runtime.scan import plan_for, slices_of

if TYPE_CHECKING:
    from verdiff.bundle import Manifest
    from verdiff.runtime.frontier import Pace


@dataclass(frozen=True)
class NetworkPasses:
    """The network passes of one call.

    Attributes:
        pixels: Pixels of all slices together, or voxels of all windows.
        passes: Denoiser passes over each of them; 0 is the prior alone.
    """

    pixels: int
    passes: int

    def seconds(self, pace: Pace) -> float:
        """What the networks take for it at a pace."""
        return self.pixels * (pace.prior + self.passes * pace.denoiser)


@Keywords(CallOptions)
def one_scan(scan: Any, options: CallOptions) -> Callable[[Manifest], NetworkPasses]:
    """What :meth:`verdiff.runtime.Segmenter.load` takes as ``work`` when one scan is all it is loaded for.

    ``scan`` and the keywords are those of the :meth:`verdiff.runtime.Segmenter.segment` that will follow. Every pixel
    of every slice counts, since no policy is known to leave any out before the scan is looked at.

    Raises:
        InputError: The scan cannot be used; or, when the model is known, an option is out of range.
    """
    geometry = volume_from(scan).geometry

    def work(manifest: Manifest) -> NetworkPasses:
        if manifest.volume:
            from verdiff.imaging.windows import count_windows

            depth, rows, cols = manifest.volume.patch
            windows = count_windows(
                plan_for(manifest, geometry).shape, (depth, rows, cols), float(manifest.volume.overlap)
            )
            return NetworkPasses(windows * depth * rows * cols, 0)
        plan = slices_of(manifest, geometry)
        return NetworkPasses(plan.slices * plan.padded_rows * plan.padded_cols, _denoiser_passes(manifest, options))

    return work


def _denoiser_passes(manifest: Manifest, options: CallOptions) -> int:
    """Denoiser passes of a call over each slice; where a budget will choose, those of what enough time would take."""
    if options.prior_only or manifest.table is None:
        return 0
    if options.effort_is_open and options.budget_ms is not None:
        best = best_within(manifest.settings, math.inf, lambda setting: setting.steps * setting.samples)
        if best is not None:
            return int(best[1])
    sampling = resolve_sampling(manifest, options, denoiser=True)
    return 0 if sampling.table is None else len(sampling.table) * sampling.samples
