"""A bundle on a device: the driver asked first, then engines of the cache or sessions, then memory and kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from verdiff.choices import PROVIDER_BACKENDS
from verdiff.runtime.backends import resolve_threads
from verdiff.runtime.device.backend import DeviceBackend
from verdiff.runtime.device.cuda_core import open_driver
from verdiff.runtime.device.streams import stream_handle
from verdiff.runtime.sampling import Choices, resolve_sampling

if TYPE_CHECKING:
    from verdiff.bundle import Bundle
    from verdiff.runtime.device.driver import Driver
    from verdiff.runtime.device.network import Networks


def open_device(
    bundle: Bundle,
    *,
    backend: str,
    device: str,
    precision: str,
    threads: int | None = None,
    graphs: bool | None = None,
    memory_mb: int | None = None,
    stream: Any = None,
    priority: int | None = None,
) -> DeviceBackend:
    """Load ``bundle`` on ``device``.

    Args:
        bundle: The model.
        backend: As :func:`verdiff.runtime.backends.choose_backend` gives it.
        device: ``"cuda"`` or ``"cuda:N"``.
        precision: Of the networks.
        threads: With ONNX Runtime: of the processor, for what a session does there.
        graphs: With ONNX Runtime: replay its runs as CUDA graphs; None is where it can.
        memory_mb: The most device memory to take beside the engines, in MiB; None is a share of what is free. What a
            call with the model's own sampling needs is taken now.
        stream: The caller's stream, see :func:`verdiff.runtime.device.streams.stream_handle`; None for one of its own.
            An object is kept alive.
        priority: Of a stream of its own: lower numbers go first. ONNX Runtime's sessions have one beside the caller's
            as well, so with them it can be given along with ``stream``.

    Raises:
        BackendError: No driver, no such device, no library for it, or no engine that loads here.
        InputError: ``stream`` is none.
    """
    handle = stream_handle(stream)
    driver = open_driver(device)
    with driver.active():
        networks = _networks(bundle, driver, backend, precision, threads, graphs, priority)
    limit = None if memory_mb is None else memory_mb << 20
    manifest = bundle.manifest
    classes = len(manifest.labels)
    loaded = DeviceBackend(driver, networks, classes, limit=limit, stream=handle, priority=priority, keep=stream)
    try:
        loaded.reserve(resolve_sampling(manifest, Choices(), denoiser=bundle.has("denoiser")))
    except BaseException:
        loaded.close()
        raise
    return loaded


def _networks(
    bundle: Bundle,
    driver: Driver,
    backend: str,
    precision: str,
    threads: int | None,
    graphs: bool | None,
    priority: int | None,
) -> Networks:
    if backend == "onnxruntime" or backend in PROVIDER_BACKENDS:
        from verdiff.engines import cache_folder
        from verdiff.runtime.backends.onnxruntime_cuda import OnnxNetworks

        return OnnxNetworks(
            bundle,
            driver,
            backend=backend,
            precision=precision,
            threads=resolve_threads(threads),
            graphs=graphs,
            folder=cache_folder() if backend in PROVIDER_BACKENDS else None,
            priority=priority,
        )
    from verdiff.engines.run.loading import open_networks

    return open_networks(bundle, driver, backend=backend, precision=precision)
