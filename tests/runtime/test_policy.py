"""Policies: what is left out, that the rest is as it was, and what happens when a policy's guess was wrong."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.runtime.scans import SAGITTAL, mr_scan, numpy_segmenter
from tests.runtime.slow_time import PRIOR_MS, FakeTime, SlowBackend
from tests.runtime.test_invariance import same
from tests.runtime.tiny_bundle import Maps, NumpyBackend
from verdiff.errors import BudgetError, InputError
from verdiff.imaging import Geometry, Volume, plan_slices
from verdiff.runtime import Cancelled, Segmenter, host, memory
from verdiff.runtime.clock import Clock
from verdiff.runtime.locating import reaches_border, slices_to_look_at, window_around
from verdiff.runtime.policy import Policy, masks_agree

GREY = 600
BRIGHT = 1500
WINDOW = {"intensity": {"kind": "window", "low": 0.0, "high": 1600.0}}


class PixelBackend(NumpyBackend):
    """The tiny networks, keeping the size of every input of the prior and the number of denoiser images."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[tuple[int, int]] = []
        self.denoised = 0

    def prior(self, image: Maps) -> tuple[Maps, tuple[Maps, ...]]:
        self.sizes.append(image.shape[2:])
        return super().prior(image)

    def denoise(self, x: Maps, timestep: int, prior: Maps, features: tuple[Maps, ...]) -> Maps:
        self.denoised += len(x)
        return super().denoise(x, timestep, prior, features)


def spine_scan(slices: int = 9, *, empty: tuple[int, ...] = (), wide: tuple[int, ...] = ()) -> Volume:
    """A bright column in the middle of grey that the tiny prior leaves to the background, 1 mm pixels.

    Canonical slice ``i`` of ``empty`` has no column, and in one of ``wide`` it goes on far to the side.
    """
    array = np.full((slices, 80, 120), GREY, np.int16)
    for i in range(slices):
        plane = array[slices - 1 - i]
        if i not in empty:
            plane[30:50, 55:65] = BRIGHT
        if i in wide:
            plane[30:50, 65:115] = BRIGHT
    array[:, 0, 0] = GREY - 10
    return Volume(array, Geometry((120, 80, slices), (1.0, 1.0, 4.0), (0.0, 0.0, 0.0), SAGITTAL))


def segmenter_of(backend: NumpyBackend, chunk: int | None = None) -> Segmenter:
    return numpy_segmenter(backend, chunk=chunk, **WINDOW)


@pytest.mark.parametrize("text", ["whole", "locate", "skip", "agree", "locate+skip", "locate+skip+agree"])
def test_a_policy_reads_back_as_it_was_written(text: str) -> None:
    assert str(Policy.parse(text)) == text


@pytest.mark.parametrize("text", ["", "crop", "locate+", "whole+skip", "Locate"])
def test_an_unknown_policy_is_refused_by_name(text: str) -> None:
    with pytest.raises(InputError, match="locate, skip, agree"):
        Policy.parse(text)


def test_a_fast_setting_that_the_model_does_not_have_is_refused() -> None:
    with pytest.raises(InputError, match="'fast'"):
        numpy_segmenter().segment(mr_scan(), policy="fast")


def test_the_fast_setting_brings_steps_samples_and_policy() -> None:
    row = {"steps": 2, "samples": 1, "policy": "skip", "dice": 0.9, "name": "fast"}
    segmenter = numpy_segmenter(frontier={"settings": [row]})
    fast = segmenter.segment(mr_scan(), policy="fast").provenance
    assert [fast["sampling"][key] for key in ("steps", "samples", "policy")] == [2, 1, "skip"]
    named = segmenter.segment(mr_scan(), policy="fast", steps=1).provenance
    assert [named["sampling"][key] for key in ("steps", "samples", "policy")] == [1, 1, "skip"]


def test_a_fast_setting_without_steps_is_the_prior_alone() -> None:
    row = {"steps": 0, "samples": 0, "policy": "skip", "dice": 0.9, "name": "fast"}
    segmenter = numpy_segmenter(frontier={"settings": [row]})
    fast, alone = segmenter.segment(mr_scan(), policy="fast"), segmenter.segment(mr_scan(), prior_only=True)
    assert np.array_equal(fast.labels, alone.labels) and fast.outcome == "prior"
    assert [fast.provenance["sampling"][key] for key in ("steps", "samples", "policy")] == [0, 0, "skip"]
    default = segmenter.manifest.defaults
    named = segmenter.segment(mr_scan(), policy="fast", steps=2).provenance
    assert [named["sampling"][key] for key in ("steps", "samples", "policy")] == [2, default.samples, "skip"]


class TestLocate:
    def test_everything_but_the_look_is_computed_in_the_window(self) -> None:
        backend = PixelBackend()
        result = segmenter_of(backend).segment(spine_scan(), policy="locate")
        top, left, rows, cols = result.provenance["computed"]["window"]
        assert (top, left, rows, cols) == (12, 36, 64, 64)
        assert backend.sizes == [(80, 120)] * 2 + [(64, 64)] * 9

    def test_the_mask_is_that_of_whole_slices(self) -> None:
        """The tiny networks see 3 x 3 pixels, so within the window nothing can differ but the noise they are given."""
        segmenter, scan = segmenter_of(NumpyBackend()), spine_scan()
        located, whole = (segmenter.segment(scan, policy=policy, prior_only=True) for policy in ("locate", "whole"))
        assert whole.labels.any()
        assert np.array_equal(located.labels, whole.labels)
        assert located.geometry == whole.geometry

    @pytest.mark.parametrize("chunk", [1, 2, 4])
    def test_how_the_work_is_split_does_not_change_a_bit(self, chunk: int) -> None:
        scan = spine_scan(wide=(1,))
        first = segmenter_of(NumpyBackend(), 1).segment(scan, policy="locate+skip", samples=2)
        split = segmenter_of(NumpyBackend(), chunk).segment(scan, policy="locate+skip", samples=2)
        *_, streamed = segmenter_of(NumpyBackend(), chunk).stream(scan, policy="locate+skip", samples=2)
        assert np.array_equal(first.labels, split.labels)
        assert np.array_equal(first.uncertainty, split.uncertainty)
        assert np.array_equal(first.uncertainty, streamed.uncertainty)

    def test_a_structure_at_the_windows_border_brings_whole_slices_back(self) -> None:
        """Slice 8 is wider than the slices that were looked at, 2 and 6."""
        scan, backend = spine_scan(wide=(8,)), PixelBackend()
        result = segmenter_of(backend).segment(scan, policy="locate")
        assert (
            result.provenance["computed"] | {"window": None, "window_outgrown": True} == result.provenance["computed"]
        )
        assert np.array_equal(result.labels, segmenter_of(NumpyBackend()).segment(scan).labels)
        assert result.labels[:, :, 105:112].any()

    def test_progress_goes_on_after_a_window_that_was_outgrown(self) -> None:
        seen: list[float] = []
        segmenter_of(NumpyBackend(), 1).segment(spine_scan(40, wide=(37,)), policy="locate", progress=seen.append)
        assert seen == sorted(seen)
        assert seen.index(1.0) == len(seen) - 1

    def test_nothing_found_means_whole_slices(self) -> None:
        backend = PixelBackend()
        result = segmenter_of(backend).segment(spine_scan(empty=tuple(range(9))), policy="locate")
        assert result.empty
        assert set(backend.sizes) == {(80, 120)}

    def test_a_few_slices_are_taken_whole(self) -> None:
        backend = PixelBackend()
        segmenter_of(backend).segment(spine_scan(4), policy="locate")
        assert backend.sizes == [(80, 120)] * 4

    @pytest.mark.parametrize("slices", range(1, 200))
    def test_the_slices_looked_at_are_spread_and_few(self, slices: int) -> None:
        chosen = slices_to_look_at(slices)
        assert len(chosen) == (0 if slices < 5 else max(2, -(-slices // 12)))
        assert chosen == sorted(set(chosen))
        assert all(0 < index < slices - 1 for index in chosen)

    def test_a_window_that_saves_little_is_not_taken(self) -> None:
        plan = plan_slices(spine_scan().geometry, view="sagittal", spacing_mm=1.0, multiple=4)
        found = np.zeros((80, 120), bool)
        found[10:70, 10:110] = True
        assert window_around(plan, found, 4) is plan

    @pytest.mark.parametrize(("row", "col", "reaches"), [(0, 5, True), (19, 5, True), (10, 0, True), (10, 5, False)])
    def test_only_the_windows_own_borders_count(self, row: int, col: int, reaches: bool) -> None:
        whole = plan_slices(spine_scan().geometry, view="sagittal", spacing_mm=1.0, multiple=4)
        window = whole.windowed(slice(8, 28), slice(80, 120))
        structures = np.zeros((1, 20, 40), bool)
        structures[0, row, col] = True
        assert reaches_border(window, whole, structures) is reaches
        structures[:] = False
        structures[0, 10, 39] = True
        assert not reaches_border(window, whole, structures)

    @pytest.mark.parametrize("done", [0, 1, 3])
    def test_the_look_can_be_cancelled(self, done: int) -> None:
        backend = PixelBackend()
        with pytest.raises(Cancelled, match=f"{done} of 10 looked at"):
            segmenter_of(backend, 1).segment(
                spine_scan(120), policy="locate", cancel=lambda: len(backend.sizes) == done
            )
        assert len(backend.sizes) == done

    @pytest.mark.parametrize(("looks", "done"), [(0.5, 1), (9.5, 2)])
    def test_a_look_that_would_not_end_in_time_is_not_gone_on_with(
        self, time: FakeTime, looks: float, done: int
    ) -> None:
        """Without a pace of the load; two slices show what one takes."""
        backend = SlowBackend(time)
        with pytest.raises(BudgetError, match=f"{done} of 10 slices were looked at") as caught:
            segmenter_of(backend, 1).segment(spine_scan(120), policy="locate", budget_ms=looks * PRIOR_MS)
        assert len(backend.calls) == done
        assert f"about {math.ceil(130 * PRIOR_MS)} ms" in caught.value.expected

    def test_a_check_looks_at_no_slice(self) -> None:
        backend = PixelBackend()
        segmenter_of(backend).check(spine_scan(), policy="locate")
        assert not backend.sizes

    def test_without_time_for_whole_slices_the_window_is_kept_and_said_to_be_outgrown(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        segmenter, scan = segmenter_of(NumpyBackend()), spine_scan(wide=(8,))
        enough = segmenter.segment(scan, policy="locate", budget_ms=1e6).provenance["computed"]
        assert (enough["window"], enough["window_outgrown"]) == (None, True)
        monkeypatch.setattr(Clock, "left", 1e-9)
        monkeypatch.setattr(Clock, "why_stop", lambda self, reserve=0.0: None)
        tight = segmenter.segment(scan, policy="locate", budget_ms=1e6).provenance["computed"]
        assert (tight["window"], tight["window_outgrown"]) == ([12, 36, 64, 64], True)


class TestSkip:
    def test_slices_without_structure_are_not_sampled(self) -> None:
        backend = PixelBackend()
        result = segmenter_of(backend, chunk=1).segment(spine_scan(empty=(0, 1, 8)), policy="skip", samples=2)
        assert backend.denoised == 6 * 3 * 2
        assert result.provenance["reached"]["slices_refined"] == 6
        assert result.provenance["computed"]["slices_settled"] == 3

    @pytest.mark.parametrize("chunk", [1, 2, 3, 9])
    def test_the_others_are_as_without_the_policy(self, chunk: int) -> None:
        scan = spine_scan(empty=(0, 4))
        whole = segmenter_of(NumpyBackend(), chunk).segment(scan)
        skipped = segmenter_of(NumpyBackend(), chunk).segment(scan, policy="skip")
        prior = segmenter_of(NumpyBackend(), chunk).segment(scan, prior_only=True)
        expected = whole.uncertainty.copy()
        expected[[8, 4]] = prior.uncertainty[[8, 4]]
        assert np.array_equal(skipped.uncertainty, expected)
        assert np.array_equal(skipped.labels[[0, 1, 7]], whole.labels[[0, 1, 7]])


class TestAgree:
    def test_samples_that_agree_are_not_added_to(self) -> None:
        backend = SureBackend()
        result = segmenter_of(backend, chunk=1).segment(spine_scan(), policy="agree", samples=8)
        two = segmenter_of(SureBackend()).segment(spine_scan(), samples=2)
        assert backend.denoised == 9 * 3 * 2
        assert result.outcome == "complete"
        assert np.array_equal(result.uncertainty, two.uncertainty)

    def test_samples_that_differ_are_all_taken(self) -> None:
        restless = NoisyBackend()
        result = segmenter_of(restless).segment(spine_scan(), policy="agree", samples=8)
        assert result.provenance["reached"]["samples"] == [8, 8]
        assert result.provenance["computed"]["slices_settled"] == 0

    @pytest.mark.parametrize(("samples", "settled"), [(1, 0), (2, 0), (3, 9), (4, 9)])
    def test_slices_are_settled_only_where_samples_were_left_out(self, samples: int, settled: int) -> None:
        backend = SureBackend()
        result = segmenter_of(backend, chunk=1).segment(spine_scan(), policy="agree", samples=samples)
        assert result.provenance["computed"]["slices_settled"] == settled
        assert backend.denoised == 9 * 3 * (2 if settled else samples)

    @pytest.mark.parametrize("features", [False, True])
    @pytest.mark.parametrize("chunk", [1, 4])
    def test_without_memory_for_samples_and_conditions_the_mask_is_the_same(
        self, monkeypatch: pytest.MonkeyPatch, chunk: int, features: bool
    ) -> None:
        """Slices settle after different rounds, and one has no structure that would be sampled."""
        asked: dict[str, Any] = {"policy": "skip+agree", "samples": 8}
        scan, plenty = spine_scan(empty=(3,)), RestlessBackend()
        expected = segmenter_of(plenty, chunk).segment(scan, **asked)
        assert 1 < expected.provenance["computed"]["slices_settled"] < 9
        plain = host.plan_memory

        def tight(*given: Any, **options: Any) -> memory.MemoryPlan:
            return replace(plain(*given, **options), keep_samples=False, keep_features=features)

        monkeypatch.setattr(host, "plan_memory", tight)
        little, seen = RestlessBackend(), list[float]()
        found = segmenter_of(little, chunk).segment(scan, **asked, progress=seen.append)
        assert same(found, expected)
        assert np.array_equal(found.spread(), expected.spread())
        for name in ("computed", "reached"):
            assert found.provenance[name] == expected.provenance[name]
        # Nothing is sampled twice, and a chunk's conditions are made again once at most.
        assert little.denoised == plenty.denoised
        assert len(little.sizes) <= (9 if features else 18)
        assert seen == sorted(seen) and seen[-1] == 1.0 > seen[-2]

    @pytest.mark.parametrize(("changed", "alike"), [(0, True), (15, True), (17, False)])
    def test_agreement_is_the_dice_of_every_structure(self, changed: int, alike: bool) -> None:
        first: NDArray[np.float16] = np.zeros((1, 2, 30, 40), np.float16)
        first[0, 0] = 1
        first[0, 1, :20] = 1
        second = first.copy()
        second[0, 1, 0, :changed] = 0
        assert masks_agree(first, second).tolist() == [alike]


class SureBackend(PixelBackend):
    """A denoiser whose samples do not differ."""

    def denoise(self, x: Maps, timestep: int, prior: Maps, features: tuple[Maps, ...]) -> Maps:
        self.denoised += len(x)
        return np.tanh(3 * prior).astype(np.float32)


class RestlessBackend(PixelBackend):
    """A denoiser that follows its noise a little, so that some slices agree sooner than others."""

    def denoise(self, x: Maps, timestep: int, prior: Maps, features: tuple[Maps, ...]) -> Maps:
        self.denoised += len(x)
        return np.tanh(3 * prior + np.float32(0.7) * x).astype(np.float32)


class NoisyBackend(NumpyBackend):
    """A denoiser that follows its noise."""

    def denoise(self, x: Maps, timestep: int, prior: Maps, features: tuple[Maps, ...]) -> Maps:
        return np.tanh(3 * x).astype(np.float32)
