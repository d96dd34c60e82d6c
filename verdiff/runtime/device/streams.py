"""A caller's CUDA stream, whatever library made it."""

from __future__ import annotations

from typing import Any

from verdiff.errors import InputError
from verdiff.runtime.device.driver import Stream

# The default stream by its own address, which says so to every library; 0 means "none" to some of them.
DEFAULT_STREAM = 1
# Where CuPy, PyTorch and pycuda keep the address.
ATTRIBUTES = ("ptr", "cuda_stream", "handle")


def stream_handle(stream: Any) -> Stream | None:
    """The address of a stream: an integer, or an object of cuda-core (``__cuda_stream__``), CuPy, PyTorch or pycuda.

    None stays None, and 0 is the default stream. None of these libraries is imported.

    Raises:
        InputError: It is none of these.
    """
    if stream is None:
        return None
    address = stream if isinstance(stream, int) else _address(stream)
    if address is None:
        raise InputError(
            f"a stream of type {type(stream).__module__}.{type(stream).__qualname__}",
            "an address, or a stream of cuda-core, CuPy, PyTorch or pycuda",
            "pass the stream's address as an integer",
        )
    return address or DEFAULT_STREAM


def _address(stream: Any) -> Stream | None:
    protocol = getattr(stream, "__cuda_stream__", None)
    if protocol is not None:
        version_and_address = protocol() if callable(protocol) else protocol
        return int(version_and_address[1])
    found = (getattr(stream, name, None) for name in ATTRIBUTES)
    return next((address for address in found if isinstance(address, int)), None)
