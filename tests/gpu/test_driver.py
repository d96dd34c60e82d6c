"""The driver's own calls on a device."""

from __future__ import annotations

import numpy as np
import pytest

from verdiff.runtime.device.cuda_core import CudaCore
from verdiff.runtime.device.driver import DeviceError

COUNT = 10_000


def test_what_goes_up_comes_down(plain: CudaCore) -> None:
    pinned = plain.allocate_pinned(4 * COUNT).view(np.float32)
    first, second = plain.allocate(4 * COUNT), plain.allocate(4 * COUNT)
    stream = plain.open_stream(None)
    try:
        pinned[:] = np.arange(COUNT)
        plain.upload(first, pinned, stream)
        plain.copy(second, first, 4 * COUNT, stream)
        plain.clear(second, 400, stream)
        plain.synchronise(stream)
        pinned[:] = -1
        plain.download(pinned, second, stream)
        plain.synchronise(stream)
        assert not pinned[:100].any()
        assert np.array_equal(pinned[100:], np.arange(100, COUNT, dtype=np.float32))
    finally:
        plain.close_stream(stream)
        plain.free(first)
        plain.free(second)
        plain.free_pinned(pinned.view(np.uint8))


def test_memory_that_was_taken_is_missed_and_given_back(plain: CudaCore) -> None:
    size = 64 << 20
    before, total = plain.memory()
    pointer = plain.allocate(size)
    assert pointer % 256 == 0
    assert before - plain.memory()[0] >= size
    plain.free(pointer)
    assert before - plain.memory()[0] < size
    assert before <= total


def test_a_graph_replays_what_was_captured_and_nothing_ran_before(plain: CudaCore) -> None:
    pinned = plain.allocate_pinned(4 * COUNT).view(np.float32)
    pointer, stream = plain.allocate(4 * COUNT), plain.open_stream(None)
    pinned[:] = 5
    plain.upload(pointer, pinned, stream)
    plain.begin_capture(stream)
    plain.clear(pointer, 4 * COUNT, stream)
    graph = plain.end_capture(stream)
    plain.download(pinned, pointer, stream)
    plain.synchronise(stream)
    assert (pinned == 5).all()
    plain.launch_graph(graph, stream)
    plain.download(pinned, pointer, stream)
    plain.synchronise(stream)
    assert not pinned.any()
    plain.close_graph(graph)
    plain.close_stream(stream)
    plain.free(pointer)
    plain.free_pinned(pinned.view(np.uint8))


def test_a_capture_thrown_away_leaves_the_stream_usable(plain: CudaCore) -> None:
    stream = plain.open_stream(None)
    plain.begin_capture(stream)
    assert plain.end_capture(stream, keep=False) is None
    plain.synchronise(stream)
    plain.close_stream(stream)


def test_events_order_streams(plain: CudaCore) -> None:
    first, second = plain.open_stream(None), plain.open_stream(-1)
    event = plain.open_event()
    plain.record(event, first)
    plain.wait(second, event)
    plain.finish(event)
    plain.synchronise(second)
    plain.close_event(event)
    for stream in (first, second):
        plain.close_stream(stream)


def test_an_allocation_beyond_the_device_is_out_of_memory(plain: CudaCore) -> None:
    with pytest.raises(DeviceError, match="CUDA_ERROR_OUT_OF_MEMORY") as caught:
        plain.allocate(1 << 50)
    assert not caught.value.lost


def test_the_callers_context_comes_back(plain: CudaCore) -> None:
    bindings = pytest.importorskip("cuda.bindings.driver")
    _, before = bindings.cuCtxGetCurrent()
    with plain.active():
        pass
    _, after = bindings.cuCtxGetCurrent()
    assert int(before) == int(after)
