"""Arrays of other libraries on the device, and ours for them: ``__cuda_array_interface__`` and DLPack, no copies."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from verdiff.errors import InputError
from verdiff.runtime.device import dlpack
from verdiff.runtime.device.dlpack import is_dense
from verdiff.runtime.device.driver import Pointer, Stream
from verdiff.runtime.device.streams import DEFAULT_STREAM


@dataclass(frozen=True)
class DeviceArray:
    """An array on the device: give it to CuPy, PyTorch, Numba, JAX or pycuda as it is.

    Attributes:
        pointer: Its address.
        shape: C-contiguous.
        dtype: Of its elements.
        ordinal: N of ``cuda:N``.
        stream: On which it becomes ready.
    """

    pointer: Pointer
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    ordinal: int
    stream: Stream
    _order: Callable[[Stream], None] = field(repr=False)
    _owner: object = field(repr=False)

    @property
    def nbytes(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Version 3; the consumer waits for the stream in it."""
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.pointer, False),
            "strides": None,
            "version": 3,
            "stream": self.stream,
        }

    def __dlpack__(self, *, stream: int | None = None, **_: Any) -> object:
        """A DLPack capsule; the consumer's ``stream`` is made to wait (None: the default stream, -1: no waiting)."""
        consumer = DEFAULT_STREAM if stream is None else stream
        if consumer != -1:
            self._order(consumer)
        return dlpack.capsule_of(self.pointer, self.shape, self.dtype, self.ordinal, self)

    def __dlpack_device__(self) -> tuple[int, int]:
        """(kDLCUDA, N)."""
        return dlpack.CUDA, self.ordinal


@dataclass(frozen=True)
class Given:
    """What a caller handed over, for the length of one call.

    Attributes:
        pointer: Its address.
        stream: On which it becomes ready, or None if nothing has to be waited for.
    """

    pointer: Pointer
    stream: Stream | None
    _keep: object = field(repr=False)


def given_array(array: Any, shape: tuple[int, ...], ordinal: int, stream: Stream) -> Given:
    """A caller's array on the device, float32 of ``shape`` without gaps; nothing is copied.

    Args:
        array: Anything with ``__cuda_array_interface__`` or ``__dlpack__``.
        shape: What it must have.
        ordinal: N of the ``cuda:N`` it must be on.
        stream: Where it will be read.

    Raises:
        InputError: It is on the host or on another device, or has another shape, type or layout.
    """
    interface = getattr(array, "__cuda_array_interface__", None)
    if interface is not None:
        dtype, found = np.dtype(interface["typestr"]), tuple(interface["shape"])
        strides = interface.get("strides")
        dense = strides is None or is_dense(found, [stride / dtype.itemsize for stride in strides])
        _check(array, shape, found=found, dtype=dtype, dense=dense)
        # Version 2 has no stream: the caller's own synchronisation is all there is.
        return Given(int(interface["data"][0]), interface.get("stream"), array)
    if not hasattr(array, "__dlpack__"):
        raise InputError(
            f"slices in a {type(array).__qualname__}",
            "an array on the device, with __cuda_array_interface__ or __dlpack__",
            "upload it with CuPy, PyTorch, Numba or pycuda, or call Segmenter.segment with the array on the host",
        )
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
