"""What NVIDIA's driver says of this machine: its version, the CUDA it can run, the GPUs and their memory.

Asked of the driver's two C libraries, so nothing has to be installed, no CUDA context is made and no GPU memory is
taken. ``libcuda`` numbers the GPUs as ``cuda:N`` does (``CUDA_VISIBLE_DEVICES`` included); ``libnvidia-ml`` knows the
driver's version and the free memory.
"""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from verdiff.errors import BackendError

CUDA_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
NVML_LIBRARY = "nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1"
COMPUTE_CAPABILITY_MAJOR, COMPUTE_CAPABILITY_MINOR = 75, 76
CUDA_NO_DEVICE = 100
TEXT_BYTES = 96

Load = Callable[[str], Any]


@dataclass(frozen=True)
class Gpu:
    """One GPU.

    Attributes:
        index: N of ``cuda:N``.
        name: Name that the driver gives it.
        sm: Compute capability without its dot: ``"90"``.
        memory_bytes: What it has.
        free_bytes: What is free now; None where the driver does not tell (a part of a shared card).
    """

    index: int
    name: str
    sm: str
    memory_bytes: int
    free_bytes: int | None


@dataclass(frozen=True)
class InstalledDriver:
    """The driver and what it drives.

    Attributes:
        version: Version such as ``"580.65.06"``; ``""`` where it does not tell.
        cuda: The newest CUDA it runs, as (major, minor).
        gpus: GPUs, in the order of ``cuda:N``.
    """

    version: str
    cuda: tuple[int, int]
    gpus: tuple[Gpu, ...]


def read_driver(load: Load = ctypes.CDLL) -> InstalledDriver:
    """Ask the driver.

    Args:
        load: Opens a shared library by its name, raising OSError.

    Raises:
        BackendError: There is no driver, it does not answer, or it drives no GPU.
    """
    try:
        cuda = load(CUDA_LIBRARY)
    except OSError as error:
        raise BackendError(
            f"no NVIDIA driver ({error})",
            "a machine with an NVIDIA GPU and its driver",
            "install the driver; in a container, start it with the GPUs (docker run --gpus all); or use --device cpu",
        ) from error
    status = cuda.cuInit(0)
    if status != 0:
        raise BackendError(
            f"an NVIDIA driver that does not start: {_reason(cuda, status)}",
            "a loaded driver and at least one GPU that this process may use",
            "run nvidia-smi; check CUDA_VISIBLE_DEVICES"
            if status == CUDA_NO_DEVICE
            else "run nvidia-smi; after a driver update, restart the machine",
        )
    count = _integer(cuda.cuDeviceGetCount)
    if count == 0:
        raise BackendError(
            "an NVIDIA driver and no GPU",
            "a GPU that this process may use",
            "run nvidia-smi; check CUDA_VISIBLE_DEVICES",
        )
    version = _integer(cuda.cuDriverGetVersion)
    nvml = _nvml(load)
    gpus = tuple(_gpu(cuda, nvml, index) for index in range(count))
    return InstalledDriver(_driver_version(nvml), (version // 1000, version % 1000 // 10), gpus)


def require_gpu(device: str, load: Load = ctypes.CDLL) -> tuple[InstalledDriver, Gpu]:
    """The driver and the GPU that ``device`` (``"cuda"`` or ``"cuda:N"``) names.

    Raises:
        BackendError: There is no driver or no such GPU.
    """
    driver = read_driver(load)
    index = device_index(device)
    if index >= len(driver.gpus):
        there = ", ".join(f"cuda:{gpu.index} ({gpu.name})" for gpu in driver.gpus)
        raise BackendError(
            f"device {device}, and this process may use {len(driver.gpus)} GPU(s)", there, "choose one of these"
        )
    return driver, driver.gpus[index]


def device_index(device: str) -> int:
    """N of ``"cuda:N"``; 0 for ``"cuda"``.

    Raises:
        BackendError: It names no GPU.
    """
    named = re.fullmatch(r"cuda(?::(\d+))?", device)
    if named is None:
        raise BackendError(f"device {device!r}", "cuda or cuda:N for a GPU", "choose one of them, or cpu")
    return int(named[1] or 0)


def _gpu(cuda: Any, nvml: Any | None, index: int) -> Gpu:
    handle = _integer(lambda out: cuda.cuDeviceGet(out, index))
    major = _integer(lambda out: cuda.cuDeviceGetAttribute(out, COMPUTE_CAPABILITY_MAJOR, handle))
    minor = _integer(lambda out: cuda.cuDeviceGetAttribute(out, COMPUTE_CAPABILITY_MINOR, handle))
    name = _text(lambda out: cuda.cuDeviceGetName(out, TEXT_BYTES, handle))
    total = ctypes.c_size_t()
    cuda.cuDeviceTotalMem_v2(ctypes.byref(total), handle)
    bus = _text(lambda out: cuda.cuDeviceGetPCIBusId(out, TEXT_BYTES, handle))
    free = None if nvml is None or not bus else _free_bytes(nvml, bus)
    # A part of a shared card (MIG): the whole card's free memory says nothing about it.
    if free is not None and free > total.value:
        free = None
    return Gpu(index, name, f"{major}{minor}", total.value, free)


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def _free_bytes(nvml: Any, bus: str) -> int | None:
    handle, memory = ctypes.c_void_p(), _Memory()
    if nvml.nvmlDeviceGetHandleByPciBusId_v2(bus.encode("ascii"), ctypes.byref(handle)) != 0:
        return None
    if nvml.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)) != 0:
        return None
    return int(memory.free)


def _nvml(load: Load) -> Any | None:
    try:
        nvml = load(NVML_LIBRARY)
    except OSError:
        return None
    return nvml if nvml.nvmlInit_v2() == 0 else None


def _driver_version(nvml: Any | None) -> str:
    if nvml is None:
        return ""
    return _text(lambda out: nvml.nvmlSystemGetDriverVersion(out, TEXT_BYTES))


def _reason(cuda: Any, status: int) -> str:
    text = ctypes.c_char_p()
    cuda.cuGetErrorString(status, ctypes.byref(text))
    return f"{(text.value or b'unknown error').decode('ascii', 'replace')} (CUDA error {status})"


def _integer(call: Callable[[Any], int]) -> int:
    """What ``call`` puts where its argument points; 0 when it fails."""
    value = ctypes.c_int()
    return value.value if call(ctypes.byref(value)) == 0 else 0


def _text(call: Callable[[Any], int]) -> str:
    """What ``call`` writes into its argument; ``""`` when it fails."""
    buffer = ctypes.create_string_buffer(TEXT_BYTES)
    return buffer.value.decode("utf-8", "replace") if call(buffer) == 0 else ""
