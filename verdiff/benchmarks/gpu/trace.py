"""What the device did in one loop: how much of the time it was busy, and what the host asked of it meanwhile.

PyTorch's profiler listens to the whole process, so it sees the kernels of every library in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from verdiff.errors import BackendError

# Calls of the CUDA runtime and driver that a loop on the device must not make, by what they begin with.
WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "cuStreamSynchronize", "cuCtxSync")
COPIES = ("cudaMemcpy", "cuMemcpy")
ALLOCATIONS = ("cudaMalloc", "cudaFree", "cuMemAlloc", "cuMemFree", "cudaHostAlloc")
MICROSECONDS = 1e-6


@dataclass(frozen=True)
class Trace:
    """One loop of some steps.

    Attributes:
        steps: How many.
        span_s: Seconds from the first kernel's beginning to the last one's end.
        busy_s: How much of that some kernel ran.
        calls: How often the host waited for the device, copied, and allocated or freed.
    """

    steps: int
    span_s: float
    busy_s: float
    calls: Mapping[str, int]

    @property
    def busy_share(self) -> float:
        """Share of the span in which the GPU was busy; 1 where there is no span."""
        return self.busy_s / self.span_s if self.span_s > 0 else 1.0

    @property
    def idle_a_step_s(self) -> float:
        """Seconds that nothing ran, a step."""
        return (self.span_s - self.busy_s) / self.steps


def make_trace(kernels: Iterable[tuple[float, float]], calls: Iterable[str], steps: int) -> Trace:
    """A trace from the kernels' (begin, end) in seconds and the names of the host's calls."""
    intervals = sorted(kernels)
    busy, reached = 0.0, float("-inf")
    for begin, end in intervals:
        busy += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    span = reached - intervals[0][0] if intervals else 0.0
    kinds = {"waits": WAITS, "copies": COPIES, "allocations": ALLOCATIONS}
    counted = Counter(kind for name in calls for kind, begins in kinds.items() if name.startswith(begins))
    return Trace(steps, span, busy, {kind: counted[kind] for kind in kinds})


def trace_loop(loop: Callable[[], object], steps: int) -> Trace:
    """Run ``loop`` once under PyTorch's profiler.

    Raises:
        BackendError: There is no PyTorch with CUDA to listen with.
    """
    torch = cuda_torch()
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        loop()
        torch.cuda.synchronize()
    on_device = torch.autograd.DeviceType.CUDA
    kernels, calls = [], []
    for event in profiler.events():
        if event.device_type == on_device:
            begin, end = event.time_range.start, event.time_range.end
            kernels.append((begin * MICROSECONDS, end * MICROSECONDS))
        else:
            calls.append(event.name)
    return make_trace(kernels, calls, steps)


def cuda_torch() -> Any:
    """PyTorch, if it is there and drives a GPU.

    Raises:
        BackendError: It is not.
    """
    try:
        import torch
    except ImportError as error:
        raise BackendError("torch is not installed", "PyTorch with CUDA", "pip install torch") from error
    if not torch.cuda.is_available():
        raise BackendError(
            f"torch {torch.__version__} finds no GPU",
            "a CUDA build of PyTorch for this driver",
            "install PyTorch's CUDA build, or read this row as missing",
        )
    return torch
