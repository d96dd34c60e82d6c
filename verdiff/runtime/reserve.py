"""What a deadline leaves for the end of a call: the way back to the scan's grid, and the look at the mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from verdiff.runtime.answer import Answer, restore_slice
from verdiff.runtime.plausibility import looks_at_masks, warnings_of_mask

if TYPE_CHECKING:
    from verdiff.bundle import Manifest
    from verdiff.imaging import SlicePlan
    from verdiff.runtime.clock import Clock
    from verdiff.runtime.request import CheckedScan

# Both are measured on a few slices; a page fault or a busy core later must not carry the result past its deadline.
MARGIN = 1.3
# Share of the array that the look is measured on, and planes of it at least: parts are connected across planes, and a
# thin slab of many short lines would take longer than the whole does for its size.
SHARE = 1 / 16
PLANES = 3
# Voxels of one label in a row there. In a real mask fewer lines begin and end, which is quicker to connect.
RUN = 4


def reserve_seconds(
    answer: Answer,
    plan: SlicePlan,
    manifest: Manifest,
    scan: CheckedScan,
    clock: Clock,
    *,
    whole: SlicePlan,
    maps: NDArray[np.float32],
    smooth_mm: float,
    lanes: int,
) -> float:
    """Seconds from the last network call to the result, with a margin.

    Args:
        answer: The answer, of which nothing needs to be known.
        plan: The way between the grids.
        manifest: The model's.
        scan: The scan.
        clock: Clock of the call.
        whole: All slices of the scan, whole.
        maps: Probabilities such as a slice has, [K, H, W] of the model's grid.
        smooth_mm: Gaussian across slices that the answer will be :meth:`~Answer.smoothed` with.
        lanes: Slices restored at once; one thread looks at the mask.
    """
    each = restore_seconds(answer, plan, scan.ids, clock, maps=maps, smooth_mm=smooth_mm)
    look = look_seconds(manifest, whole, scan.volume.array, scan.bounds, clock)
    return MARGIN * (plan.slices * each / lanes + look)


def restore_seconds(
    answer: Answer,
    plan: SlicePlan,
    ids: NDArray[np.uint8],
    clock: Clock,
    *,
    maps: NDArray[np.float32],
    smooth_mm: float,
) -> float:
    """Seconds that :func:`restore_slice` takes for a slice between others; see :func:`reserve_seconds`."""
    known = answer.copy()
    known.probabilities.fill(maps)
    known = known.smoothed(plan.slice_spacing_mm, smooth_mm)
    # At the ends of the stack fewer neighbours count.
    return _quicker(clock, lambda: restore_slice(known, plan, ids, plan.slices // 2))


def look_seconds(
    manifest: Manifest, plan: SlicePlan, array: NDArray[np.generic], bounds: tuple[float, float], clock: Clock
) -> float:
    """Seconds that the look at a whole mask takes, judged by a few planes of the array, full of every structure."""
    if not looks_at_masks(manifest):
        return 0.0
    part = array[: max(PLANES, round(SHARE * len(array)))]
    ids = np.array([0, *manifest.label_ids.values()], np.uint8)
    labels = np.resize(np.repeat(ids, RUN), part.shape)
    # Planes as they lie in the memory, whichever way the slices run: a voxel takes as long in all of them.
    sizes = [part.shape[axis] for axis in plan.permutation]
    few = replace(plan, source_shape=part.shape, slices=sizes[0], scan_rows=sizes[1], scan_cols=sizes[2], picture=None)
    seconds = _quicker(clock, lambda: warnings_of_mask(manifest, few, labels, part, bounds))
    return seconds * len(array) / len(part)


def random_maps(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Maps that stand for a slice's probabilities before any is known: many small ones, no two alike."""
    maps: NDArray[np.float32] = np.random.default_rng(0).random(shape, np.float32) ** 4
    return maps


def _quicker(clock: Clock, work: Callable[[], object]) -> float:
    """Seconds of the quicker of two tries: the first makes what is kept, and imports."""
    tries = []
    for _ in range(2):
        begun = clock.elapsed
        work()
        tries.append(clock.elapsed - begun)
    return min(tries)
