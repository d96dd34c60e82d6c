"""A failure at every call of the driver in turn: a named error, everything given back, and no second surprise."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tests.runtime.device.null_driver import NullDriver
from tests.runtime.device.tiny_networks import CLASSES, TinyNetworks, device_segmenter
from tests.runtime.scans import mr_scan, numpy_segmenter
from tests.runtime.test_invariance import same
from verdiff.errors import BackendError
from verdiff.imaging import Volume
from verdiff.runtime import Segmenter
from verdiff.runtime.device.backend import DeviceBackend
from verdiff.runtime.device.driver import LOST, DeviceError
from verdiff.runtime.device.executor import DeviceExecutor
from verdiff.runtime.loaded import LoadedModel

RELEASES = {"free", "free_pinned", "close_stream", "close_event", "close_graph"}
# No call: from here on a scenario closes what it has.
CLOSING = "closing"
NOTHING = dict.fromkeys(("device", "pinned", "streams", "events", "graphs", "captures"), 0)
ILLEGAL = "CUDA_ERROR_ILLEGAL_ADDRESS"


def small_scan(slices: int, rows: int) -> Volume:
    """In 8-bit numbers, whose percentiles are quickly counted."""
    scan = mr_scan(slices, rows, 6)
    return Volume((scan.array // 8).astype(np.uint8), scan.geometry)


def segment(driver: NullDriver) -> None:
    """Load, two shapes of scan, the second one watched, close."""
    with device_segmenter(driver, batch=2) as segmenter:
        segmenter.segment(small_scan(2, 8), samples=1, steps=2)
        segmenter.segment(small_scan(3, 12), samples=2, steps=2, sampler="ddpm", cancel=lambda: False)
        driver.calls.append(CLOSING)


def session(driver: NullDriver) -> None:
    """Load, a session, one call, close both."""
    slices = np.zeros((2, 8, 6), np.float32)
    with (
        driver.given_array(slices) as given,
        device_segmenter(driver, batch=2) as segmenter,
        segmenter.on_device(2, 8, 6, (0.9, 0.9), samples=2) as device,
    ):
        device.segment(given, (0.0, 1.0)).wait()
        driver.calls.append(CLOSING)


@pytest.fixture
def quick_collection() -> Iterator[None]:
    """Let the collector pass over everything there is already: hundreds of collections would go through all of it."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("quick_collection")
@pytest.mark.parametrize("scenario", [segment, session])
def test_whatever_call_fails_everything_is_given_back(scenario: Callable[[NullDriver], None]) -> None:
    clean = NullDriver()
    scenario(clean)
    gc.collect()
    assert clean.held == NOTHING
    assert len(clean.calls) > 60
    closing = clean.names.index(CLOSING) + 1
    for number, name in enumerate(clean.names, 1):
        if number == closing:
            continue
        driver = NullDriver(fail_at=number)
        if name in RELEASES:
            # Nothing can be done about it, and the rest must go all the same.
            scenario(driver)
            assert sum(driver.held.values()) == 1, (number, name)
            continue
        if name == "finish" and number > closing:
            # The wait before something is closed: whatever it says, the releases follow.
            scenario(driver)
            assert driver.held == NOTHING, (number, name)
            continue
        with pytest.raises(DeviceError) as caught:
            scenario(driver)
        assert caught.value.code == "CUDA_ERROR_INVALID_VALUE", (number, name)
        del caught
        gc.collect()
        assert driver.held == NOTHING, (number, name)


def test_a_call_that_failed_leaves_the_segmenter_usable() -> None:
    """Each call of the second scan fails once; the third one gives the mask."""
    scan = small_scan(2, 8)
    expected = numpy_segmenter().segment(scan, samples=2)
    clean = NullDriver()
    with device_segmenter(clean, batch=2) as segmenter:
        before = len(clean.calls)
        segmenter.segment(scan, samples=2)
        after = len(clean.calls)
    for number in range(before + 1, after + 1):
        driver = NullDriver(fail_at=number)
        with device_segmenter(driver, batch=2) as segmenter:
            with pytest.raises(DeviceError):
                segmenter.segment(scan, samples=2)
            assert not any(queue.waiting for queue in driver.streams.values()), number
            assert same(segmenter.segment(scan, samples=2), expected), number


def test_a_table_that_was_not_uploaded_whole_is_not_taken_for_the_one_before_it() -> None:
    driver = NullDriver()
    with device_segmenter(driver) as segmenter:
        expected = segmenter.segment(mr_scan(), steps=3)
        before = len(driver.calls)
        segmenter.segment(mr_scan(), steps=3, sampler="dpmpp-2m")
        third = [place for place, name in enumerate(driver.names) if place >= before and name == "upload"][2]
        segmenter.segment(mr_scan(), steps=3)
        driver.fail_at = len(driver.calls) + third - before + 1
        with pytest.raises(DeviceError, match="upload"):
            segmenter.segment(mr_scan(), steps=3, sampler="dpmpp-2m")
        assert same(segmenter.segment(mr_scan(), steps=3), expected)


@pytest.mark.parametrize("again", [False, True], ids=["at first", "its loop once more"])
def test_a_shape_that_failed_while_it_was_made_leaves_the_other_shapes_table(again: bool) -> None:
    """Both lie in one block, which the first scan has made large enough for all of them."""
    usual: dict[str, Any] = {"samples": 1, "steps": 2}
    largest, first, second = small_scan(2, 24), small_scan(2, 8), small_scan(2, 16)

    def begin(driver: NullDriver) -> Segmenter:
        segmenter = device_segmenter(driver, batch=2)
        segmenter.segment(largest, **usual)
        if again:
            # The second shape's workspace is there, and its loop is not.
            segmenter.segment(first, **usual)
            driver.fail_at = len(driver.calls) + names.index("begin_capture") + 1
            with pytest.raises(DeviceError):
                segmenter.segment(second, **usual)
        segmenter.segment(first, **usual)
        return segmenter

    clean = NullDriver()
    with device_segmenter(clean, batch=2) as segmenter:
        segmenter.segment(largest, **usual)
        expected = segmenter.segment(first, **usual)
        before = len(clean.calls)
        segmenter.segment(second, **usual)
        names = clean.names[before:]
    for number, name in enumerate(names, 1):
        driver = NullDriver()
        with begin(driver) as segmenter:
            driver.fail_at = len(driver.calls) + number
            try:
                segmenter.segment(second, **usual)
            except DeviceError:
                assert same(segmenter.segment(first, **usual), expected), (number, name)
            driver.fail_at = None


@pytest.mark.parametrize("code", [ILLEGAL, "CUDA_ERROR_ECC_UNCORRECTABLE", "CUDA_ERROR_LAUNCH_TIMEOUT"])
def test_a_lost_device_is_said_once_and_again(code: str) -> None:
    driver = NullDriver(code=code)
    segmenter = device_segmenter(driver)
    segmenter.segment(mr_scan())
    driver.fail_at = len(driver.calls) + 1 + driver.calls[::-1].index("launch_graph 7")
    with pytest.raises(DeviceError, match="restart the process") as caught:
        segmenter.segment(mr_scan())
    assert caught.value.lost and caught.value.exit_code == BackendError.exit_code
    calls = len(driver.calls)
    with pytest.raises(BackendError, match=r"(?s)was lost in an earlier call.*restart the process"):
        segmenter.segment(mr_scan())
    assert len(driver.calls) == calls


def test_an_error_that_is_not_the_devices_end_is_not_called_one() -> None:
    error = DeviceError("cuMemAlloc on cuda:0", "CUDA_ERROR_OUT_OF_MEMORY")
    assert not error.lost
    assert "nvidia-smi" in error.remedy
    assert {
        "CUDA_ERROR_OUT_OF_MEMORY",
        "CUDA_ERROR_INVALID_VALUE",
        "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
    } & LOST == set()


def test_a_driver_too_old_for_a_call_says_so() -> None:
    assert "update the NVIDIA driver" in DeviceError("cuX", "CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER").remedy


def test_networks_that_cannot_be_captured_leave_no_capture_open() -> None:
    class Uncapturable(TinyNetworks):
        def open(self, role, shape, memory, stream):  # type: ignore[no-untyped-def]
            network = super().open(role, shape, memory, stream)
            if role == "step":
                plain = network.enqueue

                def enqueue(addresses, stream):  # type: ignore[no-untyped-def]
                    if stream in self.driver.capturing:
                        raise BackendError("a step that cannot be captured", "one that can", "build it again")
                    plain(addresses, stream)

                network.enqueue = enqueue
            return network

    driver = NullDriver()
    plain = device_segmenter(driver)
    backend = DeviceBackend(driver, Uncapturable(driver), CLASSES)
    segmenter = Segmenter(LoadedModel(plain.manifest, DeviceExecutor(backend), True, {}))
    with pytest.raises(BackendError, match="cannot be captured"):
        segmenter.segment(mr_scan())
    assert driver.held["captures"] == 0
    segmenter.close()
    plain.close()
    assert driver.held == NOTHING


def test_a_size_that_no_engine_holds_is_refused_with_the_command() -> None:
    driver = NullDriver()
    with pytest.raises(BackendError, match="verdiff build --size"):
        device_segmenter(driver, largest=100).segment(mr_scan())
    assert "allocate" not in driver.names


def test_a_closed_segmenter_says_so_and_closes_twice() -> None:
    driver = NullDriver()
    segmenter = device_segmenter(driver)
    segmenter.segment(mr_scan())
    segmenter.close()
    segmenter.close()
    assert driver.held == NOTHING
    assert segmenter.backend.networks.closed  # type: ignore[union-attr]
    with pytest.raises(BackendError, match="closed"):
        segmenter.segment(mr_scan())


def test_a_segmenter_that_is_forgotten_gives_everything_back() -> None:
    driver = NullDriver()
    segmenter = device_segmenter(driver)
    segmenter.segment(mr_scan())
    del segmenter
    gc.collect()
    assert driver.held == NOTHING
