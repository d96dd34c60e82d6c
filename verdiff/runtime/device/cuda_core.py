"""The :class:`~verdiff.runtime.device.driver.Driver` of real devices, on NVIDIA's cuda-core and cuda-bindings."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from verdiff.errors import BackendError
from verdiff.extras import install
from verdiff.nvidia import require_gpu
from verdiff.runtime.device.driver import Argument, DeviceError, Event, Graph, Kernel, Pointer, Stream

if TYPE_CHECKING:
    from verdiff.nvidia import Gpu

BLOCK = 256
# Other threads of the host may allocate while this one writes a graph down.
CAPTURE_MODE = "thread_local"
# Of streams that are not ours, whose end nobody tells us.
MOST_STREAMS = 16


def open_driver(device: str) -> CudaCore:
    """The driver of ``device`` (``"cuda"`` or ``"cuda:N"``), asked before anything of CUDA is loaded.

    The context is the one current in this thread if it is of that device, so that a host's own pointers work; else the
    device's primary context, which CuPy, PyTorch and the CUDA runtime share.

    Raises:
        BackendError: No driver, no such device, or cuda-core is not installed.
    """
    _, gpu = require_gpu(device)
    try:
        core, bindings = import_module("cuda.core"), import_module("cuda.bindings.driver")
    except ImportError as error:
        raise BackendError(
            f"cuda-core cannot be imported ({error})",
            "cuda-core and cuda-bindings, which drive the device",
            install("gpu", "tensorrt", "tensorrt-rtx"),
        ) from error
    return CudaCore(gpu, core, bindings)


class CudaCore:
    """One device in one context.

    Args:
        gpu: Which device.
        core: The module ``cuda.core``.
        bindings: The module ``cuda.bindings.driver``.
    """

    def __init__(self, gpu: Gpu, core: Any, bindings: Any) -> None:
        self.gpu, self._core, self._cu = gpu, core, bindings
        self._call("cuInit", 0)
        device = self._call("cuDeviceGet", gpu.index)
        current = self._call("cuCtxGetCurrent")
        theirs = int(current) != 0 and int(self._call("cuCtxGetDevice")) == int(device)
        # To ask for the primary context is to make it, which a program with a context of its own should not pay for.
        _, there = self._call("cuDevicePrimaryCtxGetState", device) if theirs else (0, 1)
        primary = self._call("cuDevicePrimaryCtxRetain", device) if there else 0
        self._context = current if theirs else primary
        self.is_primary = int(self._context) == int(primary)
        if there and not self.is_primary:
            self._call("cuDevicePrimaryCtxRelease", device)
        modes = bindings.CUstreamCaptureMode
        self._capture_modes = (modes.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL, modes.CU_STREAM_CAPTURE_MODE_RELAXED)
        self._captures: dict[Stream, Any] = {}
        self._streams: dict[Stream, Any] = {}

    @contextmanager
    def active(self, *, relaxed: bool = False) -> Iterator[None]:
        """Make the context current in this thread for a while; the caller's comes back after.

        ``relaxed`` allows what a capture of this very thread forbids, such as giving memory back.
        """
        self._call("cuCtxPushCurrent", self._context)
        try:
            # ONNX Runtime and others capture in CUDA's global mode, in which calls that may wait (taking memory, asking
            # an event) fail in every thread but those that say that captures elsewhere are none of their business.
            mode = self._call("cuThreadExchangeStreamCaptureMode", self._capture_modes[relaxed])
            try:
                yield
            finally:
                self._cu.cuThreadExchangeStreamCaptureMode(mode)
        finally:
            self._cu.cuCtxPopCurrent()

    def memory(self) -> tuple[int, int]:
        """Free and total bytes of the device."""
        free, total = self._call("cuMemGetInfo")
        return int(free), int(total)

    def allocate(self, size: int) -> Pointer:
        """``size`` bytes of device memory, aligned to 256."""
        return int(self._call("cuMemAlloc", size))

    def free(self, pointer: Pointer) -> None:
        """Give back what :meth:`allocate` gave."""
        self._call("cuMemFree", pointer)

    def ordinal_of(self, pointer: Pointer) -> int | None:
        """N of the ``cuda:N`` whose memory ``pointer`` is in; None for memory that CUDA knows nothing of."""
        ordinal = self._cu.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
        try:
            return int(self._call("cuPointerGetAttribute", ordinal, pointer))
        except DeviceError as error:
            if error.code != "CUDA_ERROR_INVALID_VALUE":
                raise
            return None

    def allocate_pinned(self, size: int) -> NDArray[np.uint8]:
        """``size`` bytes of page-locked host memory."""
        address = int(self._call("cuMemAllocHost", size))
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))

    def free_pinned(self, array: NDArray[np.uint8]) -> None:
        """Give back what :meth:`allocate_pinned` gave."""
        self._call("cuMemFreeHost", array.ctypes.data)

    def open_stream(self, priority: int | None) -> Stream:
        """A stream that does not wait for the default one; lower numbers go first, None is the default priority."""
        flags = int(self._cu.CUstream_flags.CU_STREAM_NON_BLOCKING)
        return int(self._call("cuStreamCreateWithPriority", flags, 0 if priority is None else priority))

    def close_stream(self, stream: Stream) -> None:
        """Destroy what :meth:`open_stream` gave."""
        self._streams.pop(stream, None)
        self._call("cuStreamDestroy", stream)

    def open_event(self) -> Event:
        """An event without timing, whose wait sleeps rather than spins."""
        flags = self._cu.CUevent_flags
        return self._call("cuEventCreate", int(flags.CU_EVENT_DISABLE_TIMING) | int(flags.CU_EVENT_BLOCKING_SYNC))

    def close_event(self, event: Event) -> None:
        """Destroy what :meth:`open_event` gave."""
        self._call("cuEventDestroy", event)

    def record(self, event: Event, stream: Stream) -> None:
        """Mark this place in ``stream``."""
        self._call("cuEventRecord", event, stream)

    def wait(self, stream: Stream, event: Event) -> None:
        """Hold ``stream`` back, not the host, until ``event``."""
        self._call("cuStreamWaitEvent", stream, event, 0)

    def finish(self, event: Event) -> None:
        """Hold the host back until ``event``."""
        self._call("cuEventSynchronize", event)

    def passed(self, event: Event) -> bool:
        """Whether what ``event`` marks is done, or it marks nothing; nobody waits."""
        try:
            self._call("cuEventQuery", event)
        except DeviceError as error:
            if error.code != "CUDA_ERROR_NOT_READY":
                raise
            return False
        return True

    def synchronise(self, stream: Stream) -> None:
        """Hold the host back until all of ``stream`` is done."""
        self._call("cuStreamSynchronize", stream)

    def upload(self, target: Pointer, source: NDArray[Any], stream: Stream) -> None:
        """Pinned host memory to the device, in the order of ``stream``."""
        self._call("cuMemcpyHtoDAsync", target, source.ctypes.data, source.nbytes, stream)

    def download(self, target: NDArray[Any], source: Pointer, stream: Stream) -> None:
        """Device to pinned host memory, in the order of ``stream``."""
        self._call("cuMemcpyDtoHAsync", target.ctypes.data, source, target.nbytes, stream)

    def copy(self, target: Pointer, source: Pointer, size: int, stream: Stream) -> None:
        """``size`` bytes within the device, in the order of ``stream``."""
        self._call("cuMemcpyDtoDAsync", target, source, size, stream)

    def clear(self, target: Pointer, size: int, stream: Stream) -> None:
        """Set ``size`` bytes to zero, in the order of ``stream``."""
        self._call("cuMemsetD8Async", target, 0, size, stream)

    def begin_capture(self, stream: Stream) -> None:
        """Begin to write down what is enqueued on ``stream``, instead of running it."""
        builder = self._stream(stream).create_graph_builder()
        self._named("begin capture", builder.begin_building, CAPTURE_MODE)
        self._captures[stream] = builder

    def end_capture(self, stream: Stream, *, keep: bool = True) -> Graph:
        """What was written down, ready to launch; ``keep=False`` throws it away after an error."""
        builder = self._captures.pop(stream)
        try:
            if not keep:
                return None
            self._named("end capture", builder.end_building)
            return self._named("make a graph of the capture", builder.complete)
        finally:
            # Closing ends a capture that is still open, and complains once more of one that went wrong.
            with suppress(DeviceError):
                self._named("close the capture", builder.close)

    def launch_graph(self, graph: Graph, stream: Stream) -> None:
        """Run a graph in the order of ``stream``."""
        self._call("cuGraphLaunch", graph.handle, stream)

    def close_graph(self, graph: Graph) -> None:
        """Destroy what :meth:`end_capture` gave."""
        graph.close()

    def compile(self, source: str, names: Iterable[str], macros: dict[str, str]) -> dict[str, Kernel]:
        """The kernels ``names`` of a CUDA C source; without fused multiply-add, as numpy rounds."""
        arguments = self._core, source, f"sm_{self.gpu.sm}", tuple(macros.items())
        code = self._core.ObjectCode.from_cubin(self._named("compile the kernels", compile_cubin, *arguments))
        return {name: self._named(f"load the kernel {name}", code.get_kernel, name) for name in names}

    def launch(self, kernel: Kernel, threads: int, arguments: tuple[Argument, ...], stream: Stream) -> None:
        """Run a kernel on at least ``threads`` threads, in the order of ``stream``."""
        config = self._core.LaunchConfig(grid=-(-threads // BLOCK), block=BLOCK)
        self._named("launch a kernel", self._core.launch, self._stream(stream), config, kernel, *arguments)

    def _stream(self, handle: Stream) -> Any:
        """cuda-core's object of a stream: it costs more than a launch to make, and leaves cycles behind."""
        known = self._streams.get(handle)
        if known is None:
            if len(self._streams) >= MOST_STREAMS:
                self._streams.pop(next(iter(self._streams)))
            known = self._streams[handle] = self._core.Stream.from_handle(handle)
        return known

    def _call(self, name: str, *arguments: Any) -> Any:
        """One function of the driver's C interface."""
        try:
            status, *results = getattr(self._cu, name)(*arguments)
        except RuntimeError as error:
            # cuda-bindings' word for a function that this driver does not have yet.
            raise DeviceError(f"{name} ({error})", "CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER") from error
        if status != self._cu.CUresult.CUDA_SUCCESS:
            raise DeviceError(f"{name} on cuda:{self.gpu.index} ({self.gpu.name})", status.name)
        return results[0] if len(results) == 1 else tuple(results)

    def _named(self, what: str, call: Callable[..., Any], *arguments: Any) -> Any:
        """One call of cuda-core, whose errors begin with the CUDA error's name."""
        try:
            return call(*arguments)
        except Exception as error:
            # Missing libraries, compiler messages and driver errors all come as exceptions of their own kinds.
            lines = str(error).strip().splitlines() or [type(error).__name__]
            code = lines[0].partition(":")[0] if lines[0].startswith("CUDA_ERROR_") else lines[0]
            raise DeviceError(f"{what} on cuda:{self.gpu.index} ({self.gpu.name})", code) from error


@lru_cache(maxsize=8)
def compile_cubin(core: Any, source: str, architecture: str, macros: tuple[tuple[str, str], ...]) -> bytes:
    """A CUDA C source compiled by NVRTC; needs no device. Kept, since it takes a second and never changes.

    Args:
        core: The module ``cuda.core``.
        source: CUDA C.
        architecture: Name of the architecture, such as ``"sm_90"``.
        macros: Names and values.
    """
    # cuda-core does not take an empty list of macros.
    options = core.ProgramOptions(arch=architecture, fma=False, define_macro=list(macros) or None)
    return bytes(core.Program(source, "c++", options).compile("cubin").code)
