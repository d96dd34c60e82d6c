"""A provider that was asked for is there, or the error says what is missing; nothing ends up on the CPU in silence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.runtime.fake_onnxruntime import CPU, FakeOnnxRuntime, Part
from verdiff.errors import BackendError
from verdiff.extras import install
from verdiff.nvidia import Gpu, InstalledDriver
from verdiff.runtime.backends import providers
from verdiff.runtime.backends.providers import (
    CUDA,
    TENSORRT,
    TENSORRT_RTX,
    provider_options,
    require_fp32,
    require_placement,
)

H200 = Gpu(0, "NVIDIA H200", "90", 140 << 30, 130 << 30)


def require(
    module: FakeOnnxRuntime,
    provider: providers.Provider = CUDA,
    *,
    cuda: tuple[int, int] = (13, 0),
    missing: tuple[str, ...] = (),
) -> Gpu:
    """Ask for a provider on a machine with one GPU where these libraries are missing."""
    asked: list[str] = []

    def gone(names: tuple[str, ...]) -> tuple[str, ...]:
        asked.extend(names)
        return missing

    return providers.require_provider(
        module,
        provider,
        "cuda:0",
        require_gpu=lambda device: (InstalledDriver("580.65.06", cuda, (H200,)), H200),
        missing_libraries=gone,
    )


def packages(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(providers, "installed_packages", lambda: names)


def test_a_machine_that_has_it_all_is_taken() -> None:
    assert require(FakeOnnxRuntime()) == H200


@pytest.mark.parametrize(
    ("installed", "said", "remedy"),
    [
        (("onnxruntime",), "the package for the CPU", "pip uninstall -y onnxruntime, then"),
        (("onnxruntime", "onnxruntime-gpu"), "overwritten each other", "pip uninstall -y onnxruntime onnxruntime-gpu"),
    ],
)
def test_the_cpu_package_and_both_packages_are_told_apart(
    monkeypatch: pytest.MonkeyPatch, installed: tuple[str, ...], said: str, remedy: str
) -> None:
    packages(monkeypatch, *installed)
    with pytest.raises(BackendError, match=said) as caught:
        require(FakeOnnxRuntime(offered=[CPU]))
    assert remedy in caught.value.remedy


def test_a_gpu_package_without_tensorrt_rtx_names_the_ways_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    packages(monkeypatch, "onnxruntime-gpu")
    with pytest.raises(BackendError, match="no TensorRT-RTX provider") as caught:
        require(FakeOnnxRuntime(), TENSORRT_RTX)
    assert "--backend tensorrt-rtx" in caught.value.remedy or "tensorrt-rtx" in caught.value.remedy


def test_a_driver_older_than_the_package_s_cuda_says_both_versions() -> None:
    with pytest.raises(BackendError, match=r"580\.65\.06, which runs CUDA up to 12\.8") as caught:
        require(FakeOnnxRuntime(), cuda=(12, 8))
    assert "CUDA 13" in caught.value.expected
    assert "update the NVIDIA driver" in caught.value.remedy


def test_an_older_minor_version_of_the_same_cuda_is_no_reason() -> None:
    assert require(FakeOnnxRuntime(cuda_version="13.2"), cuda=(13, 0)) == H200


TENSORRT_10 = install("tensorrt", packages="'tensorrt<11'")


@pytest.mark.parametrize(
    ("provider", "missing", "remedy"),
    [
        (CUDA, ("libcublasLt.so.13", "libcudnn.so.9"), install("gpu")),
        (CUDA, ("libcuda.so.1",), "install the NVIDIA driver"),
        (CUDA, ("libcudart.so.13", "libcuda.so.1"), f"brings libcuda.so.1, then {install('gpu')}"),
        (
            TENSORRT,
            ("libnvinfer.so.10",),
            f"{TENSORRT_10}; or use --backend onnxruntime",
        ),
        (TENSORRT, ("libnvonnxparser.so.10", "libnvinfer.so.10"), f"{TENSORRT_10}; or"),
        (TENSORRT, ("nvinfer_11.dll",), "'tensorrt<12'"),
        (
            TENSORRT,
            ("libcudnn.so.9", "libnvinfer.so.10"),
            install("gpu,tensorrt", packages="'tensorrt<11'"),
        ),
        (TENSORRT_RTX, ("libtensorrt_rtx.so.1",), install("tensorrt-rtx")),
    ],
)
def test_every_missing_library_is_named_with_what_brings_it(
    provider: providers.Provider, missing: tuple[str, ...], remedy: str
) -> None:
    module = FakeOnnxRuntime(offered=[TENSORRT.name, TENSORRT_RTX.name, CUDA.name, CPU])
    with pytest.raises(BackendError, match=", ".join(missing)) as caught:
        require(module, provider, missing=missing)
    assert remedy in caught.value.remedy
    assert "CUDA 13.0" in caught.value.expected


def test_the_cuda_provider_s_cudnn_is_looked_for_though_it_is_not_linked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    plugin = tmp_path / "plugin.so"
    plugin.touch()
    monkeypatch.setattr(providers, "plugin_path", lambda module, provider: plugin)
    monkeypatch.setattr(providers, "needed_libraries", lambda path: ("libcudart.so.13",))
    asked: list[str] = []
    providers.require_provider(
        FakeOnnxRuntime(),
        CUDA,
        "cuda",
        require_gpu=lambda device: (InstalledDriver("580", (13, 0), (H200,)), H200),
        missing_libraries=lambda names: asked.extend(names) or (),
    )
    assert asked == ["libcudart.so.13", "libcudnn.so.9"]


def test_a_session_that_onnxruntime_gave_to_the_cpu_is_refused() -> None:
    session = FakeOnnxRuntime(given=[CPU]).InferenceSession(b"", None, providers=[CUDA.name], enable_fallback=0)
    with pytest.raises(BackendError, match="gave CPUExecutionProvider for the prior graph"):
        require_placement(session, CUDA, "prior", "cuda:0", "1.31.1")


def test_shapes_may_be_worked_out_on_the_cpu_and_layers_may_not() -> None:
    module = FakeOnnxRuntime(placed=(Part(CUDA.name, ("Conv",)), Part(CPU, ("Shape", "Gather", "Concat"))))
    session = module.InferenceSession(b"", None, providers=[CUDA.name], enable_fallback=0)
    require_placement(session, CUDA, "prior", "cuda:0", "1.31.1")
    module.placed = (Part(CUDA.name, ("Conv",)), Part(CPU, ("Shape", "Resize", "InstanceNormalization")))
    with pytest.raises(BackendError, match="layers of the prior graph on the CPU: InstanceNormalization, Resize"):
        require_placement(session, CUDA, "prior", "cuda:0", "1.31.1")


def test_the_cuda_provider_computes_fp32_in_fp32_and_the_same_way_at_every_load() -> None:
    ((name, options),) = provider_options(CUDA, "cuda:1", graphs=True)
    assert name == CUDA.name
    assert options["device_id"] == "1"
    assert options["use_tf32"] == "0"
    assert options["cudnn_conv_algo_search"] == "HEURISTIC"
    assert options["enable_cuda_graph"] == "1"
    assert "user_compute_stream" not in options


@pytest.mark.parametrize("provider", [TENSORRT, TENSORRT_RTX])
@pytest.mark.parametrize(
    ("environment", "found"),
    [({}, "NVIDIA_TF32_OVERRIDE is not set"), ({"NVIDIA_TF32_OVERRIDE": "1"}, "NVIDIA_TF32_OVERRIDE = '1'")],
)
def test_fp32_in_tf32_is_refused_with_what_forbids_it(
    provider: providers.Provider, environment: dict[str, str], found: str
) -> None:
    with pytest.raises(BackendError, match=f"{found}, and on NVIDIA H200") as caught:
        require_fp32(provider, H200, "1.31.1", environment=environment)
    assert "NVIDIA_TF32_OVERRIDE=0" in caught.value.expected
    assert "before the program starts" in caught.value.remedy


@pytest.mark.parametrize(
    ("provider", "sm", "environment"),
    [
        (TENSORRT, "90", {"NVIDIA_TF32_OVERRIDE": "0"}),
        (TENSORRT, "75", {}),
        (CUDA, "90", {}),
    ],
)
def test_fp32_that_is_fp32_is_taken(provider: providers.Provider, sm: str, environment: dict[str, str]) -> None:
    require_fp32(provider, replace(H200, sm=sm), "1.31.1", environment=environment)


def test_a_caller_s_stream_is_handed_on() -> None:
    ((_, options),) = provider_options(CUDA, "cuda", graphs=False, stream=0xBEEF)
    assert (options["has_user_compute_stream"], options["user_compute_stream"]) == ("1", str(0xBEEF))


def test_tensorrt_s_provider_leaves_to_cuda_what_it_cannot_do_and_keeps_its_engines_in_the_cache(tmp_path: Any) -> None:
    listed = provider_options(TENSORRT, "cuda:0", graphs=True, folder=tmp_path)
    assert [name for name, _ in listed] == [TENSORRT.name, CUDA.name]
    assert listed[0][1]["trt_engine_cache_path"] == str(tmp_path)
    assert listed[0][1]["trt_engine_cache_prefix"] == "fp32"
    assert listed[0][1]["trt_cuda_graph_enable"] == "1"
    assert "enable_cuda_graph" not in listed[1][1]
    assert provider_options(TENSORRT_RTX, "cuda:0", graphs=False, folder=tmp_path)[0][1] == {
        "device_id": "0",
        "enable_cuda_graph": "0",
        "nv_runtime_cache_path": str(tmp_path),
    }
