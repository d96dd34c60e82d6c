"""Who outlives whom: arrays their session, streams their work, inputs the call they were given to."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.runtime.device.null_driver import HOST_STREAM, Given, NullDriver, Queue
from tests.runtime.device.test_failures import NOTHING
from tests.runtime.device.test_session import BOUNDS, PIXEL, SLICES, on_host
from tests.runtime.device.tiny_networks import CLASSES, TinyNetworks, device_segmenter
from tests.runtime.scans import mr_scan, numpy_segmenter
from tests.runtime.test_invariance import same
from verdiff.errors import BackendError
from verdiff.runtime.device.arrays import DeviceArray
from verdiff.runtime.device.backend import DeviceBackend


class HostStream:
    """A host library's object, whose end is the stream's."""

    ptr = HOST_STREAM


class Holder:
    """A host library's array, whose end is its memory's."""

    def __init__(self, given: Given) -> None:
        self.__cuda_array_interface__ = given.__cuda_array_interface__


@pytest.fixture
def given(driver: NullDriver) -> Iterator[Given]:
    with driver.given_array(SLICES) as array:
        yield array


@pytest.fixture
def expected(driver: NullDriver, given: Given) -> NDArray[np.uint8]:
    with device_segmenter(driver) as segmenter, segmenter.on_device(*SLICES.shape, PIXEL) as session:
        return on_host(driver, session.segment(given, BOUNDS))["labels"]


def view(driver: NullDriver, array: DeviceArray) -> NDArray[Any]:
    return driver.view(array.pointer, array.dtype, array.shape)


def test_arrays_outlive_the_session_that_was_closed(
    driver: NullDriver, given: Given, expected: NDArray[np.uint8]
) -> None:
    segmenter = device_segmenter(driver)
    with segmenter.on_device(*SLICES.shape, PIXEL) as session:
        labels = session.segment(given, BOUNDS).labels
    other = driver.open_stream_of_host()
    capsule = labels.__dlpack__(stream=other)
    assert np.array_equal(view(driver, labels), expected)
    blocks = len(driver.device)
    del labels, session
    gc.collect()
    assert len(driver.device) == blocks, "the capsule holds the memory"
    del capsule
    gc.collect()
    assert len(driver.device) == blocks - 1


@pytest.mark.parametrize("close", ["session", "segmenter"])
def test_arrays_that_are_ready_for_good_name_no_stream(
    driver: NullDriver, given: Given, close: str, expected: NDArray[np.uint8]
) -> None:
    """The stream of a Segmenter or a host may be gone by then."""
    segmenter = device_segmenter(driver)
    session = segmenter.on_device(*SLICES.shape, PIXEL)
    labels = session.segment(given, BOUNDS).labels
    assert labels.stream == segmenter.backend.stream  # type: ignore[union-attr]
    {"session": session, "segmenter": segmenter}[close].close()
    assert labels.__cuda_array_interface__["stream"] is None
    assert np.array_equal(view(driver, labels), expected)


def test_everything_is_given_back_whoever_goes_last(driver: NullDriver, given: Given) -> None:
    segmenter = device_segmenter(driver)
    session = segmenter.on_device(*SLICES.shape, PIXEL)
    labels = session.segment(given, BOUNDS).labels
    segmenter.close()
    session.close()
    assert driver.held == {**NOTHING, "device": 2, "pinned": 1, "events": 4}, "the input, and the arrays'"
    del labels
    gc.collect()
    assert driver.held == {**NOTHING, "device": 1}


def test_a_consumers_stream_runs_after_the_call(driver: NullDriver, given: Given, expected: NDArray[np.uint8]) -> None:
    session = device_segmenter(driver).on_device(*SLICES.shape, PIXEL)
    labels = session.segment(given, BOUNDS).labels
    consumer, found = driver.open_stream_of_host(), []
    capsule = labels.__dlpack__(stream=consumer)
    driver.streams[consumer].waiting.append(lambda: found.append(view(driver, labels).copy()))
    with driver.active():
        driver.synchronise(consumer)
    assert np.array_equal(found[0], expected)
    del capsule


def test_a_scan_after_the_hosts_stream_is_gone(driver: NullDriver, given: Given) -> None:
    segmenter = device_segmenter(driver)
    with segmenter.on_device(*SLICES.shape, PIXEL, stream=HOST_STREAM) as session:
        session.segment(given, BOUNDS).wait()
    driver.destroy(HOST_STREAM)
    assert same(segmenter.segment(mr_scan(3, 30)), numpy_segmenter().segment(mr_scan(3, 30)))


def test_another_stream_at_the_address_of_one_that_is_gone_waits_for_its_work(driver: NullDriver, given: Given) -> None:
    segmenter = device_segmenter(driver)
    sessions = [segmenter.on_device(*SLICES.shape, PIXEL, stream=HOST_STREAM) for _ in range(2)]
    sessions[0].segment(given, BOUNDS)
    gone = driver.streams[HOST_STREAM]
    driver.destroy(HOST_STREAM)
    driver.streams[HOST_STREAM] = Queue()
    assert gone.waiting
    sessions[1].segment(given, BOUNDS).wait()
    assert not gone.waiting


def test_the_hosts_stream_lives_as_long_as_the_session_and_its_arrays(driver: NullDriver, given: Given) -> None:
    stream = HostStream()
    alive = weakref.ref(stream)
    session = device_segmenter(driver).on_device(*SLICES.shape, PIXEL, stream=stream)
    del stream
    labels = session.segment(given, BOUNDS).labels
    del session
    gc.collect()
    assert alive() is not None
    del labels
    gc.collect()
    assert alive() is None


def test_the_hosts_stream_lives_as_long_as_the_model_and_its_sessions(driver: NullDriver) -> None:
    stream = HostStream()
    alive = weakref.ref(stream)
    backend = DeviceBackend(driver, TinyNetworks(driver), CLASSES, stream=HOST_STREAM, keep=stream)
    del stream
    gc.collect()
    assert alive() is not None
    backend.close()
    del backend
    gc.collect()
    assert alive() is None


def test_an_input_lives_until_the_device_has_read_it(driver: NullDriver, given: Given) -> None:
    session = device_segmenter(driver).on_device(*SLICES.shape, PIXEL)
    holder = Holder(given)
    alive = weakref.ref(holder)
    answer = session.segment(holder, BOUNDS)
    del holder
    gc.collect()
    assert alive() is not None
    answer.wait()
    gc.collect()
    assert alive() is None


def test_inputs_of_calls_that_nobody_waits_for_go_as_the_device_comes_past_them(
    driver: NullDriver, given: Given
) -> None:
    """Each call comes while the one before it has not begun, so that never all of the work is done."""
    segmenter = device_segmenter(driver)
    session = segmenter.on_device(*SLICES.shape, PIXEL)
    queue, alive, ends = driver.streams[segmenter.backend.stream], [], []  # type: ignore[union-attr]
    for call in range(8):
        holder = Holder(given)
        alive.append(weakref.ref(holder))
        session.segment(holder, BOUNDS)
        del holder
        ends.append(queue.done + len(queue.waiting))
        if call:
            queue.run_to(ends[call - 1])
    gc.collect()
    kept = [reference() is not None for reference in alive]
    assert kept[-1] and sum(kept) <= 3


@pytest.mark.parametrize("close", ["session", "segmenter"])
def test_closing_waits_for_the_work_before_anything_goes(driver: NullDriver, given: Given, close: str) -> None:
    segmenter = device_segmenter(driver)
    session = segmenter.on_device(*SLICES.shape, PIXEL, stream=HOST_STREAM)
    session.segment(given, BOUNDS)
    driver.calls.clear()
    assert driver.streams[HOST_STREAM].waiting
    {"session": session, "segmenter": segmenter}[close].close()
    assert driver.names[0] == "finish"


def test_a_model_that_is_forgotten_lets_the_work_be_done_first(
    driver: NullDriver, given: Given, expected: NDArray[np.uint8]
) -> None:
    segmenter = device_segmenter(driver)
    labels = segmenter.on_device(*SLICES.shape, PIXEL).segment(given, BOUNDS).labels
    del segmenter
    gc.collect()
    assert np.array_equal(view(driver, labels), expected)


@pytest.mark.parametrize("what", ["session", "segmenter"])
def test_closing_from_another_thread_waits_for_the_call(driver: NullDriver, what: str) -> None:
    segmenter = device_segmenter(driver)
    session = segmenter.on_device(*SLICES.shape, PIXEL)
    expected = numpy_segmenter().segment(mr_scan(3, 30), samples=2, steps=6)
    closings: list[Future[None]] = []
    begun = Event()

    def close() -> None:
        begun.set()
        {"session": session, "segmenter": segmenter}[what].close()

    with ThreadPoolExecutor(1) as pool:

        def cancel() -> bool:
            if not closings:
                closings.append(pool.submit(close))
                begun.wait()
            assert not closings[0].done()
            return False

        assert same(segmenter.segment(mr_scan(3, 30), samples=2, steps=6, cancel=cancel), expected)
        closings[0].result()
    with pytest.raises(BackendError, match="closed"):
        session.segment(None, BOUNDS)
    session.close()
    segmenter.close()
    gc.collect()
    assert driver.held == NOTHING


def test_closing_within_ones_own_stream_takes_effect_at_its_end(driver: NullDriver) -> None:
    expected = list(numpy_segmenter().stream(mr_scan(), samples=2))
    with device_segmenter(driver) as segmenter:
        stream = segmenter.stream(mr_scan(), samples=2)
        found = [next(stream)]
    found += stream
    assert all(same(a, b) for a, b in zip(found, expected, strict=True))
    assert driver.held == NOTHING
    with pytest.raises(BackendError, match="closed"):
        segmenter.segment(mr_scan())
