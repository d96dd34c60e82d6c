"""What a deadline leaves for the end of a call, on a clock that counts the work instead of the time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.runtime.scans import AXIAL, SAGITTAL, mr_scan, numpy_segmenter
from tests.runtime.slow_time import PRIOR_MS, FakeTime, SlowBackend
from tests.runtime.tiny_bundle import tiny_manifest
from tests.runtime.tiny_volume import volume_manifest, volume_segmenter
from verdiff.errors import BudgetError
from verdiff.imaging import Geometry, plan_slices
from verdiff.runtime import call, half, plausibility, reserve
from verdiff.runtime.answer import Answer, restore_slice
from verdiff.runtime.clock import Clock
from verdiff.runtime.reserve import MARGIN, look_seconds, random_maps, restore_seconds
from verdiff.runtime.scan import plan_for
from verdiff.runtime.volumetric import _empty_answer

LOOKED = {
    "suitability": {"pixel_spacing_mm": [0.8, 1.2], "slice_spacing_mm": [1.0, 5.0], "volume_ml.disc": [0.0, 1e9]},
}


def counted(monkeypatch: pytest.MonkeyPatch, time: FakeTime, name: str, work: Callable[..., float]) -> None:
    """``name`` of :mod:`half` takes so many seconds as ``work`` says of its arguments."""
    plain = getattr(half, name)

    def slow(*given: Any) -> Any:
        time.now += work(*given)
        return plain(*given)

    monkeypatch.setattr(half, name, slow)


@pytest.mark.parametrize("smooth_mm", [0.0, 4.0])
@pytest.mark.parametrize("takes_volumes", [False, True])
def test_restoring_is_measured_on_slices_that_are_there_and_smoothed_as_they_will_be(
    monkeypatch: pytest.MonkeyPatch, time: FakeTime, smooth_mm: float, takes_volumes: bool
) -> None:
    """Only the stored slices that are read take time: a slice that was never put costs nothing to read."""
    geometry = mr_scan(9).geometry
    if takes_volumes:
        grid = plan_for(volume_manifest(), geometry)
        plan, answer = grid.planes, _empty_answer(grid, 2)
    else:
        plan = plan_slices(geometry, view="sagittal", spacing_mm=1.0, multiple=4)
        answer = Answer.empty(9, 3, plan.padded_rows, plan.padded_cols)
    ids, maps = np.arange(answer.probabilities.shape[0] + 1, dtype=np.uint8), random_maps(answer.probabilities.shape)
    counted(monkeypatch, time, "from_half", lambda _: 1.0)
    estimated = restore_seconds(answer, plan, ids, Clock(), maps=maps, smooth_mm=smooth_mm)
    assert not answer.probabilities.get(4).any()

    whole = answer.copy()
    for index in range(whole.probabilities.slices):
        whole.probabilities.put(index, maps)
    smoothed = whole.smoothed(plan.slice_spacing_mm, smooth_mm)
    begun = time.now
    restore_slice(smoothed, plan, ids, 4)
    assert estimated == time.now - begun > 0


@pytest.mark.parametrize(("direction", "size"), [(SAGITTAL, (20, 30, 48)), (AXIAL, (20, 30, 64)), (AXIAL, (8, 6, 2))])
def test_the_look_at_a_mask_is_measured_on_a_part_that_has_every_structure(
    monkeypatch: pytest.MonkeyPatch, time: FakeTime, direction: tuple[float, ...], size: tuple[int, int, int]
) -> None:
    """A look that takes a second for each voxel and structure takes as long for the whole array."""
    plan = plan_slices(Geometry(size, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), direction), view="sagittal", spacing_mm=1.0)
    plain, voxels = plausibility.look_of_mask, int(np.prod(size))

    def look(few: Any, labels: Any, ids: Any, array: Any, bounds: Any) -> dict[str, float]:
        found = plain(few, labels, ids, array, bounds)
        time.now += labels.size * sum(key.startswith("area_mm2.") for key in found)
        assert "largest_part" in found
        return found

    monkeypatch.setattr(plausibility, "look_of_mask", look)
    array = np.zeros(size[::-1], np.int16)
    assert look_seconds(tiny_manifest(**LOOKED), plan, array, (0.0, 1.0), Clock()) == pytest.approx(3 * voxels)
    assert look_seconds(tiny_manifest(), plan, array, (0.0, 1.0), Clock()) == 0


@pytest.mark.parametrize("takes_volumes", [False, True])
def test_a_result_with_a_look_at_the_mask_is_there_by_the_deadline(
    monkeypatch: pytest.MonkeyPatch, time: FakeTime, takes_volumes: bool
) -> None:
    """The look takes a second for the whole scan, and no network call is begun that it would not fit behind."""
    scan, look = mr_scan(), plausibility.warnings_of_mask
    segmenter = volume_segmenter(**LOOKED) if takes_volumes else numpy_segmenter(SlowBackend(time), **LOOKED)

    def slow(manifest: Any, plan: Any, labels: Any, *given: Any) -> Any:
        time.now += labels.size / scan.array.size
        return look(manifest, plan, labels, *given)

    for module in (call, reserve):
        monkeypatch.setattr(module, "warnings_of_mask", slow)
    # It is tried twice on three of five planes, and the time left then is less than a step's.
    budget_ms = 1000 * (MARGIN + 2 * 3 / 5) + 5.5 * PRIOR_MS
    result = segmenter.segment(scan, budget_ms=budget_ms)
    assert result.timings["total"] * 1000 <= budget_ms
    assert result.outcome == ("complete" if takes_volumes else "prior")
    with pytest.raises(BudgetError):
        segmenter.segment(scan, budget_ms=1000 * MARGIN)
