"""A caller's CUDA stream, whatever library made it."""

from __future__ import annotations

from typing import Any

from verdiff.errors import InputError
from verdiff.runtime.device.driver import Stream

# Where CuPy, PyTorch and pycuda keep the address.
ATTRIBUTES = ("ptr", "cuda_stream", "handle")


def stream_handle(stream: Any) -> Stream | None:
    """The address of a stream: an integer, or an object of cuda-core (``__cuda_stream__``), CuPy, PyTorch or pycuda.

    None stays None. None of these libraries is imported.

    Raises:
        InputError: It is none of these.
    """
    if stream is None or isinstance(stream, int):
        return stream
    protocol = getattr(stream, "__cuda_stream__", None)
    if protocol is not None:
        version_and_address = protocol() if callable(protocol) else protocol
        return int(version_and_address[1])
    for name in ATTRIBUTES:
        address = getattr(stream, name, None)
        if isinstance(address, int):
            return address
    raise InputError(
        f"a stream of type {type(stream).__module__}.{type(stream).__qualname__}",
        "an address, or a stream of cuda-core, CuPy, PyTorch or pycuda",
        "pass the stream's address as an integer",
    )
