"""What the device path asks of a CUDA driver, and nothing more: the seam at which the tests put a driver of their own.

Pointers and streams are plain integers, as every CUDA library hands them around.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from verdiff.errors import BackendError

if TYPE_CHECKING:
    from verdiff.nvidia import Gpu

Pointer = int
Stream = int
Event = Any
Graph = Any
Kernel = Any
Argument = int | np.generic
"""An argument of a kernel: a plain integer is a pointer, everything else is a numpy scalar of the parameter's type."""

# After one of these the context and all that lives in it is gone, and so is the process's use of the device: in CUDA's
# words, "to continue using CUDA, the process must be terminated and relaunched".
LOST = frozenset(
    f"CUDA_ERROR_{name}"
    for name in (
        *("ILLEGAL_ADDRESS", "ILLEGAL_INSTRUCTION", "INVALID_ADDRESS_SPACE", "INVALID_PC", "MISALIGNED_ADDRESS"),
        *("LAUNCH_FAILED", "LAUNCH_TIMEOUT", "HARDWARE_STACK_ERROR", "ECC_UNCORRECTABLE", "NVLINK_UNCORRECTABLE"),
        *("ASSERT", "CONTAINED", "TENSOR_MEMORY_LEAK", "EXTERNAL_DEVICE", "DEVICE_UNAVAILABLE", "SYSTEM_NOT_READY"),
        *("CONTEXT_IS_DESTROYED", "DEINITIALIZED", "MPS_CLIENT_TERMINATED", "UNKNOWN"),
    )
)
RESTART = "restart the process: loading the Segmenter again in this one fails too"
_OLD = frozenset(
    f"CUDA_ERROR_{name}"
    for name in (
        *("CALL_REQUIRES_NEWER_DRIVER", "SYSTEM_DRIVER_MISMATCH", "INSUFFICIENT_LOADER_VERSION"),
        *("UNSUPPORTED_PTX_VERSION", "NO_BINARY_FOR_GPU", "COMPAT_NOT_SUPPORTED_ON_DEVICE"),
    )
)


class DeviceError(BackendError):
    """A driver call that failed.

    Attributes:
        call: What was asked of the driver.
        code: The CUDA error's name.
        lost: Whether the context is gone, so that the process must be started again.
    """

    def __init__(self, call: str, code: str) -> None:
        self.call, self.code, self.lost = call, code, code in LOST
        if self.lost:
            expected = "a device that stays there; this process cannot use it any more"
            remedy = f"{RESTART}; if it recurs, look at nvidia-smi and the system log for Xid errors"
        elif code == "CUDA_ERROR_OUT_OF_MEMORY":
            expected = "enough free device memory"
            remedy = "free device memory (nvidia-smi shows who holds it), or lower memory_mb, the samples or the scan"
        elif code in _OLD:
            expected, remedy = "a driver as new as the CUDA libraries", "update the NVIDIA driver; see 'verdiff doctor'"
        else:
            expected, remedy = "CUDA_SUCCESS", "run 'verdiff doctor'; if it finds nothing, report this message"
        super().__init__(f"{call}: {code}", expected, remedy)


class Driver(Protocol):
    """One device in one context. Every call raises :class:`DeviceError` when it fails."""

    @property
    def gpu(self) -> Gpu:
        """Which device it is."""
        ...

    @property
    def is_primary(self) -> bool:
        """Whether the context is the device's primary one, in which the CUDA runtime and what is built on it work."""
        ...

    def active(self, *, relaxed: bool = False) -> AbstractContextManager[None]:
        """Make the context current in this thread for a while; the caller's comes back after.

        ``relaxed`` allows what a capture of this very thread forbids, such as giving memory back: for whoever the
        garbage collector may call in the midst of one.
        """
        ...

    def memory(self) -> tuple[int, int]:
        """Free and total bytes of the device."""
        ...

    def allocate(self, size: int) -> Pointer:
        """``size`` bytes of device memory, aligned to 256."""
        ...

    def free(self, pointer: Pointer) -> None:
        """Give back what :meth:`allocate` gave."""
        ...

    def ordinal_of(self, pointer: Pointer) -> int | None:
        """N of the ``cuda:N`` whose memory ``pointer`` is in; None for memory that CUDA knows nothing of."""
        ...

    def allocate_pinned(self, size: int) -> NDArray[np.uint8]:
        """``size`` bytes of page-locked host memory."""
        ...

    def free_pinned(self, array: NDArray[np.uint8]) -> None:
        """Give back what :meth:`allocate_pinned` gave."""
        ...

    def open_stream(self, priority: int | None) -> Stream:
        """A stream that does not wait for the default one; lower numbers go first, None is the default priority."""
        ...

    def close_stream(self, stream: Stream) -> None:
        """Destroy what :meth:`open_stream` gave."""
        ...

    def open_event(self) -> Event:
        """An event without timing, whose wait sleeps rather than spins."""
        ...

    def close_event(self, event: Event) -> None:
        """Destroy what :meth:`open_event` gave."""
        ...

    def record(self, event: Event, stream: Stream) -> None:
        """Mark this place in ``stream``."""
        ...

    def wait(self, stream: Stream, event: Event) -> None:
        """Hold ``stream`` back, not the host, until ``event``."""
        ...

    def finish(self, event: Event) -> None:
        """Hold the host back until ``event``."""
        ...

    def passed(self, event: Event) -> bool:
        """Whether what ``event`` marks is done, or it marks nothing; nobody waits."""
        ...

    def synchronise(self, stream: Stream) -> None:
        """Hold the host back until all of ``stream`` is done."""
        ...

    def upload(self, target: Pointer, source: NDArray[Any], stream: Stream) -> None:
        """Pinned host memory to the device, in the order of ``stream``."""
        ...

    def download(self, target: NDArray[Any], source: Pointer, stream: Stream) -> None:
        """Device to pinned host memory, in the order of ``stream``."""
        ...

    def copy(self, target: Pointer, source: Pointer, size: int, stream: Stream) -> None:
        """``size`` bytes within the device, in the order of ``stream``."""
        ...

    def clear(self, target: Pointer, size: int, stream: Stream) -> None:
        """Set ``size`` bytes to zero, in the order of ``stream``."""
        ...

    def begin_capture(self, stream: Stream) -> None:
        """Begin to write down what is enqueued on ``stream``, instead of running it."""
        ...

    def end_capture(self, stream: Stream, *, keep: bool = True) -> Graph:
        """What was written down, ready to launch; ``keep=False`` throws it away after an error."""
        ...

    def launch_graph(self, graph: Graph, stream: Stream) -> None:
        """Run a graph in the order of ``stream``."""
        ...

    def close_graph(self, graph: Graph) -> None:
        """Destroy what :meth:`end_capture` gave."""
        ...

    def compile(self, source: str, names: Iterable[str], macros: dict[str, str]) -> dict[str, Kernel]:
        """The kernels ``names`` of a CUDA C source; without fused multiply-add, as numpy rounds."""
        ...

    def launch(self, kernel: Kernel, threads: int, arguments: tuple[Argument, ...], stream: Stream) -> None:
        """Run a kernel on at least ``threads`` threads, in the order of ``stream``."""
        ...
