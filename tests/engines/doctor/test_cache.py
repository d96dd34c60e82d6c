"""Engines of a planted cache: which load here, and for each that does not, why and the command that mends it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.doctor.machines import A4000, DRIVER, H200, LEAN, NO_DRIVER, OLD, RTX, RTX_SMS, TENSORRT, plant
from tests.engines.make import make_key, make_sidecar
from verdiff.doctor.report import BAD, GOOD, NOTE, Check
from verdiff.engines import Package, prepare_folder
from verdiff.engines.doctor import cache as room
from verdiff.engines.doctor.cache import check_engine, check_engines
from verdiff.engines.doctor.installed import Installed
from verdiff.errors import BackendError
from verdiff.extras import install
from verdiff.nvidia import InstalledDriver

HERE = {"tensorrt": TENSORRT}
BUILD = "verdiff build tiny-mr --precision fp16 --role prior --flavour tensorrt"


def check(
    installed: Installed | None = TENSORRT,
    driver: InstalledDriver | BackendError = DRIVER,
    gpu: Any = H200,
    **changes: Any,
) -> Check:
    return check_engine(make_sidecar(make_key(**changes)), installed, driver, (gpu,))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return prepare_folder(tmp_path / "engines")


@pytest.fixture
def forbid(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Make the system refuse a folder and all that lies in it, as it refuses another user's; root's tests too."""

    def refuse(folder: Path) -> None:
        def guarded(call: Callable[..., Any]) -> Callable[..., Any]:
            def asked(path: Any = ".", *arguments: Any, **named: Any) -> Any:
                if not isinstance(path, int) and Path(os.fspath(path)).is_relative_to(folder):
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
                return call(path, *arguments, **named)

            return asked

        for name in ("stat", "listdir", "scandir", "mkdir"):
            monkeypatch.setattr(os, name, guarded(getattr(os, name)))

    return refuse


def test_an_engine_of_this_machine_loads_here() -> None:
    found = check()
    assert (found.state, found.found) == (GOOD, "prior in fp16, loads here")


@pytest.mark.parametrize(
    ("changes", "gpu", "said"),
    [
        ({"sm": "86", "gpu_name": "NVIDIA RTX A4000"}, H200, "built for SM 86"),
        ({"trt_version": "10.14.1.2"}, H200, "built by TensorRT 10.14.1.2"),
        ({}, replace(H200, name="NVIDIA H100"), "tuned for NVIDIA H200"),
    ],
)
def test_an_engine_of_another_machine_says_what_differs_and_how_to_build_it_here(
    changes: dict[str, Any], gpu: Any, said: str
) -> None:
    found = check(gpu=gpu, **changes)
    assert (found.state, said in found.found, found.remedy) == (NOTE, True, BUILD)


def test_the_lean_runtime_builds_nothing_so_the_whole_one_comes_first() -> None:
    found = check(LEAN)
    assert (found.state, "lean runtime" in found.found) == (NOTE, True)
    assert found.remedy == f"{install('tensorrt')}, then {BUILD}"


def test_an_engine_for_another_than_the_first_gpu_is_built_there() -> None:
    assert check(gpu=A4000).remedy == f"{BUILD} --device cuda:1"


def test_an_engine_without_its_tensorrt_names_the_extra() -> None:
    found = check(None)
    assert (found.state, "not installed" in found.found, "[tensorrt]" in found.remedy) == (NOTE, True, True)


def test_an_engine_is_not_built_again_for_what_its_library_or_the_driver_lacks() -> None:
    alone = check(driver=NO_DRIVER, gpu=None)
    assert (alone.state, "verdiff build" in alone.remedy) == (NOTE, False)
    old = check(driver=OLD)
    assert (old.state, old.remedy) == (NOTE, "update NVIDIA's driver to one that runs CUDA 13")
    both = check(driver=OLD, trt_version="10.14.1.2")
    assert both.remedy == f"update NVIDIA's driver to one that runs CUDA 13, then {BUILD}"
    assert ("550.54" in both.found, "10.14.1.2" in both.found) == (True, True)


def test_an_engine_whose_library_does_not_load_does_not_load() -> None:
    found = check(replace(TENSORRT, missing=("libnvinfer.so.10",)))
    assert (found.state, "libnvinfer.so.10 not found" in found.found) == (NOTE, True)
    assert found.remedy.startswith(install("tensorrt"))


def test_no_build_is_advised_that_the_library_would_refuse() -> None:
    """TensorRT-RTX on a GPU that is none of its own."""
    rtx = replace(RTX, sms=RTX_SMS)
    found = check(rtx, flavour="tensorrt_rtx", trt_version="1.7.1.116", sm="86", gpu_name="")
    assert (found.state, "does not run on NVIDIA H200, SM 90" in found.found) == (NOTE, True)
    assert "verdiff build" not in found.remedy


def test_a_driver_of_unknown_version_is_said_to_be() -> None:
    found = check(driver=replace(OLD, version=""))
    assert "NVIDIA's driver (version unknown) runs CUDA up to 12.4" in found.found


def test_every_engine_of_the_cache_is_listed(cache: Path) -> None:
    plant(cache)
    plant(cache, sm="75", gpu_name="Tesla T4")
    found = check_engines(DRIVER, HERE, folder=cache)
    assert found.checks[0].found == f"1 of 2 in {cache} load on this machine"
    assert sorted(check.state for check in found.checks[1:]) == [NOTE, GOOD]
    assert [sidecar.key.sm for sidecar in found.loading] == ["90"]


@pytest.mark.parametrize(
    ("device", "state", "said"),
    [
        ("cpu", GOOD, "loads on cuda:1"),
        ("cuda:1", GOOD, "loads here"),
        ("cuda", NOTE, "NVIDIA H200"),
        ("cuda:7", GOOD, "loads on cuda:1"),
    ],
)
def test_an_engine_may_be_for_any_gpu_of_the_machine_unless_one_is_named(
    cache: Path, device: str, state: str, said: str
) -> None:
    plant(cache, sm="86", gpu_name=A4000.name)
    _, engine = check_engines(DRIVER, HERE, device, cache).checks
    assert (engine.state, said in engine.found) == (state, True)


def test_a_plan_cut_short_and_a_damaged_sidecar_are_named_with_a_remedy(cache: Path) -> None:
    cut, damaged = plant(cache), plant(cache, role="step")
    cut.write_bytes(b"a pla")
    damaged.with_suffix(".json").write_text("{", "utf-8")
    found = check_engines(DRIVER, HERE, folder=cache)
    assert [check.state for check in found.checks[1:]] == [NOTE, NOTE]
    assert all("verdiff build" in check.remedy for check in found.checks[1:])


def test_a_plan_whose_bytes_were_changed_does_not_load(cache: Path) -> None:
    plant(cache).write_bytes(b"a plot")
    found = check_engines(DRIVER, HERE, folder=cache)
    summary, engine = found.checks
    assert summary.found.startswith("0 of 1")
    assert (engine.state, "SHA-256" in engine.found, BUILD in engine.remedy) == (NOTE, True, True)
    assert found.loading == []


def test_plans_beyond_what_is_hashed_in_time_are_said_to_be_unchecked(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "HASHED_BYTES", 1 << 20)
    plant(cache, b"a" * (1 << 20))
    plant(cache, b"b", role="step")
    found = {check.found.partition(" ")[0]: check.found for check in check_engines(DRIVER, HERE, folder=cache).checks}
    assert ("not checked" in found["prior"]) != ("not checked" in found["step"])
    unchecked = found["prior"] + found["step"]
    assert "its bytes were not checked, since no more than 1 MiB of plans are" in unchecked


def test_plans_of_other_machines_take_nothing_of_what_is_hashed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "HASHED_BYTES", 6)
    for sm in ("75", "80", "89"):
        plant(cache, sm=sm)
    plant(cache)
    assert not any("not checked" in check.found for check in check_engines(DRIVER, HERE, folder=cache).checks)


def test_without_a_driver_no_engine_loads(cache: Path) -> None:
    plant(cache)
    _, engine = check_engines(NO_DRIVER, HERE, folder=cache).checks
    assert (engine.state, "shows no NVIDIA GPU" in engine.found) == (NOTE, True)


@pytest.mark.skipif(os.name != "posix", reason="folders have modes on POSIX")
def test_a_cache_that_others_can_write_is_a_problem(cache: Path) -> None:
    plant(cache)
    cache.chmod(0o777)
    (found,) = check_engines(DRIVER, HERE, folder=cache).checks
    assert (found.state, "chmod 700" in found.remedy) == (BAD, True)


@pytest.mark.parametrize("above", [0, 1])
def test_a_cache_that_may_not_be_read_or_searched_for_is_a_problem(
    cache: Path, forbid: Callable[[Path], None], above: int
) -> None:
    plant(cache)
    forbid((cache, cache.parent)[above])
    (found,) = check_engines(DRIVER, HERE, folder=cache).checks
    assert (found.state, "Permission denied" in found.found) == (BAD, True)
    assert found.remedy == "check its permissions, or name another folder in VERDIFF_CACHE"


def test_a_cache_under_a_name_that_no_folder_can_have_is_a_problem(tmp_path: Path) -> None:
    (found,) = check_engines(DRIVER, HERE, folder=tmp_path / ("x" * 300)).checks
    assert (found.state, "VERDIFF_CACHE" in found.remedy) == (BAD, True)


def test_a_file_in_the_cache_s_place_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "engines").touch()
    (found,) = check_engines(DRIVER, HERE, folder=tmp_path / "engines").checks
    assert (found.state, "remove what is in its place" in found.remedy) == (BAD, True)


@pytest.mark.parametrize(("device", "state"), [("cpu", NOTE), ("cuda", BAD)])
def test_a_user_without_a_home_has_no_cache(monkeypatch: pytest.MonkeyPatch, device: str, state: str) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("VERDIFF_CACHE", raising=False)
    monkeypatch.setattr("verdiff.engines.store._user_cache", homeless)
    (found,) = check_engines(DRIVER, HERE, device).checks
    assert (found.state, "VERDIFF_CACHE" in found.remedy) == (state, True)


def test_a_cache_that_is_not_there_is_no_problem_and_is_not_made(tmp_path: Path) -> None:
    (found,) = check_engines(DRIVER, HERE, folder=tmp_path / "engines").checks
    assert (found.state, (tmp_path / "engines").exists()) == (GOOD, False)


def test_packages_of_one_flavour_do_not_answer_for_the_other(cache: Path) -> None:
    plant(cache)
    rtx = Installed(Package("tensorrt_rtx", "tensorrt_rtx", "10.13.0.35", "13"))
    _, engine = check_engines(DRIVER, {"tensorrt_rtx": rtx}, folder=cache).checks
    assert (engine.state, "not installed" in engine.found) == (NOTE, True)
