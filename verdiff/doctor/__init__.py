"""``verdiff doctor``: does this installation work on this machine, and on this device?

Every check is short, changes nothing and uses no network. What is missing without being asked for is a note; what has
to be mended before ``verdiff infer`` works here, or on the device that was named, is a problem.
"""

from __future__ import annotations

from pathlib import Path

from verdiff.doctor.device import check_device
from verdiff.doctor.engines import check_engines
from verdiff.doctor.gpu import check_driver, check_gpu_packages, check_tensorrt
from verdiff.doctor.inference import check_inference
from verdiff.doctor.models import check_models
from verdiff.doctor.report import BAD, GOOD, NOTE, Check, as_json, healthy, lines
from verdiff.doctor.system import check_disks, check_installation, check_memory, check_processor, check_training

__all__ = ["BAD", "GOOD", "NOTE", "Check", "as_json", "examine", "healthy", "lines"]


def examine(folder: Path | None = None, *, device: str = "cpu", model: str | None = None) -> list[Check]:
    """Every check, in the order of the report.

    Args:
        folder: Where results would go; None is the working folder.
        device: What is to be used: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        model: A shipped model's name or a bundle's path to check too; the shipped ones always are.

    Raises:
        BackendError: ``device`` names no device.
    """
    if device != "cpu":
        from verdiff.runtime.nvidia import device_index

        device_index(device)
    driver, driver_checks = check_driver(wanted=device != "cpu")
    return [
        check_installation(),
        check_processor(),
        check_memory(),
        *check_inference(driver),
        *driver_checks,
        *check_tensorrt(driver),
        check_gpu_packages(driver),
        *check_engines(driver, device),
        *check_models(model),
        check_training(),
        *check_disks(folder or Path.cwd()),
        *check_device(device),
    ]
