"""What ONNX Runtime's GPU providers are refused, and what a run of theirs that failed means."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from verdiff.errors import BackendError
from verdiff.nvidia import device_index
from verdiff.runtime.backends.providers import TENSORRT, Provider

if TYPE_CHECKING:
    from verdiff.runtime.device.driver import Driver

# cudaErrorStreamCaptureUnsupported (900) and those after it, or what ONNX Runtime says of its own captures.
CAPTURE = re.compile(r"CUDA failure 90\d|captur", re.IGNORECASE)


def require_precision(provider: Provider, precision: str) -> None:
    """Refuse what a provider would not compute as asked.

    Raises:
        BackendError: fp16 on TensorRT's provider, which is free to compute a graph's FP32 islands in FP16 too.
    """
    if provider is TENSORRT and precision != "fp32":
        raise BackendError(
            f"precision {precision} with ONNX Runtime's TensorRT provider",
            "a precision that is held: this provider may compute the layers that must stay fp32 in fp16",
            "use --backend tensorrt (strongly typed engines) or --backend onnxruntime",
        )


def require_primary(driver: Driver, device: str) -> None:
    """Refuse a context that ONNX Runtime would not work in.

    Raises:
        BackendError: The context is not the device's primary one, which ONNX Runtime makes current by itself.
    """
    if driver.is_primary:
        return
    number = device_index(device)
    raise BackendError(
        f"a CUDA context on {device} that a program made for itself; ONNX Runtime works in the device's primary "
        "context instead, with this one's streams and memory",
        "the device's primary context",
        "use --backend tensorrt, which works in any context; or have the primary context current when loading "
        f"(pycuda: pycuda.driver.Device({number}).retain_primary_context() for make_context(), or "
        "pycuda.autoprimaryctx for pycuda.autoinit)",
    )


def replays(provider: Provider, asked: bool | None) -> bool:
    """Whether runs are to be CUDA graphs; None is where the provider can.

    Raises:
        BackendError: They were asked for, and the provider does not tell bindings apart.
    """
    if asked and not provider.captured_within:
        raise BackendError(
            f"CUDA graphs with ONNX Runtime's {provider.title} provider, which keeps one and replays it for every step",
            "a graph for each step's addresses",
            "leave graphs out, or use --backend onnxruntime or tensorrt",
        )
    return bool(provider.captured_within) if asked is None else asked


def of_a_capture(said: str) -> bool:
    """Whether an error is one of CUDA's captures."""
    return CAPTURE.search(said) is not None


def capture_failed(version: str, device: str, said: str) -> BackendError:
    """A capture of ONNX Runtime's own that went wrong."""
    return BackendError(
        f"onnxruntime {version} could not capture a CUDA graph on {device}: {said}",
        "no other thread that takes device memory or waits for the device while a graph is captured",
        "load the Segmenter again, and keep the program's other threads off CUDA until its first call of each size is "
        "done; or load it without CUDA graphs (Segmenter.load(..., graphs=False))",
    )


def run_failed(version: str, device: str, said: str) -> BackendError:
    """A run that went wrong."""
    if of_a_capture(said):
        return BackendError(
            f"onnxruntime {version} failed on {device} while another thread captured a CUDA graph: {said}",
            "a process in which no other library captures in CUDA's global mode",
            "call again when that capture is over, or capture in the thread-local mode",
        )
    if "memory" in said.lower():
        return BackendError(
            f"onnxruntime {version} failed on {device}: {said}",
            "enough free device memory",
            "free device memory (nvidia-smi shows who holds it), or lower the samples or the scan",
        )
    return BackendError(
        f"onnxruntime {version} failed on {device}: {said}",
        "a run without errors",
        f"run 'verdiff doctor --device {device}'; look at nvidia-smi and the system log for Xid errors, and load the "
        "Segmenter again",
    )
