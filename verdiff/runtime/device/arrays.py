"""Arrays of other libraries on the device, and ours for them: ``__cuda_array_interface__`` and DLPack, no copies."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from verdiff.errors import InputError
from verdiff.runtime.device import dlpack
from verdiff.runtime.device.dlpack import is_dense
from verdiff.runtime.device.driver import Pointer, Stream
from verdiff.runtime.device.streams import DEFAULT_STREAM

if TYPE_CHECKING:
    from verdiff.runtime.device.driver import Driver


class Home(Protocol):
    """What an array lies in, and keeps alive."""

    @property
    def stream(self) -> Stream | None:
        """The stream on which the array becomes ready; None once it is."""
        ...

    def hold_back(self, consumer: Stream) -> None:
        """Make a consumer's stream wait until the array is ready."""
        ...


@dataclass(frozen=True)
class DeviceArray:
    """An array on the device: give it to CuPy, PyTorch, Numba, JAX or pycuda as it is, best by their ``from_dlpack``.

    Attributes:
        pointer: Its address.
        shape: C-contiguous.
        dtype: Type of its elements.
        ordinal: N of ``cuda:N``.
    """

    pointer: Pointer
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    ordinal: int
    _home: Home = field(repr=False)

    @property
    def stream(self) -> Stream | None:
        """The stream on which it becomes ready; None once it is."""
        return self._home.stream

    @property
    def nbytes(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Version 3; it names the stream for which the consumer has to wait."""
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.pointer, False),
            "strides": None,
            "version": 3,
            "stream": self.stream,
        }

    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> object:
        """A DLPack capsule; the consumer's ``stream`` is made to wait (None: the default stream, -1: no waiting).

        Args:
            stream: The consumer's.
            max_version: Ignored: the capsule is of the version that every consumer reads.
            dl_device: Where the consumer wants it.
            copy: Whether it wants a copy; there is none to be had.

        Raises:
            BufferError: It wants a copy, or the array on another device.
        """
        if copy or (dl_device is not None and tuple(map(int, dl_device)) != self.__dlpack_device__()):
            raise BufferError(f"an array on cuda:{self.ordinal} is given as it lies: no copy, and on no other device")
        consumer = DEFAULT_STREAM if stream is None else stream
        if consumer != -1:
            self._home.hold_back(consumer)
        return dlpack.capsule_of(self.pointer, self.shape, self.dtype, self.ordinal, self)

    def __dlpack_device__(self) -> tuple[int, int]:
        """(kDLCUDA, N)."""
        return dlpack.CUDA, self.ordinal


@dataclass(frozen=True)
class Given:
    """What a caller handed over; it must be kept until the device has read it.

    Attributes:
        pointer: Its address.
        stream: Stream on which it becomes ready, or None if nothing has to be waited for.
    """

    pointer: Pointer
    stream: Stream | None
    _keep: object = field(repr=False)


def given_array(array: Any, shape: tuple[int, ...], driver: Driver, stream: Stream) -> Given:
    """A caller's array on the device, float32 of ``shape`` without gaps; nothing is copied.

    Args:
        array: Anything with ``__cuda_array_interface__`` or ``__dlpack__``.
        shape: What it must have.
        driver: Driver of the device it must be on.
        stream: Where it will be read.

    Raises:
        InputError: It is on the host or on another device, or has another shape, type or layout.
    """
    interface, exports = getattr(array, "__cuda_array_interface__", None), hasattr(array, "__dlpack__")
    # PyTorch's interface is version 2, which knows of no stream, so that its tensors would be read before they are
    # written. Where a stream is said, or None for one that needs no waiting, the interface is as good.
    ordered = interface is not None and interface.get("version", 0) >= 3 and "stream" in interface
    if interface is not None and (ordered or not exports):
        dtype, found = np.dtype(interface["typestr"]), tuple(interface["shape"])
        strides = interface.get("strides")
        dense = strides is None or is_dense(found, [stride / dtype.itemsize for stride in strides])
        _check(array, shape, found=found, dtype=dtype, dense=dense)
        pointer = int(interface["data"][0])
        _check_device(pointer, driver)
        # Without a stream, the caller's own synchronisation is all there is.
        return Given(pointer, interface.get("stream"), array)
    if not exports:
        raise InputError(
            f"slices in a {type(array).__qualname__}",
            "an array on the device, with __cuda_array_interface__ or __dlpack__",
            "upload it with CuPy, PyTorch, Numba or pycuda, or call Segmenter.segment with the array on the host",
        )
    ordinal = driver.gpu.index
    kind, where = array.__dlpack_device__()
    if (int(kind), int(where)) != (dlpack.CUDA, ordinal):
        raise InputError(
            f"an array on DLPack device ({int(kind)}, {int(where)})",
            f"({dlpack.CUDA}, {ordinal}), which is cuda:{ordinal}",
            "move the array to the device that the Segmenter is on",
        )
    capsule = array.__dlpack__(stream=stream)
    tensor = dlpack.read_capsule(capsule)
    _check(array, shape, found=tensor.shape, dtype=tensor.dtype, dense=tensor.dense)
    return Given(tensor.pointer, None, capsule)


def _check_device(pointer: Pointer, driver: Driver) -> None:
    """The interface does not say where an array is, so the driver is asked."""
    ours = driver.gpu.index
    with driver.active():
        where = driver.ordinal_of(pointer)
    if where != ours:
        raise InputError(
            "an array in the host's memory" if where is None else f"an array on cuda:{where}",
            f"one on cuda:{ours}, where the Segmenter is",
            "move the array to the device that the Segmenter is on",
        )


def _check(
    array: Any, wanted: tuple[int, ...], *, found: tuple[int, ...], dtype: np.dtype[Any] | None, dense: bool
) -> None:
    if found == wanted and dtype == np.float32 and dense:
        return
    layout = "" if dense else ", with gaps between its elements"
    raise InputError(
        f"a {type(array).__qualname__} of {dtype} and shape {found}{layout}",
        f"float32 of shape {wanted}, C-contiguous",
        "convert it on the device, for example cupy.ascontiguousarray(slices, dtype=cupy.float32)",
    )
