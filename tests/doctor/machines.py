"""Machines and engines that are planted for the doctor's tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.engines.make import make_key, put
from verdiff.engines import Package
from verdiff.engines.doctor.installed import Installed
from verdiff.errors import BackendError
from verdiff.nvidia import Gpu, InstalledDriver

NO_DRIVER = BackendError("no NVIDIA driver (libcuda.so.1)", "a driver", "install the driver")
H200 = Gpu(0, "NVIDIA H200", "90", 140 << 30, 130 << 30)
A4000 = Gpu(1, "NVIDIA RTX A4000", "86", 16 << 30, 64 << 20)
DRIVER = InstalledDriver("580.65.06", (13, 0), (H200, A4000))
OLD = InstalledDriver("550.54", (12, 4), (H200,))
TENSORRT = Installed(Package("tensorrt", "tensorrt", "10.13.0.35", "13"))
LEAN = Installed(Package("tensorrt", "tensorrt_lean", "10.13.0.35", "13", lean=True))
RTX = Installed(Package("tensorrt_rtx", "tensorrt_rtx_bindings", "1.7.1.116", "13"))
RTX_SMS = ("75", "80", "86", "89", "120", "121")


def plant(folder: Path, plan: bytes = b"a plan", **changes: Any) -> Path:
    """An engine in a cache, of the prior in fp16 for the H200 unless ``changes`` say otherwise."""
    return put(folder, make_key(**changes), plan)
