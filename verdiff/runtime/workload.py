"""How much one scan asks of the networks: what choosing a precision for it alone may cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from verdiff.imaging import volume_from
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


def one_scan(
    scan: Any, *, steps: int | None = None, samples: int | None = None, prior_only: bool = False
) -> Callable[[Manifest], NetworkPasses]:
    """What :meth:`verdiff.runtime.Segmenter.load` takes as ``work`` when one scan is all it is loaded for.

    Args:
        scan: A scan that :meth:`verdiff.runtime.Segmenter.segment` takes.
        steps: Steps of the call; None is the model's default.
        samples: Ensemble members.
        prior_only: Whether nothing is sampled.
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
        passes = 0 if prior_only else (steps or manifest.defaults.steps) * (samples or manifest.defaults.samples)
        return NetworkPasses(plan.slices * plan.padded_rows * plan.padded_cols, passes)

    return work
