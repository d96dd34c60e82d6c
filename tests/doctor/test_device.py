"""The named device on planted machines: a way to run on it counts when all that it needs was tried there."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.doctor.machines import A4000, DRIVER, H200, LEAN, OLD, RTX, RTX_SMS, TENSORRT
from tests.engines.make import make_key, make_sidecar
from tests.runtime.device.compiled_kernels import COMPILER, CompiledDriver
from tests.runtime.device.null_driver import NullDriver
from tests.runtime.tiny_bundle import write_tiny
from verdiff.bundle import graph_name, open_bundle
from verdiff.doctor import device
from verdiff.doctor.device import check_device, double_by_kernel, start_source
from verdiff.doctor.report import BAD, GOOD, NOTE, Check
from verdiff.engines import Sidecar
from verdiff.engines.doctor.installed import Installed
from verdiff.errors import BackendError
from verdiff.extras import install
from verdiff.nvidia import InstalledDriver
from verdiff.runtime.device.driver import DeviceError

NOTHING_HELD = {"device": 0, "pinned": 0, "streams": 0, "events": 0, "graphs": 0, "captures": 0}
Planter = Callable[..., None]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_tiny(tmp_path / "tiny.verdiff")


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Planter:
    """A machine: its driver, what stands for its device, and whether ONNX Runtime's package for GPUs is there."""

    def planted(
        driver: InstalledDriver = DRIVER, cuda: NullDriver | BackendError | None = None, gpu_package: bool = False
    ) -> None:
        def opened(name: str) -> NullDriver:
            if isinstance(cuda, BackendError):
                raise cuda
            return cuda or NullDriver()

        index = {"cuda": 0, "cuda:0": 0, "cuda:1": 1}
        monkeypatch.setattr("verdiff.nvidia.require_gpu", lambda name: (driver, driver.gpus[index[name]]))
        monkeypatch.setattr("verdiff.runtime.device.cuda_core.open_driver", opened)
        monkeypatch.setattr(device, "has_provider", lambda: gpu_package)
        monkeypatch.setattr("verdiff.doctor.gpu.version_of", lambda name: None)

    return planted


def engines(path: Path, *roles: str, precision: str = "fp32", **changes: Any) -> list[Sidecar]:
    """Engines of a bundle, of TensorRT for the H200."""
    opened = open_bundle(path)
    graphs = {"prior": "prior", "step": "denoiser"}
    found = []
    for role in roles:
        sha256 = opened.manifest.files[graph_name(graphs[role], precision)]
        key = make_key(role=role, precision=precision, **{"graph_sha256": sha256, **changes})
        found.append(make_sidecar(key, arguments=(str(path), "--precision", precision)))
    return found


def way(installed: Installed, loading: list[Sidecar], model: str | None = None, name: str = "cuda") -> Check:
    """The line of a flavour, which follows that of the device."""
    checks = check_device(name, {installed.package.flavour: installed}, loading, model)
    assert [check.name for check in checks] == [f"device {name}", f"device {name} {installed.flavour.option}"]
    return checks[1]


def test_the_cpu_needs_no_check_of_its_own() -> None:
    assert check_device("cpu", {}) == []


def test_a_device_that_nothing_runs_on_is_a_problem(plant: Planter) -> None:
    plant()
    kernels, backends = check_device("cuda", {})
    assert (kernels.state, backends.state, backends.remedy) == (GOOD, BAD, install("gpu"))


def test_the_package_for_processors_goes_before_that_for_gpus_comes(
    plant: Planter, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant()
    monkeypatch.setattr("verdiff.doctor.gpu.version_of", {"onnxruntime": "1.31.1"}.get)
    remedy = check_device("cuda", {})[1].remedy
    assert remedy == "pip uninstall -y onnxruntime, then " + install("gpu")


# ---- verdiff's own kernels ------------------------------------------------------------------------------------------


def test_the_kernel_computes_and_everything_is_given_back(plant: Planter) -> None:
    cuda = NullDriver()
    plant(cuda=cuda)
    assert double_by_kernel("cuda") == 4.0
    assert cuda.held == NOTHING_HELD
    assert {"compile", "launch:start", "download", "synchronise"} <= set(cuda.names)


def test_every_call_may_fail_and_everything_is_given_back(plant: Planter) -> None:
    plain = NullDriver()
    plant(cuda=plain)
    double_by_kernel("cuda")
    # The last three give back; they may fail too, and the answer is there by then.
    for at in range(1, len(plain.calls) - 2):
        cuda = NullDriver(fail_at=at, code="CUDA_ERROR_LAUNCH_FAILED")
        plant(cuda=cuda, gpu_package=False)
        check = check_device("cuda", {})[0]
        assert (check.state, "CUDA_ERROR_LAUNCH_FAILED" in check.found) == (BAD, True), plain.names[at - 1]
        assert "Xid" in check.remedy
        assert cuda.held == NOTHING_HELD, plain.names[at - 1]


def test_a_kernel_that_computes_wrongly_is_a_problem(plant: Planter, monkeypatch: pytest.MonkeyPatch) -> None:
    plant()
    monkeypatch.setattr(device, "double_by_kernel", lambda name: 0.0)
    check = check_device("cuda", {})[0]
    assert (check.state, "2 + 2 = 0.0" in check.found, "Xid" in check.remedy) == (BAD, True, True)


def test_without_cuda_core_no_way_runs(plant: Planter, bundle: Path) -> None:
    missing = BackendError("cuda-core cannot be imported (No module named 'cuda')", "it", install("gpu"))
    plant(cuda=missing)
    kernels, engine = check_device("cuda", {"tensorrt": TENSORRT}, engines(bundle, "prior", "step"), str(bundle))
    assert (kernels.state, kernels.remedy, engine.state) == (BAD, install("gpu"), GOOD)


def test_an_error_that_sends_its_reader_to_the_doctor_is_given_another_remedy(plant: Planter) -> None:
    plant(cuda=DeviceError("compile the kernels", "Failure finding libnvrtc.so"))
    check = check_device("cuda", {})[0]
    assert (check.state, "verdiff doctor" in check.remedy, "nvidia-cuda-nvrtc" in check.remedy) == (BAD, False, True)


def test_whatever_a_library_raises_is_a_line_of_the_report(plant: Planter, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> NullDriver:
        raise AttributeError("module 'cuda.bindings.driver' has no attribute 'cuInit'\nmore")

    plant()
    monkeypatch.setattr("verdiff.runtime.device.cuda_core.open_driver", broken)
    check = check_device("cuda", {})[0]
    assert (check.state, check.found) == (BAD, "module 'cuda.bindings.driver' has no attribute 'cuInit'")


def test_the_kernel_alone_is_the_device_path_s_own_and_nvrtc_takes_it() -> None:
    core = pytest.importorskip("cuda.core")
    pytest.importorskip("cuda.bindings.nvrtc")
    from verdiff.runtime.device.cuda_core import compile_cubin
    from verdiff.runtime.device.kernels import source

    text = start_source()
    assert text.count("__global__") == 1
    assert text[text.index("extern") :] in source()
    assert len(compile_cubin(core, text, "sm_90", ())) > 0


@pytest.mark.skipif(COMPILER is None or sys.platform == "win32", reason="needs a C++ compiler")
def test_the_kernel_s_own_text_computes(plant: Planter, tmp_path: Path) -> None:
    plant(cuda=CompiledDriver(tmp_path))
    assert double_by_kernel("cuda") == 4.0


# ---- TensorRT -------------------------------------------------------------------------------------------------------


def test_a_model_all_of_whose_engines_load_is_a_way_to_run(plant: Planter, bundle: Path) -> None:
    plant()
    check = way(TENSORRT, engines(bundle, "prior", "step"))
    assert (check.state, check.found) == (GOOD, f"every engine of {bundle} in fp32 is there, for --backend tensorrt")
    assert way(TENSORRT, engines(bundle, "prior", "step"), str(bundle)).state == GOOD


def test_an_installed_tensorrt_without_engines_runs_nothing(plant: Planter) -> None:
    plant()
    check = way(TENSORRT, [])
    assert (check.state, check.remedy) == (BAD, "verdiff build spine-mr --flavour tensorrt")
    assert way(TENSORRT, [], name="cuda:1").remedy == "verdiff build spine-mr --flavour tensorrt --device cuda:1"
    assert way(LEAN, []).remedy.startswith(f"{install('tensorrt')}, then verdiff build")


@pytest.mark.parametrize(
    ("roles", "changes"),
    [
        (("prior",), {}),
        (("step",), {}),
        (("prior", "step"), {"flavour": "tensorrt_rtx"}),
        (("prior", "step"), {"graph_sha256": "0" * 64}),
    ],
    ids=["no step", "no prior", "another flavour", "another version of the model"],
)
def test_engines_that_are_not_a_whole_model_run_nothing(
    plant: Planter, bundle: Path, roles: tuple[str, ...], changes: dict[str, str]
) -> None:
    plant()
    check = way(TENSORRT, engines(bundle, *roles, **changes), str(bundle))
    assert (check.state, check.remedy) == (BAD, f"verdiff build {bundle} --flavour tensorrt")


def test_engines_of_another_model_do_not_serve_the_one_that_was_named(plant: Planter, bundle: Path) -> None:
    plant()
    check = way(TENSORRT, engines(bundle, "prior", "step"), "spine-mr")
    assert (check.state, check.remedy) == (BAD, "verdiff build spine-mr --flavour tensorrt")


@pytest.mark.parametrize(
    ("installed", "driver", "said", "remedy"),
    [
        (replace(TENSORRT, missing=("libnvinfer.so.10",)), DRIVER, "libnvinfer.so.10 not found", "[tensorrt]"),
        (TENSORRT, OLD, "runs CUDA up to 12.4", "update NVIDIA's driver"),
        (TENSORRT, replace(OLD, version=""), "driver (version unknown) runs", "update NVIDIA's driver"),
        (replace(TENSORRT, refusal="undefined symbol"), DRIVER, "undefined symbol", "--force-reinstall"),
        (replace(RTX, sms=RTX_SMS), DRIVER, "does not run on NVIDIA H200, SM 90", "[gpu]"),
    ],
    ids=["libraries", "driver", "driver of no version", "import", "SM"],
)
def test_a_tensorrt_that_cannot_run_on_the_device_is_no_way_to_run(
    plant: Planter, bundle: Path, installed: Installed, driver: InstalledDriver, said: str, remedy: str
) -> None:
    plant(driver)
    check = way(installed, engines(bundle, "prior", "step", flavour=installed.package.flavour))
    assert (check.state, said in check.found, remedy in check.remedy) == (BAD, True, True), check


def test_the_sm_is_that_of_the_named_gpu(plant: Planter, bundle: Path) -> None:
    plant()
    assert (H200.sm, A4000.sm) == ("90", "86")
    rtx = replace(RTX, sms=RTX_SMS)
    assert way(rtx, engines(bundle, "prior", "step", flavour="tensorrt_rtx"), name="cuda:1").state == GOOD


# ---- ONNX Runtime ---------------------------------------------------------------------------------------------------


def test_onnx_runtime_on_the_named_gpu_is_made_to_compute(plant: Planter, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(gpu_package=True)
    monkeypatch.setattr(device, "double_on_gpu", lambda name: 4.0)
    checks = check_device("cuda", {"tensorrt": TENSORRT})
    states = {check.name: check.state for check in checks}
    assert states == {"device cuda": GOOD, "device cuda onnxruntime": GOOD, "device cuda tensorrt": NOTE}
    monkeypatch.setattr(device, "double_on_gpu", lambda name: 0.0)
    check = check_device("cuda", {})[1]
    assert (check.state, "2 + 2 = 0.0" in check.found, "Xid" in check.remedy) == (BAD, True, True)


def test_onnx_runtime_that_is_installed_has_to_work_beside_engines(
    plant: Planter, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(name: str) -> float:
        raise BackendError("onnxruntime 1.31.1 has no CUDA provider", "one", install("gpu"))

    plant(gpu_package=True)
    monkeypatch.setattr(device, "double_on_gpu", refused)
    checks = check_device("cuda", {"tensorrt": TENSORRT}, engines(bundle, "prior", "step"))
    assert [check.state for check in checks] == [GOOD, BAD, GOOD]
    assert "no CUDA provider" in checks[1].found


def test_an_error_of_a_run_is_a_line_of_the_report(plant: Planter, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> float:
        raise RuntimeError("CUDNN failure 1001: CUDNN_STATUS_NOT_INITIALIZED")

    plant(gpu_package=True)
    monkeypatch.setattr(device, "double_on_gpu", broken)
    check = check_device("cuda", {})[1]
    assert (check.state, "CUDNN_STATUS_NOT_INITIALIZED" in check.found) == (BAD, True)
    assert "verdiff doctor" not in check.remedy and check.remedy


@pytest.mark.parametrize(
    ("package", "listed", "there"),
    [("1.31.1", "CPU", True), (None, "CUDA", True), (None, "CPU", False)],
    ids=["both packages", "a build under another name", "the package for processors"],
)
def test_onnx_runtime_is_for_gpus_by_its_name_or_by_what_it_lists(
    monkeypatch: pytest.MonkeyPatch, package: str | None, listed: str, there: bool
) -> None:
    monkeypatch.setattr(device, "version_of", {"onnxruntime-gpu": package}.get)
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: [f"{listed}ExecutionProvider"])
    assert device.has_provider() == there
