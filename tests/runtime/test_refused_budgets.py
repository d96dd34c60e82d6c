"""A budget that this machine's pace rules out is refused before the work, and names one that will do."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.runtime.scans import mr_scan, numpy_segmenter
from tests.runtime.slow_time import PRIOR_MS, STEP_MS, FakeTime, SlowBackend
from tests.runtime.test_anytime import SETTINGS, cost_ms
from tests.runtime.test_policy import WINDOW, spine_scan
from tests.runtime.tiny_bundle import Maps, NumpyBackend, tiny_manifest, write_tiny
from verdiff.bundle import open_bundle
from verdiff.errors import BudgetError
from verdiff.imaging import plan_slices
from verdiff.options import SampleOptions
from verdiff.runtime import Segmenter
from verdiff.runtime.backends.laned import LanedBackend
from verdiff.runtime.budget import BESIDE
from verdiff.runtime.clock import Clock
from verdiff.runtime.frontier import Pace
from verdiff.runtime.sampling import resolve_sampling

PIXELS, LARGE = 40 * 36, 80 * 120
PRIORS_MS = 5 * PRIOR_MS


class CountingBackend(SlowBackend):
    """Counts the slices that the prior was given."""

    slices = 0

    def prior(self, image: Any) -> Any:
        self.slices += len(image)
        return super().prior(image)


@pytest.fixture
def backend(time: FakeTime) -> CountingBackend:
    return CountingBackend(time)


def timed(backend: CountingBackend, pixels: int, **changes: object) -> Segmenter:
    """A Segmenter that knows its pace, as it does after a load."""
    pace = Pace(PRIOR_MS / 1000 / pixels, STEP_MS / 1000 / pixels)
    return Segmenter(replace(numpy_segmenter(backend, **changes).loaded, pace=pace))


def named_ms(error: BudgetError) -> float:
    found = re.search(r"about (\d+) ms", error.expected)
    assert found is not None, error.expected
    return float(found[1])


@pytest.mark.parametrize("budget_ms", [0.1, PRIORS_MS / 2, PRIORS_MS - 0.5])
@pytest.mark.parametrize("asked", [{}, {"steps": 3}, {"prior_only": True}, {"policy": "skip"}, {"samples": 2}])
def test_a_budget_below_the_prior_is_refused_before_any_network_runs(
    backend: CountingBackend, budget_ms: float, asked: dict[str, Any]
) -> None:
    segmenter = timed(backend, PIXELS, frontier={"settings": SETTINGS})
    with pytest.raises(BudgetError, match="5 slices") as caught:
        segmenter.segment(mr_scan(5, 40, 36, pixel=1.0), budget_ms=budget_ms, **asked)
    assert backend.slices == 0
    assert named_ms(caught.value) == pytest.approx(BESIDE * PRIORS_MS, abs=1)


def test_the_budget_that_a_refusal_names_gives_a_mask(backend: CountingBackend) -> None:
    segmenter, scan = timed(backend, PIXELS), mr_scan(5, 40, 36, pixel=1.0)
    with pytest.raises(BudgetError) as caught:
        segmenter.segment(scan, budget_ms=1)
    assert segmenter.segment(scan, budget_ms=named_ms(caught.value)).labels.any()


def test_where_a_window_may_save_time_the_look_decides(backend: CountingBackend) -> None:
    """Nine whole slices do not fit; two of them are looked at, and nine windows do not fit either."""
    segmenter, scan = timed(backend, LARGE, **WINDOW), spine_scan()
    window = 64 * 64 / LARGE
    with pytest.raises(BudgetError) as caught:
        segmenter.segment(scan, policy="locate", budget_ms=(2 + 9 * window - 0.5) * PRIOR_MS)
    assert backend.slices == 2
    assert named_ms(caught.value) == pytest.approx((2 + BESIDE * 9 * window) * PRIOR_MS, rel=0.02)


def test_a_budget_below_the_look_itself_is_refused_before_it(backend: CountingBackend) -> None:
    segmenter, scan = timed(backend, LARGE, **WINDOW), spine_scan()
    with pytest.raises(BudgetError) as caught:
        segmenter.segment(scan, policy="locate", budget_ms=1.5 * PRIOR_MS)
    assert backend.slices == 0
    assert segmenter.segment(scan, policy="locate", budget_ms=named_ms(caught.value)).labels.any()


@pytest.mark.parametrize("stream", [False, True])
def test_a_budget_for_the_prior_alone_says_so(backend: CountingBackend, stream: bool) -> None:
    segmenter = timed(backend, PIXELS, frontier={"settings": SETTINGS})
    scan, budget_ms = mr_scan(5, 40, 36, pixel=1.0), cost_ms(0) + 1
    if stream:
        *_, result = segmenter.stream(scan, budget_ms=budget_ms)
    else:
        result = segmenter.segment(scan, budget_ms=budget_ms)
    assert result.outcome == "prior" == result.provenance["outcome"]
    assert result.provenance["reached"]["slices_refined"] == 0
    assert result.provenance["computed"]["sampling_would_take_ms"] == pytest.approx(cost_ms(1), abs=0.1)


def test_a_first_step_that_the_pace_says_is_too_long_is_not_begun(backend: CountingBackend) -> None:
    """A step takes two priors' time: the prior's answer is given back at once, and not after the deadline."""
    segmenter, scan = timed(backend, PIXELS), mr_scan(5, 40, 36, pixel=1.0)
    result = segmenter.segment(scan, steps=2, samples=2, budget_ms=BESIDE * PRIORS_MS + 0.1)
    assert result.outcome == "prior" and result.timings["total"] * 1000 == PRIORS_MS


def test_a_budget_that_leaves_time_for_sampling_says_nothing_of_the_kind(backend: CountingBackend) -> None:
    segmenter = timed(backend, PIXELS, frontier={"settings": SETTINGS})
    result = segmenter.segment(mr_scan(5, 40, 36, pixel=1.0), budget_ms=cost_ms(1) + 1)
    assert result.outcome == "complete"
    assert "sampling_would_take_ms" not in result.provenance["computed"]


FAST = {"steps": 0, "samples": 0, "policy": "whole", "dice": 0.925, "name": "fast"}


@pytest.mark.parametrize(
    ("settings", "asked"),
    [([FAST], {}), ([*SETTINGS[:3], FAST], {}), ([FAST], {"policy": "fast"})],
    ids=["alone on record", "the best on record", "named"],
)
def test_a_prior_that_was_chosen_as_the_best_or_by_name_is_not_blamed_on_the_budget(
    backend: CountingBackend, settings: list[dict[str, Any]], asked: dict[str, Any]
) -> None:
    segmenter, scan = timed(backend, PIXELS, frontier={"settings": settings}), mr_scan(5, 40, 36, pixel=1.0)
    result = segmenter.segment(scan, budget_ms=3_600_000, **asked)
    assert result.outcome == "prior"
    assert "sampling_would_take_ms" not in result.provenance["computed"]
    *_, last = segmenter.stream(scan, budget_ms=3_600_000, **asked)
    assert "sampling_would_take_ms" not in last.provenance["computed"]


def test_the_sampling_that_was_too_dear_is_one_that_was_measured_to_be_better(backend: CountingBackend) -> None:
    """Two of the settings that sample fit, and are worse than the prior."""
    better = {**SETTINGS[3], "dice": 0.93}
    segmenter = timed(backend, PIXELS, frontier={"settings": [*SETTINGS[:3], FAST, better]})
    result = segmenter.segment(mr_scan(5, 40, 36, pixel=1.0), budget_ms=cost_ms(3) + 1)
    assert result.outcome == "prior"
    assert result.provenance["computed"]["sampling_would_take_ms"] == pytest.approx(cost_ms(6), abs=0.1)


def test_an_answer_of_a_stream_before_the_sampling_is_not_blamed_on_the_budget(backend: CountingBackend) -> None:
    segmenter = timed(backend, PIXELS)
    first, *_ = segmenter.stream(mr_scan(5, 40, 36, pixel=1.0), budget_ms=3_600_000)
    assert first.outcome == "prior"
    assert "sampling_would_take_ms" not in first.provenance["computed"]


class CompilingBackend(CountingBackend):
    """Compiles for every size but the golden's, as OpenVINO does."""

    def waits_s(self, rows: int, cols: int, *, denoiser: bool) -> float:
        return (1 + denoiser) * COMPILING_MS / 1000


COMPILING_MS = 400.0


def test_what_compiling_a_new_size_takes_counts_before_the_work(time: FakeTime) -> None:
    backend = CompilingBackend(time)
    segmenter, scan = timed(backend, PIXELS, frontier={"settings": SETTINGS}), mr_scan(5, 40, 36, pixel=1.0)
    with pytest.raises(BudgetError) as caught:
        segmenter.segment(scan, budget_ms=PRIORS_MS + COMPILING_MS - 1)
    assert backend.slices == 0
    assert named_ms(caught.value) == pytest.approx(BESIDE * (PRIORS_MS + COMPILING_MS), abs=1)
    prior = segmenter.segment(scan, budget_ms=cost_ms(1) + COMPILING_MS + 1)
    assert prior.outcome == "prior"
    assert prior.provenance["computed"]["sampling_would_take_ms"] == pytest.approx(
        cost_ms(1) + 2 * COMPILING_MS, abs=0.1
    )
    assert segmenter.segment(scan, budget_ms=cost_ms(1) + 2 * COMPILING_MS + 1).outcome == "complete"


class SizedBackend(NumpyBackend):
    """Compiles for every size that is new to it."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: set[tuple[int, int]] = set()

    def prior(self, image: Maps) -> tuple[Maps, tuple[Maps, ...]]:
        self.sizes.add((image.shape[2], image.shape[3]))
        return super().prior(image)

    def waits_s(self, rows: int, cols: int, *, denoiser: bool) -> float:
        return 0.0 if (rows, cols) in self.sizes else COMPILING_MS / 1000


@pytest.mark.parametrize(
    ("slices", "side"), [(1, 40), (2, 40), (3, 40), (3, 440)], ids=["one", "fewer than lanes", "enough", "large"]
)
def test_what_a_call_has_compiled_the_next_does_not_wait_for(slices: int, side: int) -> None:
    """Whichever form of the networks the slices went through: several at once, or every thread for one."""
    executor = numpy_segmenter(LanedBackend(lambda lanes: SizedBackend(), 3)).loaded.executor
    plan = plan_slices(mr_scan(slices, side, side, pixel=1.0).geometry, view="sagittal", spacing_mm=1.0, multiple=4)
    sampling = resolve_sampling(tiny_manifest(), SampleOptions(), denoiser=False)
    with executor.call(tiny_manifest(), Clock(), 4096) as (_, runner):
        assert runner.waits_s(plan, True) > 0
        runner.begin(plan, sampling, chunk=None, anytime=False)
        runner.prior(np.zeros((slices, 1, plan.padded_rows, plan.padded_cols), np.float32), slice(0, slices))
        assert runner.waits_s(plan, True) == 0


def test_openvino_waits_for_the_sizes_that_it_has_not_compiled(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    laned = Segmenter.load(write_tiny(tmp_path / "tiny.verdiff"), backend="openvino", threads=2).backend
    backend: Any = laned.lane
    image = open_bundle(tmp_path / "tiny.verdiff").golden()["image"]
    rows, cols = image.shape[2:]
    assert backend.waits_s(rows, cols, denoiser=True) == 0
    alone, both = (backend.waits_s(4 * rows, cols, denoiser=denoiser) for denoiser in (False, True))
    assert 0 < alone < both
    backend.prior(np.repeat(image[:1], 4, axis=2))
    assert backend.waits_s(4 * rows, cols, denoiser=False) == 0 < backend.waits_s(4 * rows, cols, denoiser=True)
    # A single slice has all threads, and networks of its own.
    single: Any = laned
    assert single.waits_s(rows, cols, denoiser=False) > 0
    laned.prior(image[:1])
    assert single.waits_s(rows, cols, denoiser=False) == 0


def test_without_a_budget_the_pace_refuses_nothing(backend: CountingBackend) -> None:
    slow = Segmenter(replace(timed(backend, PIXELS).loaded, pace=Pace(1.0, 1.0)))
    assert slow.segment(mr_scan(5, 40, 36, pixel=1.0)).outcome == "complete"
    assert slow.segment(mr_scan(5, 40, 36, pixel=1.0), cancel=lambda: False).outcome == "complete"
