"""Slices on the device to labels on the device: the host's masks in the host's pixels, and nothing that waits."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.runtime.device.null_driver import HOST_STREAM, Given, NullDriver
from tests.runtime.device.tiny_networks import device_segmenter
from tests.runtime.scans import mr_scan, numpy_segmenter
from verdiff.diffusion import background_and_labels
from verdiff.errors import BackendError, InputError
from verdiff.imaging import IntensityRule, intensity_bounds, plan_slices
from verdiff.runtime import Segmenter
from verdiff.runtime.device.session import DeviceAnswer

SCAN = mr_scan(5)
PLAN = plan_slices(SCAN.geometry, view="sagittal", spacing_mm=1.0, multiple=4)
SLICES = np.ascontiguousarray(PLAN.extract(SCAN.array), np.float32)
BOUNDS = intensity_bounds(SCAN.array, IntensityRule("percentile", 0.5, 99.5))
PIXEL = (0.9, 0.9)


@pytest.fixture
def given(driver: NullDriver) -> Iterator[Given]:
    with driver.given_array(SLICES) as array:
        yield array


def on_host(driver: NullDriver, answer: DeviceAnswer) -> dict[str, NDArray[Any]]:
    """The answer's arrays, through the interface that other libraries read."""
    answer.wait()
    found = {}
    for name in ("labels", "probabilities", "uncertainty"):
        interface = getattr(answer, name).__cuda_array_interface__
        assert interface["version"] == 3 and interface["strides"] is None
        found[name] = driver.view(interface["data"][0], np.dtype(interface["typestr"]), interface["shape"]).copy()
    return found


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"samples": 3, "fusion": "steps", "steps": 4},
        {"fusion": "steps-published", "steps": 4},
        {"sampler": "ddpm", "seed": 5},
    ],
)
@pytest.mark.parametrize("batch", [1, 2, 8])
def test_labels_are_those_of_segment(driver: NullDriver, given: Given, batch: int, options: dict[str, Any]) -> None:
    result = numpy_segmenter().segment(SCAN, **options)
    expected = PLAN.extract(result.labels)
    with (
        device_segmenter(driver, batch=batch) as segmenter,
        segmenter.on_device(*SLICES.shape, PIXEL, **options) as device,
    ):
        found = on_host(driver, device.segment(given, BOUNDS))
    # The host keeps half precision between fusion and labels, where this model's sure pixels are ties.
    assert np.mean(found["labels"] == expected) > 0.995
    ids = np.array([0, 1, 2, 7], np.uint8)
    assert np.array_equal(found["labels"], ids[background_and_labels(found["probabilities"])])
    for channel, name in enumerate(("vertebra", "disc", "canal")):
        np.testing.assert_allclose(
            found["probabilities"][:, channel], PLAN.extract(result.probabilities(name)), atol=2e-3
        )
    np.testing.assert_allclose(found["uncertainty"], PLAN.extract(result.uncertainty) / 255, atol=5e-3)


def test_a_model_of_one_pass_answers_from_its_prior(driver: NullDriver, given: Given) -> None:
    expected = PLAN.extract(numpy_segmenter().segment(SCAN, prior_only=True).labels)
    with device_segmenter(driver, roles=("prior",)) as segmenter, segmenter.on_device(*SLICES.shape, PIXEL) as device:
        driver.calls.clear()
        found = on_host(driver, device.segment(given, BOUNDS))
    assert np.mean(found["labels"] == expected) > 0.995
    assert {name for name in driver.names if name.startswith("network:")} == {"network:prior"}
    assert not {"allocate", "upload"} & set(driver.names)


def test_a_call_returns_before_anything_has_run(driver: NullDriver, given: Given) -> None:
    segmenter = device_segmenter(driver)
    device = segmenter.on_device(*SLICES.shape, PIXEL)
    device.segment(given, BOUNDS).wait()
    driver.calls.clear()
    answer = device.segment(given, BOUNDS)
    stream = driver.streams[segmenter.backend.stream]  # type: ignore[union-attr]
    assert stream.waiting
    taking = {"allocate", "allocate_pinned", "free", "synchronise", "finish", "begin_capture", "upload"}
    assert not taking & set(driver.names)
    answer.wait()
    assert not stream.waiting


def test_the_hosts_own_stream_is_used_for_everything(driver: NullDriver, given: Given) -> None:
    class HostStream:
        def __cuda_stream__(self) -> tuple[int, int]:
            return 0, HOST_STREAM

    segmenter = device_segmenter(driver)
    device = segmenter.on_device(*SLICES.shape, PIXEL, stream=HostStream())
    answer = device.segment(given, BOUNDS)
    assert driver.streams[HOST_STREAM].waiting
    assert not driver.streams[segmenter.backend.stream].waiting  # type: ignore[union-attr]
    assert answer.labels.__cuda_array_interface__["stream"] == HOST_STREAM
    answer.wait()


def test_slices_that_are_not_ready_yet_are_waited_for_on_the_device(driver: NullDriver, given: Given) -> None:
    """Uploaded by the host on a stream of its own, which has not run when the call is made."""
    ready = driver.view(given.pointer, np.float32, given.shape).copy()
    driver.view(given.pointer, np.float32, given.shape)[:] = np.nan
    late = Given(given.pointer, given.shape, given.dtype, stream=HOST_STREAM)
    driver.streams[HOST_STREAM].waiting.append(
        lambda: np.copyto(driver.view(given.pointer, np.float32, given.shape), ready)
    )
    device = device_segmenter(driver).on_device(*SLICES.shape, PIXEL)
    found = on_host(driver, device.segment(late, BOUNDS))
    assert set(np.unique(found["labels"])) == {0, 1, 2, 7}


def test_a_slice_keeps_its_noise_when_it_comes_alone(driver: NullDriver) -> None:
    segmenter = device_segmenter(driver)
    with driver.given_array(SLICES) as all_of_them:
        whole = on_host(driver, segmenter.on_device(*SLICES.shape, PIXEL).segment(all_of_them, BOUNDS))
    alone = segmenter.on_device(1, *SLICES.shape[1:], PIXEL)
    with driver.given_array(SLICES[3:4]) as one:
        found = on_host(driver, alone.segment(one, BOUNDS, first_slice=3))
    assert np.array_equal(found["labels"][0], whole["labels"][3])


def test_a_session_and_a_scan_take_turns_on_one_segmenter(driver: NullDriver, given: Given) -> None:
    expected = numpy_segmenter().segment(mr_scan(3, 30), samples=3)
    segmenter = device_segmenter(driver, batch=2)
    device = segmenter.on_device(*SLICES.shape, PIXEL)
    first = on_host(driver, device.segment(given, BOUNDS))
    for _ in range(2):
        device.segment(given, BOUNDS)  # still on its stream when the scan begins
        assert np.array_equal(segmenter.segment(mr_scan(3, 30), samples=3).labels, expected.labels)
        again = on_host(driver, device.segment(given, BOUNDS))
        assert all(np.array_equal(again[name], first[name]) for name in first)


def test_work_left_on_a_stream_is_done_before_its_memory_is_used_again(driver: NullDriver, given: Given) -> None:
    """By a scan on another stream, and by a session of another table on the same one."""
    segmenter = device_segmenter(driver, batch=2)
    first = segmenter.on_device(*SLICES.shape, PIXEL, steps=2, stream=HOST_STREAM)
    second = segmenter.on_device(*SLICES.shape, PIXEL, steps=5, stream=HOST_STREAM)
    expected = on_host(driver, first.segment(given, BOUNDS)), on_host(driver, second.segment(given, BOUNDS))
    left = first.segment(given, BOUNDS)
    assert driver.streams[HOST_STREAM].waiting
    segmenter.segment(mr_scan(3, 30), samples=3)
    assert np.array_equal(on_host(driver, left)["probabilities"], expected[0]["probabilities"])
    left = second.segment(given, BOUNDS)
    first.segment(given, BOUNDS).wait()
    assert np.array_equal(on_host(driver, left)["probabilities"], expected[1]["probabilities"])


def test_a_scan_waits_for_the_same_shape_on_another_stream(driver: NullDriver) -> None:
    segmenter = device_segmenter(driver, batch=2)
    alone = segmenter.on_device(1, *SLICES.shape[1:], PIXEL, samples=2, stream=HOST_STREAM)
    with driver.given_array(SLICES[:1]) as one:
        alone.segment(one, BOUNDS)
        assert driver.streams[HOST_STREAM].waiting
        segmenter.segment(SCAN, samples=2)
        assert not driver.streams[HOST_STREAM].waiting


def test_a_number_that_is_not_finite_is_named_by_wait(driver: NullDriver, given: Given) -> None:
    segmenter = device_segmenter(driver, spoiled_timestep=667)
    device = segmenter.on_device(*SLICES.shape, PIXEL)
    answer = device.segment(given, BOUNDS)
    with pytest.raises(BackendError, match=r"step 2 of 3 \(timestep 667\)"):
        answer.wait()
    segmenter.backend.networks.spoiled_timestep = None  # type: ignore[union-attr]
    device.segment(given, BOUNDS).wait()


def test_a_model_with_a_fixed_window_needs_no_bounds(driver: NullDriver, given: Given) -> None:
    segmenter = device_segmenter(driver)
    window = {"kind": "window", "low": BOUNDS[0], "high": BOUNDS[1]}
    fixed = Segmenter(replace(segmenter.loaded, manifest=replace(segmenter.manifest, intensity=window)))
    found = on_host(driver, fixed.on_device(*SLICES.shape, PIXEL).segment(given))
    expected = on_host(driver, segmenter.on_device(*SLICES.shape, PIXEL).segment(given, BOUNDS))
    assert np.array_equal(found["labels"], expected["labels"])
    with pytest.raises(InputError, match="bounds None"):
        segmenter.on_device(*SLICES.shape, PIXEL).segment(given)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros(SLICES.shape, np.float32), "move the array to the device"),
        (SLICES.tolist(), "slices in a list"),
        (Given(0x7F0000000000, (5, 45, 37), np.dtype(np.float32)), r"\(5, 45, 37\)"),
        (Given(0x7F0000000000, SLICES.shape, np.dtype(np.int16)), "int16"),
        (Given(0x7F0000000000, SLICES.shape, np.dtype(np.float32), strides=(1, 2, 3)), "gaps"),
    ],
)
def test_arrays_that_do_not_fit_are_named(driver: NullDriver, array: Any, said: str) -> None:
    device = device_segmenter(driver).on_device(*SLICES.shape, PIXEL)
    with pytest.raises(InputError, match=said):
        device.segment(array, BOUNDS)


def test_a_session_needs_a_device() -> None:
    with pytest.raises(BackendError, match="numpy backend"):
        numpy_segmenter().on_device(*SLICES.shape, PIXEL)


@pytest.mark.parametrize(
    ("shape", "pitch"), [((0, 4, 4), 1.0), ((1, 4, 4000), 1000.0), ((1, 2**16, 2**15), 1e-3), ((1, 2**40, 1), 1e-9)]
)
def test_a_shape_that_makes_no_sense_is_refused(driver: NullDriver, shape: tuple[int, int, int], pitch: float) -> None:
    with pytest.raises(InputError):
        device_segmenter(driver).on_device(*shape, (pitch, 1.0))


def test_arrays_keep_their_memory_until_the_last_of_them_goes(driver: NullDriver, given: Given) -> None:
    segmenter = device_segmenter(driver)
    labels = segmenter.on_device(*SLICES.shape, PIXEL).segment(given, BOUNDS).labels
    gc.collect()
    blocks = len(driver.device)
    del labels
    gc.collect()
    assert len(driver.device) == blocks - 1


@pytest.mark.parametrize("first_slice", [-1, 2**31 - 4, 2**40])
def test_slices_are_numbered_as_far_as_the_noise_counts(driver: NullDriver, given: Given, first_slice: int) -> None:
    session = device_segmenter(driver).on_device(*SLICES.shape, PIXEL)
    with pytest.raises(InputError, match="first_slice"):
        session.segment(given, BOUNDS, first_slice=first_slice)
    session.segment(given, BOUNDS, first_slice=2**31 - 5).wait()


def test_a_closed_session_says_so_and_leaves_the_segmenter(driver: NullDriver, given: Given) -> None:
    segmenter = device_segmenter(driver)
    with segmenter.on_device(*SLICES.shape, PIXEL) as device:
        answer = device.segment(given, BOUNDS)
    for call in (answer.wait, lambda: device.segment(given, BOUNDS)):
        with pytest.raises(BackendError, match="closed"):
            call()
    assert segmenter.segment(SCAN).outcome == "complete"
