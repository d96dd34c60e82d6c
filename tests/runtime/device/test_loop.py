"""The device path on the null device: the host's masks, and nothing between the steps of a loop."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from tests.runtime.device.null_driver import NullDriver
from tests.runtime.device.tiny_networks import device_segmenter
from tests.runtime.scans import mr_scan, numpy_segmenter
from tests.runtime.test_invariance import same
from verdiff.errors import BackendError, BudgetError
from verdiff.imaging import plan_slices
from verdiff.runtime import Cancelled
from verdiff.runtime.device import loop

# What a loop may do between its first step and its last: nothing but the next step, or with somebody asked, a mark in
# the stream and a wait for the mark before it.
STEPS_ALONE = {"launch_graph"}
STEPS_WATCHED = {"launch_graph", "record", "finish"}


def between_steps(driver: NullDriver) -> list[set[str]]:
    """Of each run of graph launches, the calls from its first to its last."""
    names = driver.names
    launches = [place for place, name in enumerate(names) if name == "launch_graph"]
    return [set(names[a : b + 1]) for a, b in pairwise(launches)]


@pytest.mark.parametrize("fusion", ["mean", "steps", "steps-published"])
@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "dpmpp-2m"])
def test_the_mask_is_the_host_loops_bit_for_bit(sampler: str, fusion: str) -> None:
    options: dict[str, Any] = {"samples": 3, "steps": 4, "sampler": sampler, "fusion": fusion, "seed": 2**40 + 3}
    expected = numpy_segmenter().segment(mr_scan(), **options)
    found = device_segmenter().segment(mr_scan(), **options)
    assert same(found, expected)
    assert np.array_equal(found.spread(), expected.spread())
    assert found.outcome == "complete"


@pytest.mark.parametrize(("batch", "chunk"), [(1, None), (2, 1), (3, None), (8, 2), (8, None), (32, None)])
def test_batch_and_chunk_do_not_change_a_bit(batch: int, chunk: int | None) -> None:
    expected = numpy_segmenter().segment(mr_scan(), samples=3)
    assert same(device_segmenter(batch=batch, chunk=chunk).segment(mr_scan(), samples=3), expected)


def test_features_in_half_precision_are_read_as_they_were_written() -> None:
    single = device_segmenter().segment(mr_scan())
    half = device_segmenter(half=np.float16).segment(mr_scan())
    assert not same(half, single)
    assert np.mean(half.labels == single.labels) > 0.999


def test_a_stream_gives_the_hosts_masks_in_the_hosts_order() -> None:
    expected = list(numpy_segmenter().stream(mr_scan(), samples=4))
    found = list(device_segmenter(batch=2).stream(mr_scan(), samples=4))
    assert [partial.outcome for partial in found] == [partial.outcome for partial in expected]
    assert all(same(a, b) for a, b in zip(found, expected, strict=True))


def test_a_smoothed_mask_is_the_hosts_and_a_stream_smooths_each_of_its_masks() -> None:
    expected = list(numpy_segmenter().stream(mr_scan(), samples=4, smooth_mm=4.0))
    found = list(device_segmenter(batch=2).stream(mr_scan(), samples=4, smooth_mm=4.0))
    plain = list(numpy_segmenter().stream(mr_scan(), samples=4))
    assert all(same(a, b) for a, b in zip(found, expected, strict=True))
    assert not any(same(a, b) for a, b in zip(expected, plain, strict=True))


def test_of_an_answer_the_probabilities_and_the_spread_are_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host derives the uncertainty from the probabilities, and the device's own plane of it stays there."""
    driver = NullDriver()
    segmenter, taken = device_segmenter(driver), []
    download = driver.download

    def noted(target: Any, source: int, stream: int) -> None:
        taken.extend([target.size] if target.dtype == np.float32 else [])
        download(target, source, stream)

    monkeypatch.setattr(driver, "download", noted)
    segmenter.segment(mr_scan(), samples=2)
    manifest = segmenter.manifest
    grid = {"spacing_mm": manifest.spacing_mm, "multiple": manifest.multiple}
    plan = plan_slices(mr_scan().geometry, view=manifest.view, **grid)
    assert sum(taken) == plan.slices * (len(manifest.labels) + 1) * plan.padded_rows * plan.padded_cols


def test_the_priors_answer_needs_no_loop() -> None:
    driver = NullDriver()
    found = device_segmenter(driver).segment(mr_scan(), prior_only=True)
    assert same(found, numpy_segmenter().segment(mr_scan(), prior_only=True))
    assert "begin_capture" not in driver.names


def test_all_steps_are_one_launch_and_noise_is_made_before_it() -> None:
    driver = NullDriver()
    segmenter = device_segmenter(driver, batch=8)
    segmenter.segment(mr_scan(), samples=4, steps=5, sampler="ddpm")
    driver.calls.clear()
    segmenter.segment(mr_scan(), samples=4, steps=5, sampler="ddpm")
    loops = driver.names.count("launch_graph")
    assert loops == 4
    # The start and the four rows that take noise.
    assert driver.names.count("launch:philox_normal") == loops * 5
    first = driver.names.index("launch_graph")
    assert set(driver.names[:first]) == {
        *("memory", "clear", "upload", "network:prior", "launch:mark_non_finite", "synchronise"),
        *("copy", "launch:philox_normal"),
    }
    assert driver.names[first:].count("synchronise") == 2  # the loops of the one chunk, and its answer


def test_the_second_call_takes_captures_and_compiles_nothing() -> None:
    driver = NullDriver()
    segmenter = device_segmenter(driver)
    segmenter.segment(mr_scan())
    held = driver.held
    driver.calls.clear()
    segmenter.segment(mr_scan())
    assert not {"allocate", "allocate_pinned", "open_stream", "open_event", "begin_capture", "compile"} & set(
        driver.names
    )
    assert driver.held == held


def test_two_captures_a_shape_a_graph_a_step_and_one_of_all() -> None:
    driver = NullDriver()
    segmenter = device_segmenter(driver)
    segmenter.segment(mr_scan(), steps=3)
    assert [len(graph.work) for graph in driver.graphs] == [3, 2, 2, 7]  # start, network, finite check
    segmenter.segment(mr_scan(), steps=3, seed=9, sampler="dpmpp-2m")
    assert len(driver.graphs) == 4


@pytest.mark.parametrize("watched", [False, True])
def test_nothing_is_taken_copied_or_waited_for_between_steps(watched: bool) -> None:
    driver = NullDriver()
    segmenter = device_segmenter(driver, batch=8)
    options: dict[str, Any] = {"samples": 1, "steps": 6, "cancel": (lambda: False) if watched else None}
    segmenter.segment(mr_scan(), **options)
    driver.calls.clear()
    result = segmenter.segment(mr_scan(), **options)
    assert same(result, numpy_segmenter().segment(mr_scan(), samples=1, steps=6))
    steps = between_steps(driver)
    assert len(steps) == (5 if watched else 0)
    assert all(step <= (STEPS_WATCHED if watched else STEPS_ALONE) for step in steps)


def test_a_watched_loop_always_has_a_step_waiting_behind_the_one_that_runs() -> None:
    driver = NullDriver()
    segmenter = device_segmenter(driver, batch=8)
    segmenter.segment(mr_scan(), samples=1, steps=4, cancel=lambda: False)
    names = [name for name in driver.names if name in ("launch_graph", "finish")]
    assert names == ["launch_graph", *["launch_graph", "finish"] * 3, "finish"]


@pytest.mark.parametrize("steps", [1, 2, 5, 6])
def test_cancelling_between_steps_keeps_what_there_is(steps: int) -> None:
    driver = NullDriver()
    segmenter = device_segmenter(driver, batch=8)
    segmenter.segment(mr_scan(), samples=2, steps=6)
    driver.calls.clear()
    result = segmenter.segment(
        mr_scan(), samples=2, steps=6, cancel=lambda: driver.names.count("launch_graph") >= steps
    )
    reached = result.provenance["reached"]
    if steps == 6:
        # The first round is whole when somebody says yes; the second is not begun.
        assert (result.outcome, reached["samples"], reached["steps"]) == ("cancelled", [1, 1], [6, 6])
        assert same(result, segmenter.segment(mr_scan(), samples=1, steps=6))
    else:
        # One step waits behind the one that runs, so it is done too.
        assert (result.outcome, reached["steps"]) == ("cancelled", [max(2, steps), max(2, steps)])
    assert driver.held["captures"] == 0


def test_cancelling_in_the_last_of_several_members_keeps_the_whole_ones() -> None:
    """One member at a time fits: rounds of 1, 1 and 2 members, stopped in the fourth."""
    driver = NullDriver()
    segmenter = device_segmenter(driver, batch=5)
    segmenter.segment(mr_scan(), samples=4, steps=6)
    driver.calls.clear()
    result = segmenter.segment(
        mr_scan(), samples=4, steps=6, cancel=lambda: driver.names.count("launch_graph") >= 3 * 6 + 3
    )
    reached = result.provenance["reached"]
    assert (result.outcome, reached["samples"], reached["steps"]) == ("cancelled", [3, 3], [6, 6])
    assert same(result, segmenter.segment(mr_scan(), samples=3, steps=6))


def test_cancelling_before_the_prior_is_done_leaves_the_segmenter_usable() -> None:
    segmenter = device_segmenter(batch=1)
    with pytest.raises(Cancelled):
        segmenter.segment(mr_scan(), cancel=lambda: True)
    assert same(segmenter.segment(mr_scan()), numpy_segmenter().segment(mr_scan()))


def test_no_time_at_all_is_refused_before_the_device_is_touched() -> None:
    driver = NullDriver()
    segmenter = device_segmenter(driver)
    driver.calls.clear()
    with pytest.raises(BudgetError):
        segmenter.segment(mr_scan(), budget_ms=0)
    assert driver.calls == []


@pytest.mark.parametrize("watched", [False, True])
def test_a_step_that_gives_nan_is_named(watched: bool) -> None:
    segmenter = device_segmenter(spoiled_timestep=500)
    cancel = (lambda: False) if watched else None
    with pytest.raises(BackendError, match=r"denoiser at step 2 of 4 \(timestep 750\)|step 3 of 4 \(timestep 500\)"):
        segmenter.segment(mr_scan(), steps=4, cancel=cancel)


def test_a_call_after_one_that_gave_nan_is_judged_by_itself() -> None:
    segmenter = device_segmenter(spoiled_timestep=500)
    for _ in range(2):
        with pytest.raises(BackendError, match="NaN"):
            segmenter.segment(mr_scan(), steps=4)
    segmenter.backend.networks.spoiled_timestep = None  # type: ignore[union-attr]
    assert same(segmenter.segment(mr_scan(), steps=4), numpy_segmenter().segment(mr_scan(), steps=4))


def test_progress_rises_to_one() -> None:
    seen: list[float] = []
    device_segmenter().segment(mr_scan(), samples=3, progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_a_loop_too_long_to_capture_gives_the_same_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = device_segmenter().segment(mr_scan(), steps=5)
    monkeypatch.setattr(loop, "MOST_CAPTURED", 4)
    driver = NullDriver()
    segmenter = device_segmenter(driver)
    assert same(segmenter.segment(mr_scan(), steps=5), expected)
    assert same(segmenter.segment(mr_scan(), steps=5, cancel=lambda: False), expected)
    assert driver.held["graphs"] == 0


def test_the_provenance_says_what_computed() -> None:
    backend = device_segmenter().segment(mr_scan()).provenance["backend"]
    expected = {"name": "stand-in", "version": "1.0", "device": "cuda:0", "precision": "fp32", "threads": 0, "batch": 4}
    assert backend == expected
