"""A CUDA driver without a device: numpy memory behind made-up pointers, streams that run late, graphs that replay.

It is stricter than a device where a device would only sometimes go wrong. Work put on a stream runs when somebody waits
for it and not before, so a result read too early or a staging buffer written too early shows. Fresh memory is all NaN.
An access outside an allocation, a copy that is not page-locked, or a call in no context fails. Every call is written
down, and any one of them can be made to fail.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import local
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.runtime.device.numpy_kernels import KERNELS
from verdiff.nvidia import Gpu
from verdiff.runtime.device.driver import Argument, DeviceError

Work = Callable[[], None]

GPU = Gpu(0, "Null GPU", "90", 64 << 20, 64 << 20)
FIRST_POINTER = 0x7F0000000000
HOST_STREAM = 7  # a host program has one of its own
KINDS = {"int": np.int32, "word": np.uint32, "wide": np.uint64, "float": np.float32}


@dataclass
class Captured:
    """A graph: work to do again."""

    work: list[Work]
    closed: bool = False


@dataclass
class Queue:
    """A stream: work not yet done, and how much was."""

    waiting: deque[Work] = field(default_factory=deque)
    done: int = 0

    def run_to(self, place: int) -> None:
        while self.done < place:
            self.done += 1
            self.waiting.popleft()()


@dataclass
class Mark:
    """An event: how far a stream must have come, be it destroyed since or not."""

    queue: Queue = field(default_factory=Queue)
    place: int = 0
    closed: bool = False


@dataclass
class Given:
    """What a host program hands over: ``__cuda_array_interface__`` and nothing else."""

    pointer: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    strides: tuple[int, ...] | None = None
    stream: int | None = None

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        data = (self.pointer, False)
        return {"shape": self.shape, "typestr": self.dtype.str, "data": data, "version": 3, **self._more()}

    def _more(self) -> dict[str, Any]:
        return {"strides": self.strides, "stream": self.stream}


class NullDriver:
    """See :class:`verdiff.runtime.device.driver.Driver`.

    Attributes:
        calls: Every call made, in order.
        fail_at: Number of the call that fails, or None.
        code: With which CUDA error.
        total: Bytes of device memory there are.
        is_primary: As of a device's.
        elsewhere: N of the ``cuda:N`` of pointers that are not this device's.
    """

    is_primary = True

    def __init__(self, *, fail_at: int | None = None, code: str = "CUDA_ERROR_INVALID_VALUE", total: int = 64 << 20):
        self.gpu, self.calls, self.total = GPU, [], total
        self.fail_at, self.code = fail_at, code
        self.device: dict[int, NDArray[np.uint8]] = {}
        self.pinned: dict[int, NDArray[np.uint8]] = {}
        self.streams: dict[int, Queue] = {HOST_STREAM: Queue()}
        self.elsewhere: dict[int, int] = {}
        self._destroyed: list[Queue] = []
        self.events: list[Mark] = []
        self.graphs: list[Captured] = []
        self.capturing: dict[int, list[Work]] = {}
        self.signatures: dict[str, list[str]] = {}
        self.macros: dict[str, str] = {}
        self._next, self._context = FIRST_POINTER, local()

    @property
    def held(self) -> dict[str, int]:
        """What is taken and not given back."""
        return {
            "device": len(self.device),
            "pinned": len(self.pinned),
            "streams": len(self.streams) - 1,
            "events": sum(not event.closed for event in self.events),
            "graphs": sum(not graph.closed for graph in self.graphs),
            "captures": len(self.capturing),
        }

    @property
    def names(self) -> list[str]:
        """Every call made, without what it was given."""
        return [call.split(" ")[0] for call in self.calls]

    @contextmanager
    def active(self, *, relaxed: bool = False) -> Iterator[None]:
        self._context.depth = getattr(self._context, "depth", 0) + 1
        try:
            yield
        finally:
            self._context.depth -= 1

    def memory(self) -> tuple[int, int]:
        self._note("memory")
        return self.total - sum(block.size for block in self.device.values()), self.total

    def allocate(self, size: int) -> int:
        self._note("allocate", size)
        if sum(block.size for block in self.device.values()) + size > self.total:
            raise DeviceError("allocate", "CUDA_ERROR_OUT_OF_MEMORY")
        pointer = self._reserve(size)
        self.device[pointer] = np.full(size, 0xFF, np.uint8)
        return pointer

    def free(self, pointer: int) -> None:
        self._note("free")
        # As a device does: what was put on streams is done first.
        for queue in (*self.streams.values(), *self._destroyed):
            queue.run_to(queue.done + len(queue.waiting))
        del self.device[pointer]

    def ordinal_of(self, pointer: int) -> int | None:
        self._note("ordinal_of")
        here = any(base <= pointer < base + block.size for base, block in self.device.items())
        return GPU.index if here else self.elsewhere.get(pointer)

    def allocate_pinned(self, size: int) -> NDArray[np.uint8]:
        self._note("allocate_pinned", size)
        array = np.full(size, 0xFF, np.uint8)
        self.pinned[array.ctypes.data] = array
        return array

    def free_pinned(self, array: NDArray[np.uint8]) -> None:
        self._note("free_pinned")
        del self.pinned[array.ctypes.data]

    def open_stream(self, priority: int | None) -> int:
        self._note("open_stream", priority)
        stream = 1000 + len(self.calls)
        self.streams[stream] = Queue()
        return stream

    def close_stream(self, stream: int) -> None:
        self._note("close_stream")
        self.destroy(stream)

    def destroy(self, stream: int) -> None:
        """As a host destroys a stream of its own; what was put on it is done all the same."""
        self._destroyed.append(self.streams.pop(stream))

    def open_event(self) -> Mark:
        self._note("open_event")
        self.events.append(Mark())
        return self.events[-1]

    def close_event(self, event: Mark) -> None:
        self._note("close_event")
        assert not event.closed
        event.closed = True

    def record(self, event: Mark, stream: int) -> None:
        self._note("record")
        assert stream not in self.capturing and not event.closed
        queue = self.streams[stream]
        event.queue, event.place = queue, queue.done + len(queue.waiting)

    def wait(self, stream: int, event: Mark) -> None:
        assert not event.closed
        other, place = event.queue, event.place
        self._put("wait", stream, lambda: other.run_to(place))

    def finish(self, event: Mark) -> None:
        self._note("finish")
        assert not event.closed
        event.queue.run_to(event.place)

    def passed(self, event: Mark) -> bool:
        self._note("passed")
        assert not event.closed
        return event.queue.done >= event.place

    def synchronise(self, stream: int) -> None:
        self._note("synchronise")
        assert stream not in self.capturing, "synchronised while capturing"
        queue = self.streams[stream]
        queue.run_to(queue.done + len(queue.waiting))

    def upload(self, target: int, source: NDArray[Any], stream: int) -> None:
        self._check_pinned(source)
        self._put("upload", stream, lambda: self._write(target, np.asarray(source).view(np.uint8)))

    def download(self, target: NDArray[Any], source: int, stream: int) -> None:
        self._check_pinned(target)
        self._put("download", stream, lambda: np.copyto(target, self.view(source, target.dtype, target.shape)))

    def copy(self, target: int, source: int, size: int, stream: int) -> None:
        self._put("copy", stream, lambda: self._write(target, self.view(source, np.uint8, (size,))))

    def clear(self, target: int, size: int, stream: int) -> None:
        self._put("clear", stream, lambda: self._write(target, np.zeros(size, np.uint8)))

    def begin_capture(self, stream: int) -> None:
        self._note("begin_capture")
        self.capturing[stream] = []

    def end_capture(self, stream: int, *, keep: bool = True) -> Captured | None:
        work = self.capturing.pop(stream)
        self._note("end_capture", keep)
        if not keep:
            return None
        self.graphs.append(Captured(work))
        return self.graphs[-1]

    def launch_graph(self, graph: Captured, stream: int) -> None:
        def replay() -> None:
            for work in graph.work:
                work()

        assert not graph.closed
        self._put("launch_graph", stream, replay, len(graph.work))

    def close_graph(self, graph: Captured) -> None:
        self._note("close_graph")
        graph.closed = True

    def compile(self, source: str, names: Iterable[str], macros: dict[str, str]) -> dict[str, str]:
        self._note("compile")
        self.macros, self.signatures = macros, signatures(source)
        return {name: name for name in names}

    def launch(self, kernel: str, threads: int, arguments: tuple[Argument, ...], stream: int) -> None:
        self.check_arguments(kernel, arguments, self.signatures[kernel])
        run = KERNELS[kernel]
        self._put(f"launch:{kernel}", stream, lambda: run(self, threads, *arguments))

    def check_arguments(self, kernel: str, arguments: tuple[Argument, ...], wanted: list[str]) -> None:
        """That a kernel is given what its declaration says, in the types that cuda-core passes on."""
        assert len(arguments) == len(wanted), f"{kernel} takes {len(wanted)} arguments"
        for argument, kind in zip(arguments, wanted, strict=True):
            right = type(argument) is (int if kind.endswith("*") else KINDS[kind])
            assert right, f"{kernel}: {argument!r} for {kind}"

    def view(self, pointer: int, dtype: Any, shape: tuple[int, ...]) -> NDArray[Any]:
        """The memory behind a pointer, as an array that writes through."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        for base, block in self.device.items():
            if base <= pointer and pointer + size <= base + block.size:
                return block[pointer - base : pointer - base + size].view(dtype).reshape(shape)
        raise DeviceError(f"access to {size} bytes at {pointer:#x}", "CUDA_ERROR_ILLEGAL_ADDRESS")

    def open_stream_of_host(self) -> int:
        """Another stream of the host program's own."""
        stream = 8 + len(self.streams)
        self.streams[stream] = Queue()
        return stream

    @contextmanager
    def given_array(self, array: NDArray[Any]) -> Iterator[Given]:
        """A host program's own array on the device."""
        pointer = self._reserve(array.nbytes)
        self.device[pointer] = np.ascontiguousarray(array).view(np.uint8).ravel().copy()
        try:
            yield Given(pointer, array.shape, array.dtype)
        finally:
            del self.device[pointer]

    def enqueue(self, name: str, stream: int, work: Work) -> None:
        """A network's run, which is no call of the driver's."""
        self._put(f"network:{name}", stream, work)

    def _reserve(self, size: int) -> int:
        """An address, aligned as a device's allocations are, with a gap behind what lies there."""
        pointer, self._next = self._next, self._next + -(-size // 512) * 512 + 4096
        return pointer

    def _write(self, target: int, data: NDArray[np.uint8]) -> None:
        self.view(target, np.uint8, (data.size,))[:] = data.ravel()

    def _check_pinned(self, array: NDArray[Any]) -> None:
        start = array.ctypes.data
        inside = any(base <= start and start + array.nbytes <= base + block.size for base, block in self.pinned.items())
        assert inside and array.flags.c_contiguous, "a copy of memory that is not page-locked"

    def _put(self, name: str, stream: int, work: Work, detail: object = "") -> None:
        self._note(name, detail)
        if stream in self.capturing:
            assert name not in ("upload", "download", "wait"), f"{name} inside a capture"
            self.capturing[stream].append(work)
        else:
            self.streams[stream].waiting.append(work)

    def _note(self, name: str, detail: object = "") -> None:
        assert getattr(self._context, "depth", 0) > 0, f"{name} outside the context"
        self.calls.append(f"{name} {detail}".rstrip())
        if self.fail_at is not None and len(self.calls) == self.fail_at:
            raise DeviceError(name, self.code)


def signatures(source: str) -> dict[str, list[str]]:
    """The parameter types of every kernel of a CUDA C source."""
    found = re.findall(r'extern "C" __global__ void (\w+)\(([^)]*)\)', source)
    return {name: [parameter.strip().rsplit(" ", 1)[0] for parameter in given.split(",")] for name, given in found}
