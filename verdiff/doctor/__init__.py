"""``verdiff doctor``: does this installation work on this machine, and on this device?

Every check is short, changes nothing and uses no network. What is missing without being asked for is a note; what has
to be mended before ``verdiff infer`` works here, or on the device that was named, is a problem.
"""

from __future__ import annotations

from pathlib import Path

from verdiff.doctor.device import check_device
from verdiff.doctor.gpu import check_driver, check_gpu_packages
from verdiff.doctor.inference import check_inference
from verdiff.doctor.models import check_models
from verdiff.doctor.report import BAD, GOOD, NOTE, Check, as_json, healthy, lines
from verdiff.doctor.system import check_disks, check_installation, check_memory, check_processor, check_training
from verdiff.errors import BackendError

__all__ = ["BAD", "GOOD", "NOTE", "Check", "as_json", "examine", "healthy", "lines"]


def examine(folder: Path | None = None, *, device: str = "cpu", model: str | None = None) -> list[Check]:
    """Every check, in the order of the report.

    Args:
        folder: Where results would go; None is the working folder.
        device: What is to be used: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``; another name is a problem of the report.
        model: A shipped model's name or a bundle's path to check too; the shipped ones always are.
    """
    from verdiff.engines.doctor.cache import check_engines
    from verdiff.engines.doctor.installed import check_tensorrt, find_tensorrt

    refusal = []
    if device != "cpu":
        from verdiff.nvidia import device_index

        try:
            device_index(device)
        except BackendError as error:
            remedy = f"choose {error.expected}, or cpu"
            refusal, device = [Check(f"device {device}", BAD, "names no device", remedy)], "cpu"
    driver, driver_checks = check_driver(wanted=device != "cpu")
    there = find_tensorrt(driver, device)
    cache = check_engines(driver, there, device)
    return [
        check_installation(),
        check_processor(),
        check_memory(),
        *check_inference(driver, needed=device == "cpu"),
        *driver_checks,
        *check_tensorrt(driver, there),
        check_gpu_packages(driver),
        *cache.checks,
        *check_models(model),
        check_training(),
        *check_disks(folder),
        *refusal,
        *check_device(device, there, cache.loading, model),
    ]
