"""A bundle on a device: the driver asked first, then the engines of the cache, then memory and kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from verdiff.runtime.backends.tensorrt_loading import open_networks
from verdiff.runtime.device.backend import DeviceBackend
from verdiff.runtime.device.cuda_core import open_driver
from verdiff.runtime.device.streams import stream_handle

if TYPE_CHECKING:
    from verdiff.bundle import Bundle


def open_device(
    bundle: Bundle,
    *,
    backend: str,
    device: str,
    precision: str,
    memory_mb: int | None = None,
    stream: Any = None,
    priority: int | None = None,
) -> DeviceBackend:
    """Load ``bundle`` on ``device``.

    Args:
        bundle: The model.
        backend: ``"tensorrt"`` or ``"tensorrt-rtx"``.
        device: ``"cuda"`` or ``"cuda:N"``.
        precision: Of the engines.
        memory_mb: The most device memory to take beside the engines, in MiB; None is a share of what is free.
        stream: The caller's stream, see :func:`verdiff.runtime.device.streams.stream_handle`; None for one of its own.
        priority: Of a stream of its own: lower numbers go first.

    Raises:
        BackendError: No driver, no such device, no TensorRT, or no engine that loads here.
    """
    driver = open_driver(device)
    with driver.active():
        networks = open_networks(bundle, driver, backend=backend, precision=precision)
    limit = None if memory_mb is None else memory_mb << 20
    return DeviceBackend(
        driver, networks, len(bundle.manifest.labels), limit=limit, stream=stream_handle(stream), priority=priority
    )
