"""NVIDIA's side of planted machines: no driver, an old one, cards with and without room, each TensorRT there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from verdiff.bundle.engines import Package
from verdiff.doctor import device, gpu
from verdiff.doctor.gpu import check_driver, check_gpu_packages, check_tensorrt
from verdiff.doctor.report import BAD, GOOD, NOTE, Check
from verdiff.errors import BackendError
from verdiff.runtime.nvidia import Driver, Gpu

NO_DRIVER = BackendError("no NVIDIA driver (libcuda.so.1)", "a driver", "install the driver")
CARDS = (
    Gpu(0, "NVIDIA H200", "90", 140 << 30, 130 << 30),
    Gpu(1, "NVIDIA RTX A4000", "86", 16 << 30, 64 << 20),
    Gpu(2, "NVIDIA H200 MIG 1g.18gb", "90", 16 << 30, None),
)
DRIVER = Driver("580.65.06", (13, 0), CARDS)


def plant_driver(monkeypatch: pytest.MonkeyPatch, found: Driver | BackendError) -> None:
    def read() -> Driver:
        if isinstance(found, BackendError):
            raise found
        return found

    monkeypatch.setattr("verdiff.runtime.nvidia.read_driver", read)


def plant_tensorrt(monkeypatch: pytest.MonkeyPatch, *packages: Package, missing: tuple[str, ...] = ()) -> None:
    there = {package.flavour: package for package in packages}
    monkeypatch.setattr("verdiff.bundle.engines.find_package", lambda name, lean_will_do: there.get(name))
    monkeypatch.setattr(gpu, "_missing", lambda module: missing)


def named(checks: list[Check], name: str) -> Check:
    return next(check for check in checks if check.name == name)


def test_driver_and_cards_are_listed_with_their_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    plant_driver(monkeypatch, DRIVER)
    driver, checks = check_driver(wanted=True)
    assert driver == DRIVER
    assert checks[0] == Check("NVIDIA driver", GOOD, "580.65.06, runs CUDA up to 13.0")
    assert checks[1] == Check("cuda:0", GOOD, "NVIDIA H200, SM 90, 150.3 GB, 139.6 GB free")
    assert (checks[2].state, "nvidia-smi" in checks[2].remedy) == (NOTE, True)
    assert (checks[3].state, checks[3].found.endswith("free memory unknown")) == (GOOD, True)


@pytest.mark.parametrize(("wanted", "state"), [(True, BAD), (False, NOTE)])
def test_no_driver_is_a_problem_only_where_a_gpu_is_wanted(
    monkeypatch: pytest.MonkeyPatch, wanted: bool, state: str
) -> None:
    plant_driver(monkeypatch, NO_DRIVER)
    found, (check,) = check_driver(wanted=wanted)
    assert (found, check.state) == (NO_DRIVER, state)
    assert (check.remedy == "install the driver") == wanted


def test_each_flavour_that_is_not_installed_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    plant_tensorrt(monkeypatch)
    checks = check_tensorrt(DRIVER)
    assert [(check.name, check.state) for check in checks] == [("TensorRT", NOTE), ("TensorRT-RTX", NOTE)]
    assert "verdiff[tensorrt]" in checks[0].remedy
    assert "verdiff[tensorrt-rtx]" in checks[1].remedy


def test_a_flavour_that_fits_the_driver_is_good(monkeypatch: pytest.MonkeyPatch) -> None:
    plant_tensorrt(monkeypatch, Package("tensorrt", "tensorrt", "10.13.0.35", "13"))
    assert named(check_tensorrt(DRIVER), "TensorRT") == Check("TensorRT", GOOD, "10.13.0.35 for CUDA 13")


def test_a_driver_too_old_for_a_flavour_is_named_with_both_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    plant_tensorrt(monkeypatch, Package("tensorrt", "tensorrt", "10.13.0.35", "13"))
    check = named(check_tensorrt(Driver("550.54", (12, 4), CARDS)), "TensorRT")
    assert check.state == NOTE
    assert "550.54 runs CUDA up to 12.4" in check.found
    assert check.remedy == "update NVIDIA's driver to one that runs CUDA 13"


def test_bindings_without_their_libraries_are_told_from_an_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    plant_tensorrt(monkeypatch, Package("tensorrt", "tensorrt", "10.13.0.35", "13"), missing=("libnvinfer.so.10",))
    check = named(check_tensorrt(DRIVER), "TensorRT")
    assert (check.state, "libnvinfer.so.10 not found" in check.found) == (NOTE, True)
    assert "verdiff[tensorrt]" in check.remedy


def test_the_lean_runtime_is_called_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    plant_tensorrt(monkeypatch, Package("tensorrt", "tensorrt_lean", "10.13.0.35", "13", lean=True))
    assert "lean runtime only" in named(check_tensorrt(DRIVER), "TensorRT").found


def test_without_a_driver_a_flavour_builds_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    plant_tensorrt(monkeypatch, Package("tensorrt_rtx", "tensorrt_rtx", "1.7.1", "13"))
    assert "builds engines at most" in named(check_tensorrt(NO_DRIVER), "TensorRT-RTX").found


def test_libraries_that_bindings_are_linked_with_are_looked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from tests.runtime.test_libraries import plugin

    package = tmp_path / "planted_trt"
    package.mkdir()
    (package / "__init__.py").touch()
    plugin(package / "planted_trt.so", ["libc.so.6", "libnvinfer_of_nowhere.so.10"])
    monkeypatch.syspath_prepend(str(tmp_path))
    assert gpu._missing("planted_trt") == ("libnvinfer_of_nowhere.so.10",)


@pytest.mark.parametrize(
    ("installed", "driver", "state", "found"),
    [
        (
            {"cuda-core": "1.2", "cuda-bindings": "13.5"},
            DRIVER,
            GOOD,
            "cuda-core 1.2, cuda-bindings 13.5, no cupy, no pycuda",
        ),
        (
            {"cupy-cuda13x": "14.0", "pycuda": "2025.1"},
            DRIVER,
            NOTE,
            "no cuda-core and no cuda-bindings; cupy-cuda13x 14.0",
        ),
        ({}, NO_DRIVER, GOOD, "no cuda-core, no cuda-bindings, no cupy, no pycuda"),
    ],
)
def test_what_drives_a_gpu_from_python_is_listed(
    monkeypatch: pytest.MonkeyPatch, installed: dict[str, str], driver: Driver | BackendError, state: str, found: str
) -> None:
    monkeypatch.setattr(gpu, "version_of", installed.get)
    check = check_gpu_packages(driver)
    assert check.state == state
    assert check.found.startswith(found)
    assert (state == NOTE) == ("verdiff[gpu]" in check.remedy)


def plant_device(monkeypatch: pytest.MonkeyPatch, *, gpu_package: bool, flavours: tuple[str, ...] = ()) -> None:
    monkeypatch.setattr("verdiff.runtime.nvidia.require_gpu", lambda name: (DRIVER, CARDS[0]))
    monkeypatch.setattr("verdiff.bundle.engines.installed_flavours", lambda: flavours)
    monkeypatch.setattr(device, "version_of", lambda name: "1.31.1" if gpu_package else None)


def test_the_named_gpu_is_made_to_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    plant_device(monkeypatch, gpu_package=True)
    monkeypatch.setattr(device, "double_on_gpu", lambda name: 4.0)
    assert device.check_device("cuda:0")[0].state == GOOD
    monkeypatch.setattr(device, "double_on_gpu", lambda name: 0.0)
    check = device.check_device("cuda:0")[0]
    assert (check.state, "2 + 2 = 0.0" in check.found, "Xid" in check.remedy) == (BAD, True, True)


def test_a_gpu_that_cannot_compute_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """With this environment's package, which is the one for the CPU."""
    plant_device(monkeypatch, gpu_package=True)
    check = device.check_device("cuda:0")[0]
    assert (check.state, "no CUDA provider" in check.found) == (BAD, True)


def test_engines_are_a_way_to_run_on_the_named_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    plant_device(monkeypatch, gpu_package=False, flavours=("tensorrt",))
    check = device.check_device("cuda:0")[0]
    assert (check.state, "'verdiff build'" in check.found) == (GOOD, True)


def test_a_gpu_that_nothing_runs_on_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    plant_device(monkeypatch, gpu_package=False)
    check = device.check_device("cuda:0")[0]
    assert (check.state, check.remedy) == (BAD, "pip install 'verdiff[gpu]'")


def test_the_cpu_needs_no_check_of_its_own() -> None:
    assert device.check_device("cpu") == []
