"""The inference libraries, working, broken, absent and twice; and what they could use of a GPU."""

from __future__ import annotations

import onnx
import pytest

from tests.runtime.fake_onnxruntime import CPU, FakeOnnxRuntime
from verdiff.doctor import inference
from verdiff.doctor.inference import check_backend, check_inference, check_packages, check_providers
from verdiff.doctor.report import BAD, GOOD, NOTE
from verdiff.errors import BackendError
from verdiff.extras import install
from verdiff.nvidia import Gpu, InstalledDriver

NO_DRIVER = BackendError("no NVIDIA driver (libcuda.so.1)", "a driver", "install the driver")
DRIVER = InstalledDriver("580.65.06", (13, 0), (Gpu(0, "NVIDIA H200", "90", 140 << 30, 130 << 30),))


def test_the_built_in_model_doubles_its_input() -> None:
    model = onnx.load_from_string(inference.DOUBLING_MODEL)
    onnx.checker.check_model(model)
    assert [(node.op_type, list(node.input)) for node in model.graph.node] == [("Add", ["a", "a"])]


def test_backends_that_are_installed_are_made_to_compute() -> None:
    checks = {check.name: check for check in check_inference(NO_DRIVER)}
    for name in ("onnxruntime", "openvino"):
        assert (checks[name].state, checks[name].found.endswith("works")) == (GOOD, True)
    assert "CPU" in checks["openvino devices"].found


def test_a_backend_that_fails_is_a_problem_with_its_reason() -> None:
    def broken() -> float:
        raise ImportError("libonnxruntime.so: cannot open shared object file")

    check = check_backend("onnxruntime", broken)
    assert check.state == BAD
    assert "cannot open shared object file" in check.found
    assert check.remedy == "pip install --force-reinstall onnxruntime"


def test_a_backend_that_computes_wrongly_is_a_problem() -> None:
    check = check_backend("openvino", lambda: 5.0)
    assert (check.state, "2 + 2 = 5.0" in check.found) == (BAD, True)


def test_the_package_for_gpus_is_reinstalled_by_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "version_of", lambda name: "1.31.1" if name == "onnxruntime-gpu" else None)
    assert check_backend("onnxruntime", lambda: 4.0).found == "1.31.1 works (the package for GPUs)"
    assert check_backend("onnxruntime", lambda: 0.0).remedy.endswith("onnxruntime-gpu")


def test_without_any_backend_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "version_of", lambda name: None)
    checks = {check.name: check for check in check_inference(NO_DRIVER)}
    assert checks["onnxruntime"].state == checks["openvino"].state == NOTE
    assert checks["inference"].state == BAD
    assert checks["inference"].remedy == install("cpu", "gpu", "openvino")


@pytest.mark.parametrize(
    ("packages", "state"),
    [
        (("onnxruntime", "onnxruntime-gpu"), BAD),
        (("onnxruntime", "onnxruntime-webgpu"), BAD),
        (("onnxruntime-gpu",), GOOD),
        ((), GOOD),
    ],
)
def test_several_onnxruntime_packages_are_a_problem(
    monkeypatch: pytest.MonkeyPatch, packages: tuple[str, ...], state: str
) -> None:
    monkeypatch.setattr("verdiff.runtime.backends.providers.installed_packages", lambda: packages)
    check = check_packages()
    assert check.state == state
    assert (state == BAD) == (f"uninstall -y {' '.join(packages)}, then" in check.remedy)


def test_a_processor_that_is_not_asked_for_may_lack_its_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "version_of", lambda name: None)
    checks = {check.name: check for check in check_inference(NO_DRIVER, needed=False)}
    assert checks["inference"].state == NOTE


def test_a_provider_whose_needs_are_met_is_said_to_be() -> None:
    listed, check = check_providers(FakeOnnxRuntime(), DRIVER)
    assert (listed.found, listed.state) == ("CUDA, CPU; built for CUDA 13.0", GOOD)
    assert (check.name, check.state) == ("onnxruntime CUDA", GOOD)


def test_each_listed_provider_that_would_not_load_says_why_and_what_mends_it() -> None:
    module = FakeOnnxRuntime(offered=["TensorrtExecutionProvider", "CUDAExecutionProvider", CPU])
    _, *checks = check_providers(module, NO_DRIVER)
    assert [check.name for check in checks] == ["onnxruntime CUDA", "onnxruntime TensorRT"]
    for check in checks:
        assert (check.state, check.remedy) == (NOTE, "install the driver")
    old = InstalledDriver("550.1", (12, 4), DRIVER.gpus)
    assert "which runs CUDA up to 12.4" in check_providers(module, old)[1].found


def test_a_provider_that_would_round_fp32_to_tf32_is_said_to_be_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    module = FakeOnnxRuntime(offered=["TensorrtExecutionProvider", CPU])
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    assert "NVIDIA_TF32_OVERRIDE is not set" in check_providers(module, DRIVER)[1].found
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    assert "TF32" not in check_providers(module, DRIVER)[1].found


def test_the_cpu_package_beside_a_gpu_is_a_note_and_without_one_nothing() -> None:
    module = FakeOnnxRuntime(offered=[CPU])
    _, check = check_providers(module, DRIVER)
    assert (check.state, "[gpu]" in check.remedy) == (NOTE, True)
    assert [check.name for check in check_providers(module, NO_DRIVER)] == ["onnxruntime providers"]
