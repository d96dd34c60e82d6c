"""A bundle on a device: the driver asked first, then engines of the cache or sessions, then memory and kernels."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from verdiff.choices import PROVIDER_BACKENDS
from verdiff.errors import BackendError, BudgetError
from verdiff.options import SampleOptions
from verdiff.runtime.backends import resolve_threads
from verdiff.runtime.device.backend import DeviceBackend
from verdiff.runtime.device.cuda_core import open_driver
from verdiff.runtime.device.runner import open_runner
from verdiff.runtime.device.streams import stream_handle
from verdiff.runtime.sampling import resolve_sampling

if TYPE_CHECKING:
    from verdiff.bundle import Bundle
    from verdiff.options import LoadOptions
    from verdiff.runtime.device.driver import Driver
    from verdiff.runtime.device.layout import Need
    from verdiff.runtime.device.network import Networks
    from verdiff.runtime.sampling import Sampling


def open_device(bundle: Bundle, backend: str, options: LoadOptions) -> DeviceBackend:
    """Load ``bundle`` on a device; the memory that a call with the model's own sampling needs is taken now.

    ONNX Runtime's sessions have a stream of their own beside the caller's, so with them ``priority`` can be given
    along with ``stream``, and its threads are those of what a session does on the processor.

    Args:
        bundle: The model.
        backend: Name that :func:`verdiff.runtime.backends.choose_backend` gives.
        options: The device, precision, stream and limits; without ``memory_mb`` a share of what is free is the limit.

    Raises:
        BackendError: No driver, no such device, no library for it, or no engine that loads here.
        InputError: ``stream`` is none.
    """
    if bundle.manifest.volume:
        raise BackendError(
            f"{bundle.manifest.model_id}, which takes volumes, on {options.device}",
            "a model that takes slices: the loop on a GPU is made for those",
            "pass --device cpu",
        )
    handle = stream_handle(options.stream)
    driver = open_driver(options.device)
    with driver.active():
        networks = _networks(bundle, driver, backend, options)
    manifest = bundle.manifest
    loaded = DeviceBackend(
        driver,
        networks,
        len(manifest.labels),
        limit=None if options.memory_mb is None else options.memory_mb << 20,
        stream=handle,
        priority=options.priority,
        keep=options.stream,
    )
    try:
        reserve(loaded, resolve_sampling(manifest, SampleOptions(), denoiser=bundle.has("denoiser")))
    except BaseException:
        loaded.close()
        raise
    return loaded


def reserve(backend: DeviceBackend, sampling: Sampling) -> None:
    """Take the memory of any call with ``sampling`` and one chunk of slices at a time, of every size but those too
    large for this device or its cap.

    Raises:
        BudgetError: Another program took the memory meanwhile.
        BackendError: The device failed.
    """
    needs: list[Need] = []
    with open_runner(backend) as runner, backend.working():
        for rows, cols in backend.networks.sizes:
            need_of = partial(runner.need_at, rows, cols, sampling)
            with suppress(BudgetError):
                needs.append(backend.spaces.fit(need_of, backend.networks.batches(rows, cols)[0]))
        if needs:
            backend.spaces.reserve(needs)


def _networks(bundle: Bundle, driver: Driver, backend: str, options: LoadOptions) -> Networks:
    if backend == "onnxruntime" or backend in PROVIDER_BACKENDS:
        from verdiff.engines import cache_folder
        from verdiff.runtime.backends.onnxruntime_cuda import OnnxNetworks

        return OnnxNetworks(
            bundle,
            driver,
            backend=backend,
            precision=options.precision,
            threads=resolve_threads(options.threads),
            graphs=options.graphs,
            folder=cache_folder() if backend in PROVIDER_BACKENDS else None,
            priority=options.priority,
        )
    from verdiff.engines.run.loading import open_networks

    return open_networks(bundle, driver, backend=backend, precision=options.precision)
