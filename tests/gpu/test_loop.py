"""The device path on a device with the stand-in networks: masks, what happens between steps, memory, threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from threading import Barrier
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.gpu.stand_in import CountingDriver, stand_in_segmenter
from tests.runtime.scans import mr_scan, numpy_segmenter
from tests.runtime.test_invariance import same
from verdiff.errors import BackendError, InputError
from verdiff.imaging import IntensityRule, intensity_bounds, plan_slices
from verdiff.runtime.device.cuda_core import open_driver

RUNS = 1000
# What one run may leave behind, in all runs together: less than one small buffer a hundred runs.
FLAT_BYTES = 4 << 20


def agree(found: Any, expected: Any) -> bool:
    return bool(np.mean(found.labels == expected.labels) >= 0.9999)


@pytest.mark.parametrize("fusion", ["mean", "steps"])
@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "dpmpp-2m"])
def test_the_mask_is_the_hosts(driver: CountingDriver, sampler: str, fusion: str) -> None:
    options: dict[str, Any] = {"samples": 3, "steps": 5, "sampler": sampler, "fusion": fusion}
    with stand_in_segmenter(driver) as segmenter:
        found = segmenter.segment(mr_scan(7, 120, 100), **options)
    expected = numpy_segmenter().segment(mr_scan(7, 120, 100), **options)
    assert agree(found, expected)
    assert np.abs(found.uncertainty.astype(int) - expected.uncertainty).max() <= 1


def test_the_same_call_gives_the_same_bits_whatever_the_batch(driver: CountingDriver) -> None:
    masks = []
    for batch in (1, 3, 8):
        with stand_in_segmenter(driver, batch=batch) as segmenter:
            masks.append(segmenter.segment(mr_scan(5), samples=3))
    assert same(masks[0], masks[1]) and same(masks[0], masks[2])


@pytest.mark.parametrize("watched", [False, True])
def test_nothing_is_taken_copied_or_waited_for_between_steps(driver: CountingDriver, watched: bool) -> None:
    options: dict[str, Any] = {"samples": 1, "steps": 10, "cancel": (lambda: False) if watched else None}
    with stand_in_segmenter(driver, batch=8) as segmenter:
        segmenter.segment(mr_scan(), **options)
        driver.names.clear()
        segmenter.segment(mr_scan(), **options)
        launches = [place for place, name in enumerate(driver.names) if name == "launch_graph"]
        assert len(launches) == (10 if watched else 1)
        for before, after in pairwise(launches):
            assert set(driver.names[before:after]) <= {"launch_graph", "record", "finish"}


def test_a_thousand_runs_hold_what_one_holds(driver: CountingDriver) -> None:
    scan = mr_scan(4, 40, 40)
    with stand_in_segmenter(driver) as segmenter:
        for _ in range(3):
            segmenter.segment(scan)
        with driver.active():
            before = driver.memory()[0]
        driver.names.clear()
        for seed in range(RUNS):
            segmenter.segment(scan, seed=seed)
        with driver.active():
            assert before - driver.memory()[0] < FLAT_BYTES
        assert not {"allocate", "allocate_pinned", "begin_capture", "open_stream", "compile"} & set(driver.names)


def test_two_segmenters_in_two_threads() -> None:
    segmenters = [stand_in_segmenter(open_driver("cuda:0"), batch=batch) for batch in (2, 8)]
    together = Barrier(2)
    expected = [numpy_segmenter().segment(mr_scan(), seed=seed) for seed in range(10)]

    def work(index: int) -> bool:
        together.wait()
        return all(
            agree(segmenters[index].segment(mr_scan(), seed=seed), answer) for seed, answer in enumerate(expected)
        )

    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(work, range(2)))
    for segmenter in segmenters:
        segmenter.close()


def test_a_step_that_gives_nan_is_named_and_the_next_call_is_well(driver: CountingDriver) -> None:
    with stand_in_segmenter(driver, spoiled=750.0) as segmenter:
        with pytest.raises(BackendError, match=r"step 2 of 4 \(timestep 750\)"):
            segmenter.segment(mr_scan(), steps=4)
        assert agree(segmenter.segment(mr_scan(), steps=3), numpy_segmenter().segment(mr_scan(), steps=3))


def test_cancelling_between_steps_gives_a_mask(driver: CountingDriver) -> None:
    with stand_in_segmenter(driver, batch=8) as segmenter:
        segmenter.segment(mr_scan(), steps=50)
        driver.names.clear()
        result = segmenter.segment(
            mr_scan(), samples=1, steps=50, cancel=lambda: driver.names.count("launch_graph") >= 5
        )
        assert result.outcome == "cancelled"
        assert 5 <= result.provenance["reached"]["steps"][1] <= 7


def test_slices_on_the_device_are_read_where_they_lie_and_elsewhere_refused(driver: CountingDriver) -> None:
    scan = mr_scan(2, 40, 40)
    plan = plan_slices(scan.geometry, view="sagittal", spacing_mm=1.0, multiple=4)
    slices = np.ascontiguousarray(plan.extract(scan.array), np.float32)
    bounds = intensity_bounds(scan.array, IntensityRule("percentile", 0.5, 99.5))
    expected = plan.extract(numpy_segmenter().segment(scan).labels)

    def array(pointer: int) -> Any:
        said = {"shape": slices.shape, "typestr": "<f4", "data": (pointer, False), "version": 3, "stream": None}
        return SimpleNamespace(__cuda_array_interface__=said)

    with stand_in_segmenter(driver) as segmenter, driver.active():
        pinned, there = driver.allocate_pinned(slices.nbytes), driver.allocate(slices.nbytes)
        stream = segmenter.backend.stream  # type: ignore[union-attr]
        pinned[:] = slices.view(np.uint8).ravel()
        driver.upload(there, pinned, stream)
        driver.synchronise(stream)
        with segmenter.on_device(*slices.shape, (0.9, 0.9)) as session:
            for _ in range(3):
                answer = session.segment(array(there), bounds)
            answer.wait()
            with pytest.raises(InputError, match="host's memory"):
                session.segment(array(slices.ctypes.data), bounds)
        # The session is closed; what it gave is there.
        labels = pinned[: answer.labels.nbytes]
        driver.download(labels, answer.labels.pointer, stream)
        driver.synchronise(stream)
        assert np.mean(labels.reshape(slices.shape) == expected) > 0.995
        driver.free(there)
        driver.free_pinned(pinned)


def test_its_stream_does_not_wait_for_the_default_one(driver: CountingDriver) -> None:
    bindings = pytest.importorskip("cuda.bindings.driver")
    with stand_in_segmenter(driver) as segmenter, driver.active():
        status, flags = bindings.cuStreamGetFlags(segmenter.backend.stream)  # type: ignore[union-attr]
        assert status == bindings.CUresult.CUDA_SUCCESS
        assert flags == bindings.CUstream_flags.CU_STREAM_NON_BLOCKING


@pytest.mark.parametrize("priority", [None, -1])
def test_a_stream_of_its_own_has_the_priority_asked_for(driver: CountingDriver, priority: int | None) -> None:
    bindings = pytest.importorskip("cuda.bindings.driver")
    with stand_in_segmenter(driver, priority=priority) as segmenter, driver.active():
        status, found = bindings.cuStreamGetPriority(segmenter.backend.stream)  # type: ignore[union-attr]
        assert status == bindings.CUresult.CUDA_SUCCESS
        assert found == (priority or 0)


def test_closing_gives_the_memory_back(driver: CountingDriver) -> None:
    with driver.active():
        before = driver.memory()[0]
    segmenter = stand_in_segmenter(driver, batch=8)
    segmenter.segment(mr_scan(8, 300, 300), samples=8)
    with driver.active():
        during = driver.memory()[0]
    segmenter.close()
    with driver.active():
        assert during < driver.memory()[0]
        assert before - driver.memory()[0] < 64 << 20  # the context's own
