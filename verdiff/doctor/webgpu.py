"""A GPU of any make: does it compute, and in FP16 too?"""

from __future__ import annotations

from verdiff.doctor.inference import DOUBLING_MODEL
from verdiff.doctor.report import BAD, GOOD, Check, refused
from verdiff.errors import BackendError

# The number of the type of its tensors, float32 and float16, where it stands in the model of one node.
FLOAT, HALF = bytes.fromhex("0a08080112"), bytes.fromhex("0a08080a12")


def check_webgpu_device(device: str) -> list[Check]:
    """2 + 2 on the device through ONNX Runtime's WebGPU provider, in FP32 and in FP16.

    Args:
        device: ``"webgpu"`` or ``"webgpu:software"``.
    """
    name = f"device {device}"
    try:
        adapter = double_on_webgpu(device)
    except BackendError as error:
        return [refused(name, BAD, error)]
    try:
        double_on_webgpu(device, half=True)
    except BackendError:
        # FP32 is what is asked for where nobody names a precision.
        return [Check(name, GOOD, f"{adapter}: works in FP32; its driver has no FP16")]
    return [Check(name, GOOD, f"{adapter}: works in FP32 and FP16")]


def double_on_webgpu(device: str, *, half: bool = False) -> str:
    """Compute 2 + 2, and name the adapter.

    Raises:
        BackendError: There is no such device, or it does not compute, or wrongly.
    """
    import numpy as np

    from verdiff.runtime.backends.webgpu import run_on

    graph = DOUBLING_MODEL.replace(FLOAT, HALF) if half else DOUBLING_MODEL
    (answer,), adapter = run_on(device, graph, {"a": np.array([2], np.float16 if half else np.float32)})
    if float(answer[0]) != 4.0:
        raise BackendError(f"{adapter} computes 2 + 2 = {answer[0]}", "4", "update the GPU's driver")
    return adapter
