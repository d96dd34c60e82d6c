"""NVIDIA's side of the machine: driver, GPUs, and the Python packages that drive a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verdiff.doctor.report import BAD, GOOD, NOTE, Check, refused, version_of
from verdiff.errors import BackendError
from verdiff.extras import install

if TYPE_CHECKING:
    from verdiff.nvidia import InstalledDriver

LEAST_FREE_GB = 1.0
# Distributions that drive a GPU from Python.
DRIVES = ("cuda-core", "cuda-bindings")
# NVRTC, which may come with a CUDA toolkit instead; then what hosts hand arrays over with. Some have a name a CUDA.
BESIDE = (
    ("nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu13", "nvidia-cuda-nvrtc-cu12"),
    ("cupy", "cupy-cuda13x", "cupy-cuda12x"),
    ("pycuda",),
)


def check_driver(*, wanted: bool) -> tuple[InstalledDriver | BackendError, list[Check]]:
    """The driver, or why there is none, and a check of it and of every GPU.

    Args:
        wanted: Whether a GPU was asked for, so that its absence is a problem.
    """
    from verdiff.nvidia import read_driver

    try:
        driver = read_driver()
    except BackendError as error:
        if wanted:
            return error, [refused("NVIDIA driver", BAD, error)]
        return error, [Check("NVIDIA driver", NOTE, error.found)]
    newest = ".".join(map(str, driver.cuda))
    checks = [Check("NVIDIA driver", GOOD, f"{driver.version or 'version unknown'}, runs CUDA up to {newest}")]
    for gpu in driver.gpus:
        total, free = gpu.memory_bytes / 1e9, gpu.free_bytes
        found = f"{gpu.name}, SM {gpu.sm}, {total:.1f} GB"
        if free is None:
            checks.append(Check(f"cuda:{gpu.index}", GOOD, f"{found}, free memory unknown"))
        elif free < LEAST_FREE_GB * 1e9:
            remedy = "nvidia-smi shows who holds its memory"
            checks.append(Check(f"cuda:{gpu.index}", NOTE, f"{found}, {free / 1e9:.1f} GB free", remedy))
        else:
            checks.append(Check(f"cuda:{gpu.index}", GOOD, f"{found}, {free / 1e9:.1f} GB free"))
    return driver, checks


def check_gpu_packages(driver: InstalledDriver | BackendError) -> Check:
    """What of cuda-core, NVRTC, CuPy and pycuda is installed."""
    there = [f"{name} {version}" for name in DRIVES if (version := version_of(name))]
    missing = [name for name in DRIVES if version_of(name) is None]
    for names in BESIDE:
        found = next((f"{name} {version}" for name in names if (version := version_of(name))), None)
        there += [found] if found else [f"no {names[0]}"]
    if missing and not isinstance(driver, BackendError):
        remedy = f"to use the GPU: {gpu_package('tensorrt', 'tensorrt-rtx')}"
        return Check("CUDA in Python", NOTE, f"no {' and no '.join(missing)}; {', '.join(there)}", remedy)
    return Check("CUDA in Python", GOOD, ", ".join([*(f"no {name}" for name in missing), *there]))


def gpu_package(*others: str) -> str:
    """The command that brings ONNX Runtime for GPUs, or ``others``; its package for processors must go first."""
    first = "pip uninstall -y onnxruntime, then " if version_of("onnxruntime") else ""
    return first + install("gpu", *others)
