"""The device that was named: whether there is a way to run on it, tried rather than assumed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from verdiff.doctor.inference import DOUBLING_MODEL
from verdiff.doctor.report import BAD, GOOD, Check, refused, version_of
from verdiff.errors import BackendError


def check_device(device: str) -> list[Check]:
    """Nothing for the CPU, whose backends are always tried; else the GPU's number, and 2 + 2 on it."""
    if device == "cpu":
        return []
    from verdiff.bundle.engines import installed_flavours
    from verdiff.runtime.nvidia import require_gpu

    name = f"device {device}"
    try:
        require_gpu(device)
    except BackendError as error:
        return [refused(name, BAD, error)]
    if version_of("onnxruntime-gpu") is not None:
        return [_tried(name, lambda: double_on_gpu(device))]
    flavours = installed_flavours()
    if flavours:
        return [Check(name, GOOD, f"there; runs engines of {' and '.join(flavours)} ('verdiff build' makes them)")]
    return [Check(name, BAD, "there, and nothing is installed that runs on it", "pip install 'verdiff[gpu]'")]


def double_on_gpu(device: str) -> float:
    """2 + 2 through ONNX Runtime's CUDA provider.

    Raises:
        BackendError: The provider is not there, or the sum went to the CPU.
    """
    import numpy as np
    import onnxruntime

    from verdiff.runtime.backends.onnxruntime import open_session
    from verdiff.runtime.backends.providers import CUDA, provider_options, require_placement, require_provider

    module: Any = onnxruntime
    require_provider(module, CUDA, device)
    options = provider_options(CUDA, device, graphs=False)
    session = open_session(module, DOUBLING_MODEL, "doubling", device, options, threads=1)
    require_placement(session, CUDA, "doubling", device, module.__version__)
    return float(session.run(None, {"a": np.array([2], np.float32)})[0][0])


def _tried(name: str, double: Callable[[], float]) -> Check:
    try:
        answer = double()
    except BackendError as error:
        return refused(name, BAD, error)
    if answer != 4.0:
        return Check(name, BAD, f"computes 2 + 2 = {answer}", "look at nvidia-smi and the system log for Xid errors")
    return Check(name, GOOD, "works through ONNX Runtime's CUDA provider")
