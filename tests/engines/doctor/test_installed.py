"""TensorRT's flavours on planted machines: absent, whole, without libraries, with a driver or a GPU not for them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.doctor.machines import DRIVER, H200, LEAN, NO_DRIVER, OLD, RTX, RTX_SMS, TENSORRT
from tests.runtime.test_libraries import plugin
from verdiff.doctor.report import GOOD, NOTE, Check
from verdiff.engines import Package
from verdiff.engines.doctor import installed
from verdiff.engines.doctor.installed import Installed, check_tensorrt, find_tensorrt, missing_of, sms_of
from verdiff.errors import BackendError
from verdiff.extras import install

PLANTED = "planted_trt"


def one(installed: Installed, driver: object = DRIVER) -> Check:
    """The check of one flavour that is there."""
    checks = check_tensorrt(driver, {installed.package.flavour: installed})  # type: ignore[arg-type]
    return next(check for check in checks if check.name == installed.flavour.title)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that Python imports from."""
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith(PLANTED)]:
        del sys.modules[name]


def package(folder: Path, name: str, text: str = "") -> Path:
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(text, "utf-8")
    return folder / name


def planted(monkeypatch: pytest.MonkeyPatch, flavour: str = "tensorrt_rtx") -> Package:
    """An installed package whose module is :data:`PLANTED`."""
    found = Package(flavour, PLANTED, "1.7.1", "13")
    monkeypatch.setattr(installed, "find_package", lambda name, lean_will_do: found if name == flavour else None)
    return found


def test_each_flavour_that_is_not_installed_names_its_extra() -> None:
    checks = check_tensorrt(DRIVER, {})
    assert [(check.name, check.state) for check in checks] == [("TensorRT", NOTE), ("TensorRT-RTX", NOTE)]
    assert "[tensorrt]" in checks[0].remedy
    assert "[tensorrt-rtx]" in checks[1].remedy


def test_a_flavour_that_fits_the_driver_is_good() -> None:
    assert one(TENSORRT) == Check("TensorRT", GOOD, "10.13.0.35 for CUDA 13")


def test_a_driver_too_old_for_a_flavour_is_named_with_both_versions() -> None:
    check = one(TENSORRT, OLD)
    assert (check.state, "550.54 runs CUDA up to 12.4" in check.found) == (NOTE, True)
    assert check.remedy == "update NVIDIA's driver to one that runs CUDA 13"


def test_a_driver_that_does_not_tell_its_version_has_an_unknown_one() -> None:
    assert "NVIDIA's driver (version unknown) runs CUDA up to 12.4" in one(TENSORRT, replace(OLD, version="")).found


def test_bindings_without_their_libraries_are_told_from_an_installation() -> None:
    check = one(replace(TENSORRT, missing=("libnvinfer.so.10",)))
    assert (check.state, "cannot load: libnvinfer.so.10 not found" in check.found) == (NOTE, True)
    assert "[tensorrt]" in check.remedy


def test_the_lean_runtime_is_called_by_its_name() -> None:
    assert "lean runtime only" in one(LEAN).found


def test_the_lean_runtime_beside_the_whole_one_is_found_by_any_of_its_packages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(installed, "version_of", {"tensorrt_lean_cu13_bindings": "10.13.0.35"}.get)
    assert Check("TensorRT lean", GOOD, "10.13.0.35, for version-compatible engines") in check_tensorrt(
        DRIVER, {"tensorrt": TENSORRT}
    )


def test_without_a_driver_a_flavour_builds_at_most() -> None:
    assert "builds engines at most" in one(RTX, NO_DRIVER).found


def test_a_gpu_that_a_flavour_is_not_for_is_named_with_those_that_it_is_for() -> None:
    rtx = replace(RTX, sms=RTX_SMS)
    found, remedy = rtx.unfit(rtx.machine(DRIVER, H200)) or ("", "")
    assert found == "does not run on NVIDIA H200, SM 90; it runs on SM 75, 80, 86, 89, 120, 121"
    assert "[gpu]" in remedy
    assert rtx.unfit(rtx.machine(DRIVER, replace(H200, sm="89"))) is None


@pytest.mark.skipif(sys.platform != "linux", reason="ELF files are Linux's")
@pytest.mark.parametrize("bindings", [PLANTED, f"{PLANTED}_bindings"])
def test_libraries_that_bindings_are_linked_with_are_looked_for_where_pip_puts_them(
    packages: Path, bindings: str
) -> None:
    package(packages, PLANTED)
    folder = packages / PLANTED if bindings == PLANTED else package(packages, bindings)
    plugin(folder / "planted_trt.so", ["libc.so.6", "libnvinfer_of_nowhere.so.10"])
    assert missing_of(PLANTED) == ("libnvinfer_of_nowhere.so.10",)


@pytest.mark.skipif(sys.platform != "linux", reason="ELF files are Linux's")
def test_stubs_alone_are_no_bindings(packages: Path) -> None:
    (packages / f"{PLANTED}_bindings").mkdir()
    package(packages, PLANTED)
    assert missing_of(PLANTED) == ()


def test_this_environment_s_tensorrt_rtx_misses_nothing_and_says_which_gpus_it_is_for() -> None:
    pytest.importorskip("tensorrt_rtx_bindings")
    found = find_tensorrt(NO_DRIVER)["tensorrt_rtx"]
    assert (found.missing, found.sms) == ((), ())
    sms = sms_of(found.package)
    assert sms == tuple(sorted(sms, key=int))
    assert {"86", "89"} <= set(sms)


def test_a_named_device_is_reason_to_import_a_flavour_and_nothing_else_is(
    packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(packages, PLANTED, "class ComputeCapability:\n    __members__ = {'NONE': 0, 'SM120': 1, 'SM86': 2}\n")
    planted(monkeypatch)
    for driver, device in ((DRIVER, "cpu"), (NO_DRIVER, "cuda"), (OLD, "cuda")):
        assert find_tensorrt(driver, device)["tensorrt_rtx"].sms == ()
        assert PLANTED not in sys.modules, (driver, device)
    assert find_tensorrt(DRIVER, "cuda")["tensorrt_rtx"].sms == ("86", "120")


def test_tensorrt_itself_is_for_whatever_gpu_is_there(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(packages, PLANTED, "class ComputeCapability:\n    __members__ = {'SM86': 2}\n")
    planted(monkeypatch, "tensorrt")
    assert find_tensorrt(DRIVER, "cuda")["tensorrt"].sms == ()


def test_a_flavour_that_cannot_be_imported_says_why(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(packages, PLANTED, "raise ImportError('undefined symbol: createInferRuntime')\n")
    found = planted(monkeypatch)
    with pytest.raises(BackendError, match="undefined symbol"):
        sms_of(found)
    check = one(find_tensorrt(DRIVER, "cuda:0")["tensorrt_rtx"])
    assert (check.state, "cannot be imported: undefined symbol" in check.found) == (NOTE, True)
    assert install("tensorrt-rtx", flags="--force-reinstall") in check.remedy
