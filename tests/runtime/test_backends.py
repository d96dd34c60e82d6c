"""Which backend runs what, and what is said when it cannot: never another device or precision in silence."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

from tests.runtime.tiny_bundle import (
    NumpyBackend,
    denoiser_graph,
    golden_arrays,
    prior_graph,
    tiny_manifest,
    write_tiny_half,
)
from verdiff.bundle import GOLDEN, graph_name, open_bundle, pack_golden, write_bundle
from verdiff.choices import BACKENDS
from verdiff.errors import BackendError
from verdiff.extras import install
from verdiff.runtime import Segmenter, backends
from verdiff.runtime.backends import choose_backend, default_threads, on_device, open_backend
from verdiff.runtime.backends.onnxruntime import tensor_types


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
        ((), ("auto", "cpu", "fp32"), install("cpu")),
        ((), ("openvino", "cpu", "fp32"), install("openvino")),
        ((), ("auto", "cuda:0", "fp16"), install("gpu")),
        (("openvino",), ("auto", "cuda", "fp32"), install("gpu")),
        (("openvino",), ("onnxruntime", "cpu", "fp32"), install("cpu")),
        (("onnxruntime", "openvino"), ("openvino", "cuda", "fp32"), install("gpu")),
        (("onnxruntime",), ("onnxruntime", "cpu", "bf16"), install("openvino")),
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
        open_backend(open_bundle(bundle_path), backend="onnxruntime", precision="fp16", threads=1)


def test_no_threads_are_refused(bundle_path: Path) -> None:
    with pytest.raises(BackendError, match="threads = 0"):
        open_backend(open_bundle(bundle_path), backend="auto", precision="fp32", threads=0)
    assert default_threads() >= 1


@pytest.mark.parametrize(
    ("backend", "device", "there"),
    [
        ("onnxruntime", "cpu", False),
        ("openvino", "cpu", False),
        ("onnxruntime", "cuda:1", True),
        ("onnxruntime-tensorrt", "cuda", True),
        ("tensorrt", "cuda:0", True),
    ],
)
def test_the_loop_runs_where_the_networks_do(backend: str, device: str, there: bool) -> None:
    assert on_device(backend, device) == there


def test_onnxruntimes_other_providers_want_a_gpu_and_a_precision_they_have(only) -> None:  # type: ignore[no-untyped-def]
    only("onnxruntime")
    assert choose_backend("onnxruntime-tensorrt", "cuda:0", "fp32") == "onnxruntime-tensorrt"
    for asked in (("onnxruntime-tensorrt", "cpu", "fp32"), ("onnxruntime-tensorrt-rtx", "cuda", "int8")):
        with pytest.raises(BackendError, match="with the onnxruntime-tensorrt"):
            choose_backend(*asked)
    only()
    with pytest.raises(BackendError, match="onnxruntime is not installed"):
        choose_backend("onnxruntime-tensorrt", "cuda:0", "fp32")


@pytest.mark.skipif(os.path.exists("/dev/nvidiactl"), reason="this machine has an NVIDIA driver")
@pytest.mark.parametrize("backend", ["auto", "onnxruntime", "onnxruntime-tensorrt"])
def test_a_gpu_asked_for_and_not_there_is_never_the_cpu(bundle_path: Path, backend: str) -> None:
    with pytest.raises(BackendError, match="no NVIDIA driver"):
        Segmenter.load(bundle_path, backend=backend, device="cuda:1")


def test_bf16_on_a_processor_without_it_is_refused(bundle_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Core:
        def get_property(self, device: str, name: str) -> list[str]:
            return ["FP32", "INT8"]

    monkeypatch.setitem(sys.modules, "openvino", SimpleNamespace(__spec__="there", __version__="0.0", Core=Core))
    with pytest.raises(BackendError, match="without bf16"):
        open_backend(open_bundle(bundle_path), backend="openvino", precision="bf16", threads=1)


@pytest.mark.parametrize("name", BACKENDS)
def test_a_backend_computes_the_networks_at_any_size_and_batch(bundle_path: Path, name: str) -> None:
    """Sizes go up and down again, which a request that was made for one shape must survive."""
    backend = open_backend(open_bundle(bundle_path), backend=name, precision="fp32", threads=1)
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
def test_a_denoiser_may_have_no_use_for_the_prior(tmp_path: Path, name: str) -> None:
    """SpineSegDiff's chain starts from the prior, which its denoiser then does not look at."""
    model = onnx.load_from_string(denoiser_graph())
    model.graph.node[0].input[0] = "x"  # what was weighed as the prior
    files = {graph_name("prior"): prior_graph(), graph_name("denoiser"): model.SerializeToString()}
    files[GOLDEN] = pack_golden(golden_arrays(tiny_manifest()))
    write_bundle(tmp_path / "tiny.verdiff", tiny_manifest(), files, as_zip=True)
    backend = open_backend(open_bundle(tmp_path / "tiny.verdiff"), backend=name, precision="fp32", threads=1)
    prior, features = backend.prior(np.zeros((2, 1, 8, 12), np.float32))
    x = np.random.default_rng(3).standard_normal((2, 3, 8, 12)).astype(np.float32)
    x0hat = backend.denoise(x, 700, prior, features)
    np.testing.assert_allclose(x0hat, NumpyBackend().denoise(x, 700, x, features), atol=1e-5)
    assert np.array_equal(x0hat, backend.denoise(x, 700, -prior, features))


@pytest.mark.parametrize("name", BACKENDS)
def test_results_do_not_change_when_the_next_call_is_made(bundle_path: Path, name: str) -> None:
    backend = open_backend(open_bundle(bundle_path), backend=name, precision="fp32", threads=1)
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
        open_backend(bundle, backend=name, precision="fp32", threads=1)


@pytest.mark.parametrize("name", BACKENDS)
def test_a_single_pass_model_has_no_denoiser_to_call(single_pass_path: Path, name: str) -> None:
    backend = open_backend(open_bundle(single_pass_path), backend=name, precision="fp32", threads=1)
    zeros = np.zeros((1, 3, 8, 8), np.float32)
    with pytest.raises(BackendError, match="without a denoiser"):
        backend.denoise(zeros, 1, zeros, (zeros[:, :1],))


@pytest.fixture(scope="module")
def half_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_half(tmp_path_factory.mktemp("bundles") / "half.verdiff")


@pytest.mark.parametrize("name", BACKENDS)
def test_fp16_features_pass_from_the_prior_to_the_denoiser_untouched(half_path: Path, name: str) -> None:
    bundle = open_bundle(half_path)
    backend = open_backend(bundle, backend=name, precision="fp16", threads=1)
    reference, random = NumpyBackend(), np.random.default_rng(3)
    image = random.uniform(-1, 1, (2, 1, 16, 12)).astype(np.float32)
    x = random.standard_normal((2, 3, 16, 12)).astype(np.float32)
    prior, features = backend.prior(image)
    assert (prior.dtype, features[0].dtype) == (np.float32, np.float16)
    expected, maps = reference.prior(image)
    np.testing.assert_allclose(prior, expected, atol=2e-2)
    x0hat = backend.denoise(x, 700, prior, features)
    assert x0hat.dtype == np.float32
    np.testing.assert_allclose(x0hat, reference.denoise(x, 700, expected, maps), atol=2e-2)


@pytest.mark.parametrize("name", BACKENDS)
def test_a_whole_scan_runs_in_fp16_on_the_cpu(half_path: Path, mr_sample: Path, name: str) -> None:
    from verdiff.imaging import read_volume

    volume = read_volume(mr_sample)
    masks = [
        Segmenter.load(half_path, backend=name, precision=precision, threads=1).segment(volume, force=True).labels
        for precision in ("fp32", "fp16")
    ]
    assert np.mean(masks[0] == masks[1]) > 0.99


def test_a_tensor_of_a_type_numpy_does_not_have_is_refused_by_name() -> None:
    tensors = [SimpleNamespace(name="x", type="tensor(float)"), SimpleNamespace(name="f", type="tensor(bfloat16)")]
    with pytest.raises(BackendError, match=r"f is a tensor\(bfloat16\)"):
        tensor_types(tensors)
