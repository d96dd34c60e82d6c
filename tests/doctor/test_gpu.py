"""NVIDIA's side of planted machines: no driver, cards with and without room, packages that drive them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.doctor.machines import NO_DRIVER
from verdiff.doctor import gpu
from verdiff.doctor.gpu import check_driver, check_gpu_packages
from verdiff.doctor.report import BAD, GOOD, NOTE, Check
from verdiff.errors import BackendError
from verdiff.nvidia import Gpu, InstalledDriver

CARDS = (
    Gpu(0, "NVIDIA H200", "90", 140 << 30, 130 << 30),
    Gpu(1, "NVIDIA RTX A4000", "86", 16 << 30, 64 << 20),
    Gpu(2, "NVIDIA H200 MIG 1g.18gb", "90", 16 << 30, None),
)
DRIVER = InstalledDriver("580.65.06", (13, 0), CARDS)


def plant_driver(monkeypatch: pytest.MonkeyPatch, found: InstalledDriver | BackendError) -> None:
    def read() -> InstalledDriver:
        if isinstance(found, BackendError):
            raise found
        return found

    monkeypatch.setattr("verdiff.nvidia.read_driver", read)


def test_driver_and_cards_are_listed_with_their_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    plant_driver(monkeypatch, DRIVER)
    driver, checks = check_driver(wanted=True)
    assert driver == DRIVER
    assert checks[0] == Check("NVIDIA driver", GOOD, "580.65.06, runs CUDA up to 13.0")
    assert checks[1] == Check("cuda:0", GOOD, "NVIDIA H200, SM 90, 150.3 GB, 139.6 GB free")
    assert (checks[2].state, "nvidia-smi" in checks[2].remedy) == (NOTE, True)
    assert (checks[3].state, checks[3].found.endswith("free memory unknown")) == (GOOD, True)


def test_a_driver_that_does_not_tell_its_version_has_an_unknown_one(monkeypatch: pytest.MonkeyPatch) -> None:
    plant_driver(monkeypatch, replace(DRIVER, version=""))
    assert check_driver(wanted=True)[1][0].found == "version unknown, runs CUDA up to 13.0"


@pytest.mark.parametrize(("wanted", "state"), [(True, BAD), (False, NOTE)])
def test_no_driver_is_a_problem_only_where_a_gpu_is_wanted(
    monkeypatch: pytest.MonkeyPatch, wanted: bool, state: str
) -> None:
    plant_driver(monkeypatch, NO_DRIVER)
    found, (check,) = check_driver(wanted=wanted)
    assert (found, check.state) == (NO_DRIVER, state)
    assert (check.remedy == "install the driver") == wanted


@pytest.mark.parametrize(
    ("installed", "driver", "state", "found"),
    [
        (
            {"cuda-core": "1.2", "cuda-bindings": "13.5"},
            DRIVER,
            GOOD,
            "cuda-core 1.2, cuda-bindings 13.5, no nvidia-cuda-nvrtc, no cupy, no pycuda",
        ),
        (
            {"nvidia-cuda-nvrtc": "13.5.37", "cupy-cuda13x": "14.0", "pycuda": "2025.1"},
            DRIVER,
            NOTE,
            "no cuda-core and no cuda-bindings; nvidia-cuda-nvrtc 13.5.37, cupy-cuda13x 14.0",
        ),
        ({}, NO_DRIVER, GOOD, "no cuda-core, no cuda-bindings, no nvidia-cuda-nvrtc, no cupy, no pycuda"),
    ],
)
def test_what_drives_a_gpu_from_python_is_listed(
    monkeypatch: pytest.MonkeyPatch,
    installed: dict[str, str],
    driver: InstalledDriver | BackendError,
    state: str,
    found: str,
) -> None:
    monkeypatch.setattr(gpu, "version_of", installed.get)
    check = check_gpu_packages(driver)
    assert check.state == state
    assert check.found.startswith(found)
    assert (state == NOTE) == ("[gpu]" in check.remedy)
