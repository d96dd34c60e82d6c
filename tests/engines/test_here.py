"""This machine as engines see it: the package, the driver and the GPU, and nothing raised for what is not there."""

from __future__ import annotations

import pytest

from verdiff.engines import Machine, Package
from verdiff.engines import here as room
from verdiff.errors import BackendError
from verdiff.nvidia import Gpu, InstalledDriver

RTX = Package("tensorrt_rtx", "tensorrt_rtx_bindings", "1.7.1.116", "13")
ADA = Gpu(0, "NVIDIA GeForce RTX 4090", "89", 24 << 30, 20 << 30)
DRIVER = InstalledDriver("580.65.06", (13, 0), (ADA,))


@pytest.fixture(autouse=True)
def package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "require_package", lambda flavour, *, lean_will_do: RTX)


def test_with_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "require_gpu", lambda device: (DRIVER, ADA))
    found = room.this_machine("tensorrt_rtx", "cuda:0")
    assert found == Machine("tensorrt_rtx", "1.7.1.116", "13", "580.65.06", (13, 0), "89", ADA.name)
    assert str(found) == "TensorRT-RTX 1.7.1.116, SM 89 (NVIDIA GeForce RTX 4090)"


def test_without_a_driver_it_is_a_machine_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(device: str) -> None:
        raise BackendError("no NVIDIA driver", "one", "install it")

    monkeypatch.setattr(room, "require_gpu", none)
    found = room.this_machine("tensorrt_rtx")
    assert found == Machine("tensorrt_rtx", "1.7.1.116", "13")
    assert str(found) == "TensorRT-RTX 1.7.1.116, no NVIDIA GPU"
