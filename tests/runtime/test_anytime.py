"""A deadline chooses from the model's frontier, on a clock that runs only when the networks do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.runtime.scans import mr_scan, numpy_segmenter
from tests.runtime.slow_time import PRIOR_MS, STEP_MS, FakeTime, SlowBackend
from tests.runtime.test_policy import WINDOW, spine_scan
from tests.runtime.tiny_bundle import write_tiny
from verdiff.bundle.objects import Setting
from verdiff.runtime import Segmenter
from verdiff.runtime.budget import BESIDE
from verdiff.runtime.frontier import Pace, best_within

SETTINGS = [
    {"steps": 0, "samples": 0, "policy": "whole", "dice": 0.90},
    {"steps": 1, "samples": 1, "policy": "whole", "dice": 0.91},
    {"steps": 3, "samples": 1, "policy": "whole", "dice": 0.92},
    {"steps": 3, "samples": 2, "policy": "whole", "dice": 0.93},
]


def cost_ms(passes: int, slices: int = 5) -> float:
    """What the networks take for so many denoiser passes a slice, with the share set aside for the rest."""
    return BESIDE * slices * (PRIOR_MS + passes * STEP_MS)


@pytest.fixture
def slow(time: FakeTime) -> Segmenter:
    segmenter = numpy_segmenter(SlowBackend(time), frontier={"settings": SETTINGS})
    pixels = 40 * 36
    return Segmenter(replace(segmenter.loaded, pace=Pace(PRIOR_MS / 1000 / pixels, STEP_MS / 1000 / pixels)))


@pytest.mark.parametrize(("passes", "chosen"), [(0, (0, 0)), (1, (1, 1)), (2, (1, 1)), (3, (3, 1)), (6, (3, 2))])
def test_the_best_setting_that_fits_is_taken_and_finished(
    slow: Segmenter, passes: int, chosen: tuple[int, int]
) -> None:
    result = slow.segment(mr_scan(5, 40, 36, pixel=1.0), budget_ms=cost_ms(passes) + 1)
    sampling = result.provenance["sampling"]
    assert (sampling["steps"], sampling["samples"]) == chosen
    assert result.outcome == ("complete" if passes else "prior") == result.provenance["outcome"]
    assert result.timings["total"] * 1000 <= cost_ms(passes)
    assert result.provenance["computed"]["predicted_ms"] == pytest.approx(cost_ms(chosen[0] * chosen[1]), abs=0.1)


def test_the_mask_is_that_of_the_setting_asked_for_by_name(slow: Segmenter) -> None:
    scan = mr_scan(5, 40, 36, pixel=1.0)
    chosen = slow.segment(scan, budget_ms=cost_ms(3) + 1)
    named = slow.segment(scan, steps=3, samples=1)
    assert np.array_equal(chosen.labels, named.labels)
    assert np.array_equal(chosen.uncertainty, named.uncertainty)


@pytest.mark.parametrize("asked", [{"steps": 3}, {"samples": 1}, {"policy": "whole"}, {"sampler": "ddpm"}])
def test_what_the_caller_asks_for_is_not_chosen_over(slow: Segmenter, asked: dict[str, object]) -> None:
    result = slow.segment(mr_scan(5, 40, 36, pixel=1.0), budget_ms=cost_ms(1) + 1, **asked)  # type: ignore[arg-type]
    assert result.provenance["computed"]["predicted_ms"] is None
    assert result.provenance["sampling"]["steps"] == 3


def test_without_a_deadline_the_default_stands(slow: Segmenter) -> None:
    result = slow.segment(mr_scan(), cancel=lambda: False)
    assert (result.provenance["sampling"]["steps"], result.provenance["sampling"]["samples"]) == (3, 2)
    assert result.provenance["computed"]["predicted_ms"] is None


def test_a_machine_that_turns_out_slower_still_keeps_the_deadline(slow: Segmenter) -> None:
    """The pace of the load promised twice the speed: the setting is too much, and the call ends by the deadline."""
    assert slow.pace is not None
    hopeful = Segmenter(replace(slow.loaded, pace=Pace(slow.pace.prior / 2, slow.pace.denoiser / 2)))
    budget_ms = cost_ms(3)
    result = hopeful.segment(mr_scan(5, 40, 36, pixel=1.0), budget_ms=budget_ms)
    assert result.provenance["sampling"]["samples"] == 2
    assert result.outcome == "budget"
    assert result.timings["total"] * 1000 <= budget_ms


def test_a_stream_with_a_deadline_ends_with_the_same_choice(slow: Segmenter) -> None:
    scan = mr_scan(5, 40, 36, pixel=1.0)
    *_, last = slow.stream(scan, budget_ms=cost_ms(3) + 1)
    assert last.outcome == "complete"
    assert last.provenance["sampling"]["steps"] == 3
    assert np.array_equal(last.labels, slow.segment(scan, budget_ms=cost_ms(3) + 1).labels)


def test_the_look_for_the_spine_corrects_the_pace_and_its_window_the_cost(time: FakeTime) -> None:
    """Priced at the load's pace nothing would fit; the look shows a machine ten times faster, and half the pixels."""
    settings = [{"steps": 1, "samples": 1, "policy": p, "dice": d} for p, d in (("whole", 0.91), ("locate", 0.92))]
    segmenter = numpy_segmenter(SlowBackend(time), frontier={"settings": settings}, **WINDOW)
    pixels = 80 * 120
    pessimist = Segmenter(
        replace(segmenter.loaded, pace=Pace(10 * PRIOR_MS / 1000 / pixels, 10 * STEP_MS / 1000 / pixels))
    )
    look_ms = 2 * PRIOR_MS
    result = pessimist.segment(spine_scan(), budget_ms=look_ms + cost_ms(1, 9))
    assert result.provenance["sampling"]["policy"] == "locate"
    share = result.provenance["computed"]["share"]
    assert result.provenance["computed"]["predicted_ms"] == pytest.approx(share * cost_ms(1, 9), rel=0.01)


def test_the_pace_is_measured_at_load(tmp_path: Path) -> None:
    segmenter = Segmenter.load(write_tiny(tmp_path / "tiny.verdiff"), backend="onnxruntime", threads=2)
    assert segmenter.pace is not None
    assert 0 < segmenter.pace.prior < 1e-3
    assert 0 < segmenter.pace.denoiser < 1e-3
    single = Segmenter.load(write_tiny(tmp_path / "single.verdiff", denoiser=False), backend="onnxruntime")
    assert single.pace is not None and single.pace.denoiser == 0
    assert Segmenter.load(tmp_path / "tiny.verdiff", self_test=False).pace is None


def test_of_two_as_good_the_quicker_fits_first() -> None:
    pair = (Setting(1, 1, "whole", 0.9), Setting(2, 1, "whole", 0.9))
    assert best_within(pair, 10.0, lambda setting: setting.steps) == (pair[0], 1)
    assert best_within(pair, 0.5, lambda setting: setting.steps) is None
