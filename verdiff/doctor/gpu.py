"""NVIDIA's side of the machine: driver, GPUs, TensorRT's flavours, and the Python packages that drive a GPU."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from verdiff.doctor.report import BAD, GOOD, NOTE, Check, refused, version_of
from verdiff.errors import BackendError

if TYPE_CHECKING:
    from verdiff.bundle.engines import Package
    from verdiff.runtime.nvidia import Driver

LEAST_FREE_GB = 1.0
# Distributions that drive a GPU from Python; of CuPy there is one for each CUDA.
DRIVES = ("cuda-core", "cuda-bindings")
INTEROP = (("cupy", "cupy-cuda13x", "cupy-cuda12x"), ("pycuda",))


def check_driver(*, wanted: bool) -> tuple[Driver | BackendError, list[Check]]:
    """The driver, or why there is none, and a check of it and of every GPU.

    Args:
        wanted: Whether a GPU was asked for, so that its absence is a problem.
    """
    from verdiff.runtime.nvidia import read_driver

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


def check_tensorrt(driver: Driver | BackendError) -> list[Check]:
    """Each flavour of TensorRT: its version, whether its libraries load, whether the driver is new enough."""
    from verdiff.bundle.engines import FLAVOURS, TENSORRT, find_package

    checks = []
    for name, flavour in FLAVOURS.items():
        package = find_package(name, lean_will_do=True)
        if package is None:
            remedy = f"pip install 'verdiff[{flavour.extra}]' if it is wanted"
            checks.append(Check(flavour.title, NOTE, "not installed", remedy))
            continue
        checks.append(_flavour(package, driver))
        if name == TENSORRT.name and not package.lean and (lean := version_of("tensorrt_lean")):
            checks.append(Check("TensorRT lean", GOOD, f"{lean}, for version-compatible engines"))
    return checks


def check_gpu_packages(driver: Driver | BackendError) -> Check:
    """What of cuda-core, CuPy and pycuda is installed."""
    there = [f"{name} {version}" for name in DRIVES if (version := version_of(name))]
    missing = [name for name in DRIVES if version_of(name) is None]
    for names in INTEROP:
        found = next((f"{name} {version}" for name in names if (version := version_of(name))), None)
        there += [found] if found else [f"no {names[0]}"]
    if missing and not isinstance(driver, BackendError):
        remedy = "pip install 'verdiff[gpu]' (or [tensorrt], or [tensorrt-rtx]) to use the GPU"
        return Check("CUDA in Python", NOTE, f"no {' and no '.join(missing)}; {', '.join(there)}", remedy)
    return Check("CUDA in Python", GOOD, ", ".join([*(f"no {name}" for name in missing), *there]))


def _flavour(package: Package, driver: Driver | BackendError) -> Check:
    from verdiff.bundle.engines import FLAVOURS, driver_too_old
    from verdiff.runtime.machine import machine_of

    flavour = FLAVOURS[package.flavour]
    found = f"{package.version or 'version unknown'}{' (lean runtime only)' if package.lean else ''}"
    found += f" for CUDA {package.cuda}" if package.cuda else ""
    if missing := _missing(package.module):
        remedy = f"pip install 'verdiff[{flavour.extra}]', with its libraries beside the bindings"
        return Check(flavour.title, NOTE, f"{found} cannot load: {', '.join(missing)} not found", remedy)
    if isinstance(driver, BackendError):
        return Check(flavour.title, GOOD, f"{found}; without a driver it builds engines at most and runs none")
    old = driver_too_old(machine_of(package, driver, driver.gpus[0]))
    if old is not None:
        return Check(
            flavour.title, NOTE, f"{found}: {old}", f"update NVIDIA's driver to one that runs CUDA {package.cuda}"
        )
    return Check(flavour.title, GOOD, found)


def _missing(module: str) -> tuple[str, ...]:
    """Libraries that the bindings of a TensorRT are linked with and that are not there; nothing is imported."""
    from verdiff.runtime.libraries import missing_libraries, needed_libraries

    spec = find_spec(module)
    if spec is None or spec.origin is None or sys.platform != "linux":
        return ()
    plugins = sorted(Path(spec.origin).parent.glob("*.so"))
    names = {name: None for plugin in plugins for name in needed_libraries(plugin)}
    return missing_libraries(names)
