"""Which backend runs what, and what is said when it cannot: never another device or precision in silence."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.runtime.tiny_bundle import NumpyBackend, golden_arrays, tiny_manifest
from verdiff.bundle import open_bundle
from verdiff.errors import BackendError
from verdiff.runtime import backends
from verdiff.runtime.backends import BACKENDS, choose_backend, default_threads, open_backend


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Pretend that only the named libraries are installed."""

    def pretend(*names: str) -> None:
        monkeypatch.setattr(backends, "find_spec", lambda name: object() if name in names else None)

    return pretend


def test_auto_takes_onnxruntime_then_openvino(only) -> None:  # type: ignore[no-untyped-def]
    only("onnxruntime", "openvino")
    assert choose_backend("auto", "cpu", "fp32") == "onnxruntime"
    assert choose_backend("auto", "cpu", "bf16") == "openvino"
    only("openvino")
    assert choose_backend("auto", "cpu", "fp32") == "openvino"


@pytest.mark.parametrize(
    ("installed", "asked", "remedy"),
    [
        ((), ("auto", "cpu", "fp32"), "pip install 'verdiff[cpu]'"),
        ((), ("openvino", "cpu", "fp32"), "pip install 'verdiff[openvino]'"),
        ((), ("auto", "cuda:0", "fp16"), "pip install 'verdiff[gpu]'"),
        (("openvino",), ("auto", "cuda", "fp32"), "pip install 'verdiff[gpu]'"),
        (("openvino",), ("onnxruntime", "cpu", "fp32"), "pip install 'verdiff[cpu]'"),
        (("onnxruntime", "openvino"), ("openvino", "cuda", "fp32"), "pip install 'verdiff[gpu]'"),
        (("onnxruntime",), ("onnxruntime", "cpu", "bf16"), "pip install 'verdiff[openvino]'"),
    ],
)
def test_what_is_missing_is_named_with_its_extra(  # type: ignore[no-untyped-def]
    only, installed: tuple[str, ...], asked: tuple[str, str, str], remedy: str
) -> None:
    only(*installed)
    with pytest.raises(BackendError) as caught:
        choose_backend(*asked)
    assert remedy in caught.value.remedy


@pytest.mark.parametrize("asked", [("auto", "gpu", "fp32"), ("auto", "cpu", "int4"), ("tvm", "cpu", "fp32")])
def test_unknown_names_are_refused(asked: tuple[str, str, str]) -> None:
    with pytest.raises(BackendError, match="expected"):
        choose_backend(*asked)


def test_a_precision_the_bundle_does_not_carry_is_refused(bundle_path: Path) -> None:
    with pytest.raises(BackendError, match="no prior graph in fp16"):
        open_backend(open_bundle(bundle_path), backend="onnxruntime", device="cpu", precision="fp16", threads=1)


def test_no_threads_are_refused(bundle_path: Path) -> None:
    with pytest.raises(BackendError, match="threads = 0"):
        open_backend(open_bundle(bundle_path), backend="auto", device="cpu", precision="fp32", threads=0)
    assert default_threads() >= 1


def onnxruntime_that_offers(offered: list[str], given: list[str]) -> SimpleNamespace:
    """A stand-in for onnxruntime-gpu on machines with and without a card."""

    class Session:
        def __init__(self, graph: bytes, options: object, providers: list[object]) -> None:
            self.asked = providers

        def get_providers(self) -> list[str]:
            return given

    class Options:
        def add_session_config_entry(self, key: str, value: str) -> None:
            pass

    return SimpleNamespace(
        __spec__="there",
        __version__="0.0",
        SessionOptions=Options,
        InferenceSession=Session,
        get_available_providers=lambda: offered,
    )


@pytest.mark.parametrize(
    ("offered", "given", "said"),
    [
        (["CPUExecutionProvider"], ["CPUExecutionProvider"], "has no CUDA provider"),
        (["CUDAExecutionProvider", "CPUExecutionProvider"], ["CPUExecutionProvider"], "gave CPUExecutionProvider"),
    ],
)
def test_a_gpu_asked_for_and_not_there_is_never_the_cpu(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch, offered: list[str], given: list[str], said: str
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", onnxruntime_that_offers(offered, given))
    with pytest.raises(BackendError, match=said):
        open_backend(open_bundle(bundle_path), backend="onnxruntime", device="cuda:1", precision="fp32", threads=1)


def test_a_gpu_that_is_there_is_used_by_its_number(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setitem(sys.modules, "onnxruntime", onnxruntime_that_offers(both, both))
    bundle = open_bundle(bundle_path)
    backend = open_backend(bundle, backend="auto", device="cuda:1", precision="fp32", threads=1)
    assert (backend.device, backend.batch > 1) == ("cuda:1", True)
    assert backend._prior.asked[0] == ("CUDAExecutionProvider", {"device_id": 1})  # type: ignore[attr-defined]


def test_bf16_on_a_processor_without_it_is_refused(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Core:
        def get_property(self, device: str, name: str) -> list[str]:
            return ["FP32", "INT8"]

    monkeypatch.setitem(sys.modules, "openvino", SimpleNamespace(__spec__="there", __version__="0.0", Core=Core))
    with pytest.raises(BackendError, match="without bf16"):
        open_backend(open_bundle(bundle_path), backend="openvino", device="cpu", precision="bf16", threads=1)


@pytest.mark.parametrize("name", BACKENDS)
def test_a_backend_computes_the_networks_at_any_size_and_batch(bundle_path: Path, name: str) -> None:
    """Sizes go up and down again, which a request that was made for one shape must survive."""
    backend = open_backend(open_bundle(bundle_path), backend=name, device="cpu", precision="fp32", threads=1)
    reference, random = NumpyBackend(), np.random.default_rng(3)
    for batch, rows, cols in ((1, 8, 12), (1, 40, 24), (3, 16, 16), (1, 8, 12)):
        image = random.uniform(-1, 1, (batch, 1, rows, cols)).astype(np.float32)
        x = random.standard_normal((batch, 3, rows, cols)).astype(np.float32)
        prior, features = backend.prior(image)
        expected, maps = reference.prior(image)
        np.testing.assert_allclose(prior, expected, atol=1e-5)
        np.testing.assert_allclose(features[0], maps[0], atol=1e-5)
        x0hat = backend.denoise(x, 700, prior, features)
        np.testing.assert_allclose(x0hat, reference.denoise(x, 700, expected, maps), atol=1e-5)


@pytest.mark.parametrize("name", BACKENDS)
def test_results_do_not_change_when_the_next_call_is_made(bundle_path: Path, name: str) -> None:
    backend = open_backend(open_bundle(bundle_path), backend=name, device="cpu", precision="fp32", threads=1)
    golden = golden_arrays(tiny_manifest())
    image = golden["image"].astype(np.float32)[:1]
    prior, features = backend.prior(image)
    kept = prior.copy(), features[0].copy()
    backend.prior(-image)
    assert np.array_equal(prior, kept[0])
    assert np.array_equal(features[0], kept[1])


@pytest.mark.parametrize("name", BACKENDS)
def test_a_graph_that_cannot_be_loaded_is_named(bundle_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = open_bundle(bundle_path)
    monkeypatch.setattr(type(bundle), "graph", lambda self, role, precision="fp32": b"no graph")
    with pytest.raises(BackendError, match="cannot load the prior graph"):
        open_backend(bundle, backend=name, device="cpu", precision="fp32", threads=1)


@pytest.mark.parametrize("name", BACKENDS)
def test_a_single_pass_model_has_no_denoiser_to_call(single_pass_path: Path, name: str) -> None:
    backend = open_backend(open_bundle(single_pass_path), backend=name, device="cpu", precision="fp32", threads=1)
    zeros = np.zeros((1, 3, 8, 8), np.float32)
    with pytest.raises(BackendError, match="without a denoiser"):
        backend.denoise(zeros, 1, zeros, (zeros[:, :1],))
