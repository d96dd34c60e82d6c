"""This machine as engines see it: the TensorRT that is installed, NVIDIA's driver and the GPU."""

from __future__ import annotations

from verdiff.engines import Machine, Package, require_package
from verdiff.errors import BackendError
from verdiff.nvidia import Gpu, InstalledDriver, require_gpu


def this_machine(flavour: str, device: str = "cuda") -> Machine:
    """What decides which engines load here; without a driver, or without that device, a machine without a GPU.

    Args:
        flavour: ``"tensorrt"`` or ``"tensorrt_rtx"``.
        device: ``"cuda"`` or ``"cuda:N"``.

    Raises:
        BackendError: That TensorRT is not installed.
    """
    package = require_package(flavour, lean_will_do=True)
    try:
        driver, gpu = require_gpu(device)
    except BackendError:
        return machine_of(package)
    return machine_of(package, driver, gpu)


def machine_of(package: Package, driver: InstalledDriver | None = None, gpu: Gpu | None = None) -> Machine:
    """The machine with these parts; None for what is not there."""
    return Machine(
        flavour=package.flavour,
        trt_version=package.version,
        cuda_version=package.cuda,
        driver_version="" if driver is None else driver.version,
        driver_cuda=None if driver is None else driver.cuda,
        sm="" if gpu is None else gpu.sm,
        gpu_name="" if gpu is None else gpu.name,
        lean=package.lean,
    )
