"""From the cache of ``verdiff build`` to engines in memory; TensorRT is started when everything else was checked."""

from __future__ import annotations

import shlex
from collections import deque
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from verdiff.bundle import graph_name, model_argument
from verdiff.bundle.engines import (
    FLAVOURS,
    TENSORRT_RTX,
    Machine,
    Package,
    Sidecar,
    driver_too_old,
    engine_path,
    engine_precision,
    find_engines,
    read_engine,
    rebuild_command,
    require_package,
    select_engine,
)
from verdiff.errors import BackendError
from verdiff.extras import install
from verdiff.runtime.backends.rtx_kernels import KernelCache
from verdiff.runtime.backends.tensorrt import Engine, TensorRtNetworks
from verdiff.runtime.machine import machine_of
from verdiff.runtime.nvidia import require_gpu

if TYPE_CHECKING:
    from verdiff.bundle import Bundle
    from verdiff.runtime.device.driver import Driver

STORED = {"prior": "prior", "step": "denoiser"}
ERRORS = ("INTERNAL_ERROR", "ERROR")


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
    roles = ("prior", "step") if bundle.has("denoiser") else ("prior",)
    chosen = {role: _choose(bundle, machine, role, precision) for role in roles}
    api = _imported(package, machine)
    logger, said = _logger(api)
    try:
        runtime = api.Runtime(logger)
    except (TypeError, RuntimeError) as error:
        raise _broken(machine, "; ".join(said) or str(error)) from error
    engines = {role: _load(runtime, machine, sidecar, said) for role, sidecar in chosen.items()}
    strides = {feature.name: feature.stride for feature in bundle.manifest.features}
    return TensorRtNetworks(api, machine, precision, engines, strides, said)


def _imported(package: Package, machine: Machine) -> Any:
    try:
        return import_module(package.module)
    except (ImportError, OSError) as error:
        raise _broken(machine, str(error)) from error


def _broken(machine: Machine, reason: str) -> BackendError:
    flavour = FLAVOURS[machine.flavour]
    return BackendError(
        f"{flavour.title} {machine.trt_version} cannot be loaded ({reason})",
        "its Python package with its libraries, and a driver that works",
        f"{install(flavour.extra, flags='--force-reinstall')}; then 'verdiff doctor'",
    )


def _choose(bundle: Bundle, machine: Machine, role: str, precision: str) -> Sidecar:
    precision = engine_precision(precision)
    manifest, name = bundle.manifest, graph_name(STORED[role], precision)
    if name not in manifest.files:
        raise BackendError(
            f"{manifest.model_id} {manifest.version} has no {STORED[role]} graph in {precision}",
            f"one of {', '.join(bundle.precisions(STORED[role])) or 'none'}",
            shlex.join(["verdiff", "export", model_argument(bundle.path), f"--{precision.partition('-')[0]}"])
            if precision != "fp32"
            else "choose another precision",
        )
    return select_engine(
        find_engines(),
        machine,
        role=role,
        precision=precision,
        graph_sha256=manifest.files[name],
        model=model_argument(bundle.path),
    )


def _load(runtime: Any, machine: Machine, sidecar: Sidecar, said: deque[str]) -> Engine:
    said.clear()
    path = engine_path(sidecar.key)
    engine = runtime.deserialize_cuda_engine(read_engine(path, machine))
    if engine is None:
        raise BackendError(
            f"{machine} does not load {sidecar.key.stem} ({'; '.join(said) or 'no reason given'})",
            "an engine that loads where it was built",
            f"build it again: {rebuild_command(sidecar)}",
        )
    return Engine(sidecar, engine, runtime, KernelCache(path) if machine.flavour == TENSORRT_RTX.name else None)


@cache
def _logger(api: Any) -> tuple[Any, deque[str]]:
    """One logger, since TensorRT keeps the first of a process; it prints nothing and remembers the last errors."""
    said: deque[str] = deque(maxlen=4)

    class Logger(api.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()

        def log(self, severity: Any, text: str) -> None:
            if severity.name in ERRORS:
                said.append(text.strip())

    return Logger(), said
