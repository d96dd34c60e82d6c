"""The device path with ONNX Runtime's real sessions, on the CPU and in the null device's memory: whole masks."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from tests.runtime.device.null_driver import HOST_STREAM, NullDriver
from tests.runtime.scans import mr_scan, numpy_segmenter
from tests.runtime.tiny_bundle import write_tiny_half
from verdiff.bundle import Bundle, open_bundle, resolve_model
from verdiff.errors import InputError
from verdiff.imaging import read_volume
from verdiff.options import LoadOptions
from verdiff.runtime import Segmenter
from verdiff.runtime.backends import onnxruntime_cuda
from verdiff.runtime.backends.onnxruntime_cuda import OnnxNetworks
from verdiff.runtime.device import opening
from verdiff.runtime.device.backend import DeviceBackend
from verdiff.runtime.device.executor import DeviceExecutor
from verdiff.runtime.loaded import LoadedModel
from verdiff.runtime.selftest import self_test


class LateSession:
    """A session on the CPU whose runs are work on a stream of the null device, at the addresses they were bound to."""

    def __init__(self, driver: NullDriver, role: str, graph: bytes, stream: int) -> None:
        self.driver, self.role, self.stream = driver, role, stream
        self.session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        self.get_inputs, self.get_outputs = self.session.get_inputs, self.session.get_outputs

    def io_binding(self) -> Bound:
        return Bound()

    def run_with_iobinding(self, bound: Bound, options: Any) -> None:
        inputs, outputs = dict(bound.inputs), dict(bound.outputs)

        def work() -> None:
            given = {name: self.driver.view(*place) for name, place in inputs.items()}
            for name, value in zip(outputs, self.session.run(list(outputs), given), strict=True):
                self.driver.view(*outputs[name])[:] = value

        self.driver.enqueue(self.role, self.stream, work)


class Bound:
    """Addresses by name, as the null device takes them."""

    def __init__(self) -> None:
        self.inputs: dict[str, tuple[int, Any, tuple[int, ...]]] = {}
        self.outputs: dict[str, tuple[int, Any, tuple[int, ...]]] = {}

    def bind_input(self, name: str, device: str, number: int, kind: Any, shape: tuple[int, ...], address: int) -> None:
        self.inputs[name] = (address, kind, shape)

    def bind_output(self, name: str, device: str, number: int, kind: Any, shape: tuple[int, ...], address: int) -> None:
        self.outputs[name] = (address, kind, shape)


@pytest.fixture
def open_segmenter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    driver = NullDriver()

    def late(module: Any, graph: bytes, role: str, device: str, listed: Any, **options: Any) -> LateSession:
        return LateSession(driver, role, graph, int(listed[0][1]["user_compute_stream"]))

    monkeypatch.setattr(onnxruntime_cuda, "require_provider", lambda *asked: None)
    monkeypatch.setattr(onnxruntime_cuda, "require_placement", lambda *asked: None)
    monkeypatch.setattr(onnxruntime_cuda, "open_session", late)
    tiny = open_bundle(write_tiny_half(tmp_path / "half.verdiff"))

    @contextmanager
    def opened(precision: str, graphs: bool = False, bundle: Bundle = tiny) -> Iterator[tuple[NullDriver, Segmenter]]:
        networks = OnnxNetworks(bundle, driver, backend="onnxruntime", precision=precision, threads=1, graphs=graphs)
        manifest = bundle.manifest
        backend = DeviceBackend(driver, networks, len(manifest.labels))
        identity = {"id": manifest.model_id, "version": "0.0.0"}
        yield driver, Segmenter(LoadedModel(manifest, DeviceExecutor(backend), True, identity))
        backend.close()

    opened.driver = driver  # type: ignore[attr-defined]
    return opened


@pytest.mark.parametrize(("precision", "share"), [("fp32", 0.9999), ("fp16", 0.99)])
def test_a_whole_mask_is_the_host_s(open_segmenter: Any, precision: str, share: float) -> None:
    options = {"samples": 3, "steps": 4, "sampler": "ddpm", "seed": 11}
    expected = numpy_segmenter().segment(mr_scan(), **options)
    with open_segmenter(precision) as (driver, segmenter):
        found = segmenter.segment(mr_scan(), **options)
        assert "begin_capture" not in driver.names
    assert np.mean(found.labels == expected.labels) >= share
    assert found.provenance["backend"]["name"] == "onnxruntime"
    assert sum(driver.held.values()) == 0


def test_the_shipped_model_gives_a_real_scan_s_mask(open_segmenter: Any, mr_sample: Path) -> None:
    """Its features are several, each of its own channels and stride, and the scan's slices fill no batch."""
    bundle, scan = open_bundle(resolve_model()), read_volume(mr_sample)
    assert len({feature.stride for feature in bundle.manifest.features}) > 1
    options = {"samples": 2, "steps": 3, "seed": 5}
    expected = Segmenter.load(bundle.path, backend="onnxruntime", self_test=False).segment(scan, **options)
    with open_segmenter("fp32", bundle=bundle) as (_, segmenter):
        differences = self_test(segmenter.loaded.executor, bundle)
        found = segmenter.segment(scan, **options)
    assert differences.keys() == {"prior", "denoiser", "labels"} and max(differences.values()) < 1e-5
    assert np.mean(found.labels == expected.labels) > 0.9999
    assert np.abs(found.uncertainty.astype(int) - expected.uncertainty).mean() < 1e-3


def test_in_a_thread_of_its_own_the_mask_is_the_same(open_segmenter: Any) -> None:
    """With graphs, runs are put on the stream in another thread, where the context must be current as well."""
    found = []
    for graphs in (False, True):
        with open_segmenter("fp32", graphs) as (driver, segmenter):
            found.append(segmenter.segment(mr_scan(), samples=2, steps=3))
        assert sum(driver.held.values()) == 0
    np.testing.assert_array_equal(found[0].labels, found[1].labels)
    np.testing.assert_array_equal(found[0].uncertainty, found[1].uncertainty)


@pytest.mark.parametrize("stream", [None, HOST_STREAM])
def test_networks_have_the_session_s_priority_with_a_caller_s_stream_too(
    open_segmenter: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: int | None
) -> None:
    driver = open_segmenter.driver
    monkeypatch.setattr(opening, "open_driver", lambda device: driver)
    bundle = open_bundle(tmp_path / "half.verdiff")
    loaded = opening.open_device(bundle, "onnxruntime", LoadOptions(device="cuda", stream=stream, priority=-2))
    opened = {call for call in driver.calls if call.startswith("open_stream")}
    loaded.close()
    assert opened == {"open_stream -2"}


def test_a_caller_s_stream_object_lives_as_long_as_what_works_on_it(
    open_segmenter: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class HostStream:
        ptr = HOST_STREAM

    monkeypatch.setattr(opening, "open_driver", lambda device: open_segmenter.driver)
    given = HostStream()
    gone = weakref.ref(given)
    bundle = open_bundle(tmp_path / "half.verdiff")
    loaded = opening.open_device(bundle, "onnxruntime", LoadOptions(device="cuda", stream=given))
    del given
    gc.collect()
    assert gone() is not None
    assert loaded.stream == HOST_STREAM
    loaded.close()


def test_what_is_no_stream_is_refused_before_anything_is_taken(
    open_segmenter: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = open_segmenter.driver
    monkeypatch.setattr(opening, "open_driver", lambda device: driver)
    bundle = open_bundle(tmp_path / "half.verdiff")
    with pytest.raises(InputError, match="a stream of type"):
        opening.open_device(bundle, "onnxruntime", LoadOptions(device="cuda", stream="none"))
    assert driver.calls == []


def test_nothing_comes_to_the_host_between_the_prior_and_the_answer(open_segmenter: Any) -> None:
    """After the first call has made everything: one upload of the image a chunk, then only the answer comes back."""
    with open_segmenter("fp32") as (driver, segmenter):
        segmenter.segment(mr_scan(), samples=2, steps=3)
        driver.calls.clear()
        segmenter.segment(mr_scan(), samples=2, steps=3)
        names = driver.names
    steps = [i for i, name in enumerate(names) if name == "network:step"]
    assert set(names[steps[0] : steps[2] + 1]) <= {"network:step", "record", "wait", "launch:mark_non_finite"}
    assert not {"allocate", "allocate_pinned", "free"} & set(names)
