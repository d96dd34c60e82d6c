"""Engines of a planted cache: which load here, and for each that does not, why and the command that mends it."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from verdiff.bundle.engines import (
    EngineKey,
    Machine,
    Package,
    ProfileShape,
    Sidecar,
    TensorInfo,
    TensorRange,
    prepare_folder,
    write_engine,
)
from verdiff.doctor.engines import check_engine, check_engines
from verdiff.doctor.report import BAD, GOOD, NOTE
from verdiff.errors import BackendError
from verdiff.runtime.nvidia import Driver, Gpu

PLAN = b"a plan"
HERE = Machine("tensorrt", "10.13.0.35", "13", "580.65.06", (13, 0), "90", "NVIDIA H200")
DRIVER = Driver("580.65.06", (13, 0), (Gpu(0, "NVIDIA H200", "90", 140 << 30, 130 << 30),))
NO_DRIVER = BackendError("no NVIDIA driver (libcuda.so.1)", "a driver", "install the driver")
KEY = EngineKey(
    model_id="spine-mr",
    role="prior",
    precision="fp16",
    graph_sha256="0" * 64,
    flavour="tensorrt",
    trt_version="10.13.0.35",
    profiles=(ProfileShape((TensorRange("image", (1, 1, 320, 256), (8, 1, 320, 256), (25, 1, 320, 256)),)),),
    flags=(),
    sm="90",
    gpu_name="NVIDIA H200",
)


def sidecar(**changes: object) -> Sidecar:
    key = replace(KEY, **changes)  # type: ignore[arg-type]
    return Sidecar(
        key=key,
        plan_sha256=hashlib.sha256(PLAN).hexdigest(),
        plan_bytes=len(PLAN),
        io=(TensorInfo("image", "FLOAT", "input", (-1, 1, 320, 256)),),
        weight_bytes=None,
        device_memory_bytes=1 << 20,
        proof=(),
        cuda_version="13",
        driver_version="580.65.06",
        gpu_name="NVIDIA H200",
        built_at="2026-11-21T07:00:00+00:00",
        build_seconds=2.0,
        verdiff="0.1.0",
        arguments=("spine-mr", "--precision", key.precision, "--role", key.role),
    )


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A private folder, on a machine with TensorRT 10.13."""
    package = Package("tensorrt", "tensorrt", "10.13.0.35", "13")
    monkeypatch.setattr(
        "verdiff.bundle.engines.find_package", lambda name, lean_will_do: package if name == "tensorrt" else None
    )
    return prepare_folder(tmp_path / "engines")


def plant(folder: Path, made: Sidecar) -> Path:
    return write_engine(made.key, PLAN, made, folder)


def test_an_engine_of_this_machine_loads_here() -> None:
    check = check_engine(sidecar(), HERE)
    assert (check.state, check.found) == (GOOD, "prior in fp16, loads here")


@pytest.mark.parametrize(
    ("changes", "machine", "said"),
    [
        ({"sm": "86", "gpu_name": "NVIDIA RTX A4000"}, HERE, "built for SM 86"),
        ({"trt_version": "10.14.1.2"}, HERE, "built by TensorRT 10.14.1.2"),
        ({}, replace(HERE, gpu_name="NVIDIA H100"), "tuned for NVIDIA H200"),
        ({}, replace(HERE, lean=True), "lean runtime"),
    ],
)
def test_an_engine_of_another_machine_says_what_differs_and_how_to_build_it_here(
    changes: dict[str, object], machine: Machine, said: str
) -> None:
    check = check_engine(sidecar(**changes), machine)
    assert (check.state, said in check.found) == (NOTE, True)
    assert check.remedy.startswith("verdiff build spine-mr --precision fp16 --role prior --flavour tensorrt")


def test_an_engine_without_its_tensorrt_names_the_extra() -> None:
    check = check_engine(sidecar(), None)
    assert (check.state, "not installed" in check.found, "verdiff[tensorrt]" in check.remedy) == (NOTE, True, True)


def test_an_engine_is_not_built_again_for_a_missing_driver_or_an_old_one() -> None:
    alone = check_engine(sidecar(), Machine("tensorrt", "10.13.0.35", "13"))
    assert "verdiff build" not in alone.remedy
    old = check_engine(sidecar(), replace(HERE, driver_version="550.1", driver_cuda=(12, 4)))
    assert old.remedy.startswith("update NVIDIA's driver to one that runs CUDA 13, then verdiff build")


def test_every_engine_of_the_cache_is_listed(cache: Path) -> None:
    plant(cache, sidecar())
    plant(cache, sidecar(sm="86", gpu_name="NVIDIA RTX A4000"))
    summary, *engines = check_engines(DRIVER, folder=cache)
    assert summary.found == f"1 of 2 in {cache} load on this machine"
    assert sorted(check.state for check in engines) == [NOTE, GOOD]


def test_a_plan_cut_short_and_a_damaged_sidecar_are_named_with_a_remedy(cache: Path) -> None:
    cut, damaged = plant(cache, sidecar()), plant(cache, sidecar(role="step"))
    cut.write_bytes(PLAN[:-1])
    damaged.with_suffix(".json").write_text("{", "utf-8")
    _, *engines = check_engines(DRIVER, folder=cache)
    assert [check.state for check in engines] == [NOTE, NOTE]
    assert all("verdiff build" in check.remedy for check in engines)


def test_without_a_driver_no_engine_loads(cache: Path) -> None:
    plant(cache, sidecar())
    _, engine = check_engines(NO_DRIVER, folder=cache)
    assert (engine.state, "shows no NVIDIA GPU" in engine.found) == (NOTE, True)


@pytest.mark.skipif(os.name != "posix", reason="folders have modes on POSIX")
def test_a_cache_that_others_can_write_is_a_problem(cache: Path) -> None:
    plant(cache, sidecar())
    cache.chmod(0o777)
    (check,) = check_engines(DRIVER, folder=cache)
    assert (check.state, "chmod 700" in check.remedy) == (BAD, True)


def test_a_cache_that_is_not_there_is_no_problem_and_is_not_made(tmp_path: Path) -> None:
    (check,) = check_engines(DRIVER, folder=tmp_path / "engines")
    assert (check.state, (tmp_path / "engines").exists()) == (GOOD, False)
