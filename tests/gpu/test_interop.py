"""Arrays of CuPy and PyTorch in, arrays for them out, on their stream and without a copy."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.gpu.stand_in import CountingDriver, stand_in_segmenter
from tests.runtime.scans import mr_scan, numpy_segmenter
from verdiff.errors import InputError
from verdiff.imaging import IntensityRule, intensity_bounds, plan_slices

SCAN = mr_scan(5)
PLAN = plan_slices(SCAN.geometry, view="sagittal", spacing_mm=1.0, multiple=4)
SLICES = np.ascontiguousarray(PLAN.extract(SCAN.array), np.float32)
BOUNDS = intensity_bounds(SCAN.array, IntensityRule("percentile", 0.5, 99.5))
PIXEL = (0.9, 0.9)


class Library:
    """What a test needs of an array library: upload, a stream of its own, and reading our arrays."""

    def __init__(self, up: Callable[[Any], Any], stream: Any, ours: Callable[[Any], Any], down: Callable[[Any], Any]):
        self.up, self.stream, self.ours, self.down = up, stream, ours, down


@pytest.fixture(params=["cupy", "cupy through DLPack", "torch", "torch through DLPack"])
def library(request: pytest.FixtureRequest) -> Library:
    if request.param.startswith("cupy"):
        cupy = pytest.importorskip("cupy")
        ours = cupy.from_dlpack if "DLPack" in request.param else cupy.asarray
        return Library(cupy.asarray, cupy.cuda.Stream(non_blocking=True), ours, cupy.asnumpy)
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch was built without CUDA")

    def through_interface(array: Any) -> Any:
        return torch.as_tensor(array, device="cuda:0")

    ours = torch.from_dlpack if "DLPack" in request.param else through_interface
    return Library(lambda a: torch.from_numpy(a).cuda(), torch.cuda.Stream(), ours, lambda t: t.cpu().numpy())


def expected() -> NDArray[np.uint8]:
    return PLAN.extract(numpy_segmenter().segment(SCAN).labels)


def test_arrays_go_in_and_come_out_on_the_librarys_stream(driver: CountingDriver, library: Library) -> None:
    with stand_in_segmenter(driver) as segmenter:
        session = segmenter.on_device(*SLICES.shape, PIXEL, stream=library.stream)
        slices = library.up(SLICES)
        session.segment(slices, BOUNDS).wait()
        driver.names.clear()
        answer = session.segment(slices, BOUNDS)
        assert not {"allocate", "upload", "synchronise", "finish"} & set(driver.names)
        labels = library.ours(answer.labels)
        answer.wait()
        assert np.mean(library.down(labels) == expected()) > 0.995
        pointer = labels.data.ptr if hasattr(labels.data, "ptr") else labels.data_ptr()
        assert pointer == answer.labels.pointer
        del labels, answer
        session.close()


def test_a_tensor_that_is_filled_late_on_a_side_stream_is_waited_for(driver: CountingDriver) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch was built without CUDA")
    ready, side = torch.from_numpy(SLICES).cuda(), torch.cuda.Stream()
    with stand_in_segmenter(driver) as segmenter:
        session = segmenter.on_device(*SLICES.shape, PIXEL)
        late = torch.full_like(ready, float("nan"))
        torch.cuda.synchronize()
        with torch.cuda.stream(side):
            torch.cuda._sleep(500_000_000)
            late.copy_(ready)
            answer = session.segment(late, BOUNDS)
        assert not side.query(), "the host did not wait"
        del late
        answer.wait()
        assert np.mean(torch.from_dlpack(answer.labels).cpu().numpy() == expected()) > 0.995


def test_an_array_in_the_hosts_memory_is_refused(driver: CountingDriver) -> None:
    said = {"shape": SLICES.shape, "typestr": "<f4", "data": (SLICES.ctypes.data, False), "version": 3, "stream": None}
    with stand_in_segmenter(driver) as segmenter:
        session = segmenter.on_device(*SLICES.shape, PIXEL)
        with pytest.raises(InputError, match="host's memory"):
            session.segment(SimpleNamespace(__cuda_array_interface__=said), BOUNDS)


def test_our_arrays_outlive_the_session_that_was_closed(driver: CountingDriver, library: Library) -> None:
    with stand_in_segmenter(driver) as segmenter:
        with segmenter.on_device(*SLICES.shape, PIXEL) as session:
            labels = library.ours(session.segment(library.up(SLICES), BOUNDS).labels)
        assert np.mean(library.down(labels) == expected()) > 0.995


def test_our_arrays_outlive_the_session_that_made_them(driver: CountingDriver, library: Library) -> None:
    with stand_in_segmenter(driver) as segmenter:
        session = segmenter.on_device(*SLICES.shape, PIXEL)
        answer = session.segment(library.up(SLICES), BOUNDS)
        answer.wait()
        labels = library.ours(answer.labels)
        del session, answer
        assert np.mean(library.down(labels) == expected()) > 0.995
