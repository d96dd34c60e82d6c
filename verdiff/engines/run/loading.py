"""From the cache of ``verdiff build`` to engines in memory; TensorRT is started when everything else was checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from verdiff.bundle import model_argument
from verdiff.engines import (
    STORED,
    Machine,
    Sidecar,
    driver_too_old,
    engine_path,
    engine_precision,
    engine_roles,
    find_engines,
    missing_graph,
    read_engine,
    rebuild_command,
    require_package,
    select_engine,
    stored_hash,
)
from verdiff.engines.here import machine_of
from verdiff.engines.library import Library, cannot_load, load_library
from verdiff.engines.run.kernels import KernelCache
from verdiff.engines.run.networks import Engine, TensorRtNetworks
from verdiff.errors import BackendError
from verdiff.nvidia import require_gpu

if TYPE_CHECKING:
    import tensorrt as trt

    from verdiff.bundle import Bundle
    from verdiff.runtime.device.driver import Driver


def open_networks(bundle: Bundle, driver: Driver, *, backend: str, precision: str) -> TensorRtNetworks:
    """The engines of ``bundle`` for this device, from the cache of ``verdiff build``; never from the bundle.

    Args:
        bundle: The model.
        driver: The device; its context is current.
        backend: ``"tensorrt"`` or ``"tensorrt-rtx"``.
        precision: ``"fp32"``, ``"fp16"``, ``"bf16"`` or ``"int8"``.

    Raises:
        BackendError: TensorRT is not installed, the driver is too old, or there is no engine that loads here; the
            message has the command that builds one.
    """
    package = require_package(backend.replace("-", "_"), lean_will_do=True)
    machine = machine_of(package, *require_gpu(f"cuda:{driver.gpu.index}"))
    # Asked before the library is: without a driver that fits it may end the process.
    if (old := driver_too_old(machine)) is not None:
        raise BackendError(old, f"a driver that runs CUDA {machine.cuda_version}", "update NVIDIA's driver")
    chosen = {role: _choose(bundle, machine, role, engine_precision(precision)) for role in engine_roles(bundle)}
    library = load_library(package)
    try:
        runtime = library.api.Runtime(library.logger)
    except (TypeError, RuntimeError) as error:
        raise cannot_load(package, library.messages.take_reason() or str(error)) from error
    engines = {role: _load(library, runtime, machine, sidecar) for role, sidecar in chosen.items()}
    strides = {feature.name: feature.stride for feature in bundle.manifest.features}
    return TensorRtNetworks(library, machine, precision, engines, strides)


def _choose(bundle: Bundle, machine: Machine, role: str, precision: str) -> Sidecar:
    digest = stored_hash(bundle, role, precision)
    if digest is None:
        raise missing_graph(bundle, STORED[role], precision)
    return select_engine(
        find_engines(),
        machine,
        role=role,
        precision=precision,
        graph_sha256=digest,
        model=model_argument(bundle.path),
    )


def _load(library: Library, runtime: trt.Runtime, machine: Machine, sidecar: Sidecar) -> Engine:
    path = engine_path(sidecar.key)
    plan = read_engine(path, machine)
    library.messages.kept.clear()
    engine = cast("trt.ICudaEngine | None", runtime.deserialize_cuda_engine(plan))
    if engine is None:
        raise BackendError(
            f"{machine} does not load {sidecar.key.stem} ({library.messages.take_reason()})",
            "an engine that loads where it was built",
            f"build it again: {rebuild_command(sidecar)}",
        )
    return Engine(sidecar, engine, runtime, KernelCache(path) if library.is_rtx else None)
