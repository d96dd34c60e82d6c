"""The pycuda adapter and its example against a recording context: pycuda itself needs a driver to be imported."""

from __future__ import annotations

import runpy
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.runtime.device.null_driver import HOST_STREAM, NullDriver
from tests.runtime.device.tiny_networks import device_segmenter
from tests.runtime.scans import mr_scan, numpy_segmenter
from verdiff.errors import BackendError
from verdiff.imaging import IntensityRule, intensity_bounds, plan_slices
from verdiff.interop.pycuda import PycudaHost
from verdiff.runtime import Segmenter

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "python" / "pycuda_host.py"


class RecordingContext:
    """pycuda.driver.Context: which calls were made, and whether it is the current one."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    @property
    def current(self) -> bool:
        return self.calls.count("push") > self.calls.count("pop")

    def push(self) -> None:
        self.calls.append("push")

    def pop(self) -> None:
        assert self.current
        self.calls.append("pop")


class Stream:
    """pycuda.driver.Stream."""

    handle = HOST_STREAM


class Pycuda:
    """The parts of pycuda that a host uses, on the null device."""

    def __init__(self, driver: NullDriver) -> None:
        self.context = RecordingContext()
        host = self

        class GPUArray:
            """pycuda.gpuarray.GPUArray: strides always said, no stream."""

            def __init__(self, shape: Any, dtype: Any, *, gpudata: int, base: Any = None) -> None:
                self.shape, self.dtype, self.gpudata, self.base = tuple(shape), np.dtype(dtype), gpudata, base
                strides = np.empty(self.shape, self.dtype).strides
                self.__cuda_array_interface__ = {
                    **{"shape": self.shape, "strides": strides, "data": (gpudata, False)},
                    **{"typestr": self.dtype.str, "stream": None, "version": 3},
                }

            def get(self) -> NDArray[Any]:
                return driver.view(self.gpudata, self.dtype, self.shape).copy()

        def to_gpu_async(array: NDArray[Any], stream: Any) -> GPUArray:
            assert stream.handle == HOST_STREAM
            host.kept = driver.given_array(array)
            return GPUArray(array.shape, array.dtype, gpudata=host.kept.__enter__().pointer)

        self.kept: Any = None
        self.modules = {name: ModuleType(name) for name in ("pycuda", "pycuda.autoinit", "pycuda.driver")}
        self.modules["pycuda.gpuarray"] = ModuleType("pycuda.gpuarray")
        self.modules["pycuda.autoinit"].__dict__["context"] = self.context
        self.modules["pycuda.driver"].__dict__["Stream"] = Stream
        self.modules["pycuda.gpuarray"].__dict__.update(GPUArray=GPUArray, to_gpu_async=to_gpu_async)
        for name in ("autoinit", "driver", "gpuarray"):
            self.modules["pycuda"].__dict__[name] = self.modules[f"pycuda.{name}"]


@pytest.fixture
def pycuda(driver: NullDriver, monkeypatch: pytest.MonkeyPatch) -> Pycuda:
    made = Pycuda(driver)
    for name, module in made.modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return made


@pytest.fixture
def loaded(driver: NullDriver, pycuda: Pycuda, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """``Segmenter.load`` gives the tiny model on the null device; what it was asked for."""
    asked: list[dict[str, Any]] = []

    def load(model: Any = None, **options: Any) -> Segmenter:
        assert pycuda.context.current, "loaded in another context than the host's"
        asked.append({"model": model, **options})
        return device_segmenter(driver)

    monkeypatch.setattr(Segmenter, "load", load)
    return asked


@contextmanager
def uploaded(pycuda: Pycuda, planes: NDArray[np.float32]) -> Iterator[Any]:
    array = pycuda.modules["pycuda.gpuarray"].to_gpu_async(planes, stream=Stream())
    try:
        yield array
    finally:
        pycuda.kept.__exit__(None, None, None)


def test_the_model_is_loaded_in_the_hosts_context_and_on_its_stream(
    pycuda: Pycuda, loaded: list[dict[str, Any]]
) -> None:
    stream = Stream()
    PycudaHost(pycuda.context, stream).load("tiny", device="cuda:0", backend="tensorrt")
    PycudaHost(pycuda.context).load()
    assert loaded[0] == {"model": "tiny", "stream": stream, "device": "cuda:0", "backend": "tensorrt"}
    assert loaded[1] == {"model": None, "stream": 1}
    assert pycuda.context.calls == ["push", "pop"] * 2


def test_a_load_that_fails_leaves_the_hosts_contexts_as_they_were(
    pycuda: Pycuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise BackendError("no engine", "one", "verdiff build")

    monkeypatch.setattr(Segmenter, "load", fail)
    with pytest.raises(BackendError, match="verdiff build"):
        PycudaHost(pycuda.context).load()
    assert not pycuda.context.current


def test_arrays_of_pycuda_go_in_and_come_out_without_a_copy(
    driver: NullDriver, pycuda: Pycuda, loaded: list[dict[str, Any]]
) -> None:
    scan = mr_scan()
    plan = plan_slices(scan.geometry, view="sagittal", spacing_mm=1.0, multiple=4)
    planes = np.ascontiguousarray(plan.extract(scan.array), np.float32)
    bounds = intensity_bounds(scan.array, IntensityRule("percentile", 0.5, 99.5))
    host = PycudaHost(pycuda.context, Stream())
    with uploaded(pycuda, planes) as slices, host.session(host.load(), planes.shape, (0.9, 0.9)) as session:
        session.segment(slices, bounds).wait()
        driver.calls.clear()
        answer = session.segment(slices, bounds)
        assert driver.streams[HOST_STREAM].waiting
        labels = host.gpuarray(answer.labels)
        answer.wait()
        assert labels.gpudata == answer.labels.pointer
        assert labels.base is answer.labels
        assert not {"upload", "allocate"} & set(driver.names)
        expected = plan.extract(numpy_segmenter().segment(scan).labels)
        assert np.mean(labels.get() == expected) > 0.995


def test_without_pycuda_the_extra_is_named(driver: NullDriver) -> None:
    session = device_segmenter(driver).on_device(1, 8, 8, (1.0, 1.0))
    with driver.given_array(np.zeros((1, 8, 8), np.float32)) as slices:
        answer = session.segment(slices, (0.0, 1.0))
        with pytest.raises(BackendError, match=r"\.\[pycuda\]"):
            PycudaHost(RecordingContext()).gpuarray(answer.labels)
        answer.wait()


def test_the_adapter_is_imported_without_pycuda() -> None:
    code = "import sys, verdiff.interop.pycuda; print([m for m in ('pycuda', 'cuda', 'tensorrt') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_example_counts_what_the_host_would(
    pycuda: Pycuda,
    loaded: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    mr_sample: Path,
) -> None:
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), str(mr_sample)])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["vertebra", "disc", "canal"]
    assert all(int(line.split()[1]) > 0 for line in lines)
    assert loaded[0]["model"] == "spine-mr"
