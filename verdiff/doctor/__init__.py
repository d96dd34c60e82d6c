"""``verdiff doctor``: does this installation work on this machine, and on this device?

Every check is short, changes nothing and uses no network. What is missing without being asked for is a note; what has
to be mended before ``verdiff infer`` works here, or on the device that was named, is a problem.
"""

from __future__ import annotations

import re
from pathlib import Path

from verdiff.choices import DEVICE, DEVICE_WORDS, WEBGPU_DEVICES
from verdiff.doctor.device import check_device
from verdiff.doctor.gpu import check_driver, check_gpu_packages
from verdiff.doctor.inference import check_inference
from verdiff.doctor.models import check_models
from verdiff.doctor.report import BAD, GOOD, NOTE, Check, as_json, healthy, lines
from verdiff.doctor.system import check_disks, check_installation, check_memory, check_processor, check_training
from verdiff.doctor.webgpu import check_webgpu_device
from verdiff.options import TrustOptions

__all__ = ["BAD", "GOOD", "NOTE", "Check", "as_json", "examine", "healthy", "lines"]


def examine(
    folder: Path | None = None, *, device: str = "cpu", model: str | None = None, trust: TrustOptions | None = None
) -> list[Check]:
    """Every check, in the order of the report.

    Args:
        folder: Where results would go; None is the working folder.
        device: What is to be used, as for :meth:`verdiff.runtime.Segmenter.load`; another name is a problem of the
            report.
        model: A shipped model's name or a bundle's path to check too; the shipped ones always are.
        trust: Which bundle that must be; where none is named, the default model.
    """
    from verdiff.engines.doctor.cache import check_engines
    from verdiff.engines.doctor.installed import check_tensorrt, find_tensorrt

    models = check_models(model, trust)
    if trust not in (None, TrustOptions()) and any(check.state == BAD for check in models):
        # What is not trusted is not run.
        model = None
    named = []
    if re.fullmatch(DEVICE, device) is None:
        named = [Check(f"device {device}", BAD, "names no device", f"choose {DEVICE_WORDS}")]
    elif device in WEBGPU_DEVICES:
        named = check_webgpu_device(device)
    needed = device == "cpu" or bool(named)
    # NVIDIA's side is looked at for one of its own devices.
    cuda = "cpu" if needed else device
    driver, driver_checks = check_driver(wanted=not needed)
    there = find_tensorrt(driver, cuda)
    cache = check_engines(driver, there, cuda)
    return [
        check_installation(),
        check_processor(),
        check_memory(),
        *check_inference(driver, needed=needed),
        *driver_checks,
        *check_tensorrt(driver, there),
        check_gpu_packages(driver),
        *cache.checks,
        *models,
        check_training(),
        *check_disks(folder),
        *named,
        *check_device(cuda, there, cache.loading, model),
    ]
