"""Backends: the two networks behind one small protocol, and the choice between them.

A backend runs ``prior`` and ``denoise``; everything between the calls (noise, the sampler's table, fusion, geometry)
belongs to the rooms it never sees. No backend falls back: what was asked for is there, or :class:`BackendError` says
what is missing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

from verdiff.bundle.layout import graph_name
from verdiff.choices import (
    AUTO,
    BACKENDS,
    DEVICE,
    DEVICE_WORDS,
    ENGINE_BACKENDS,
    GPU,
    PRECISIONS,
    PROVIDER_BACKENDS,
    WEBGPU,
    WEBGPU_DEVICES,
)
from verdiff.errors import BackendError
from verdiff.extras import install
from verdiff.precisions import TABLE, processor_precision
from verdiff.runtime.backends.protocol import Backend, CompilesSizes, Described, Maps, graph_bytes
from verdiff.runtime.lanes import lane_count

if TYPE_CHECKING:
    from verdiff.bundle import Bundle

__all__ = ["DEVICE_BACKENDS", "Backend", "CompilesSizes", "Described", "Maps", "graph_bytes"]

DEVICE_BACKENDS = (*ENGINE_BACKENDS, *PROVIDER_BACKENDS)
ON_PROVIDERS = tuple(name for name, each in TABLE.items() if each.on_providers)


def installed_backends() -> tuple[str, ...]:
    """Names of the backends whose library is installed, in the order ``auto`` prefers them; imports none of them."""
    return tuple(name for name in BACKENDS if find_spec(name) is not None)


def default_threads() -> int:
    """The processor cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else (os.cpu_count() or 1)


def resolve_threads(threads: int | None) -> int:
    """``threads``, or :func:`default_threads` for None.

    Raises:
        BackendError: Fewer than one.
    """
    if threads is not None and threads < 1:
        raise BackendError(f"threads = {threads}", "1 or more threads", "leave it out for every core of the machine")
    return default_threads() if threads is None else threads


def choose_backend(backend: str, device: str, precision: str) -> str:
    """The backend that runs ``precision`` on ``device``; ``"auto"`` takes ONNX Runtime, OpenVINO for bf16 and int8.

    Raises:
        BackendError: The backend is unknown or not installed, or cannot run this device or precision.
    """
    if backend in DEVICE_BACKENDS:
        return _device_backend(backend, device, precision)
    if backend == WEBGPU or device in WEBGPU_DEVICES:
        return _webgpu_backend(backend, device, precision)
    if backend not in (AUTO, *BACKENDS):
        known = " or ".join((AUTO, *BACKENDS, *DEVICE_BACKENDS, WEBGPU))
        raise BackendError(f"backend {backend!r}", known, "choose one of them")
    if precision not in PRECISIONS:
        raise BackendError(f"precision {precision!r}", f"one of {', '.join(PRECISIONS)}", "choose one of them")
    if re.fullmatch(DEVICE, device) is None:
        raise BackendError(f"device {device!r}", DEVICE_WORDS, "choose one of them")
    cuda = device != "cpu"
    wanted = backend
    if backend == AUTO:
        wanted = TABLE[precision].backends[0]
        if not cuda and wanted not in installed_backends():
            wanted = (*installed_backends(), wanted)[0]
    if wanted not in installed_backends():
        extra = "gpu" if cuda else "openvino" if wanted == "openvino" else "cpu"
        there = ", ".join(installed_backends()) or "none"
        raise BackendError(
            f"the inference backend {wanted} is not installed (installed: {there})",
            f"{wanted} for device {device} and precision {precision}",
            install(extra),
        )
    if cuda and wanted != "onnxruntime":
        raise BackendError(
            f"device {device} with the {wanted} backend", "ONNX Runtime for CUDA devices", install("gpu")
        )
    if wanted not in TABLE[precision].backends:
        raise BackendError(
            f"precision bf16 with the {wanted} backend",
            "OpenVINO, which runs the fp32 graphs in bf16",
            f"{install('openvino')}, and pass --backend openvino; or use fp32",
        )
    return wanted


def _device_backend(backend: str, device: str, precision: str) -> str:
    if re.fullmatch(GPU, device) is None:
        raise BackendError(
            f"device {device!r} with the {backend} backend",
            "cuda or cuda:N",
            "pass --device cuda:0, or another backend",
        )
    from verdiff.engines import ENGINE_PRECISIONS, require_package

    runs_engines = backend in ENGINE_BACKENDS
    precisions = PRECISIONS if runs_engines else ON_PROVIDERS
    if precision not in precisions and not (runs_engines and precision in ENGINE_PRECISIONS):
        raise BackendError(
            f"precision {precision!r} with the {backend} backend",
            f"one of {', '.join(precisions)}",
            "choose one of them",
        )
    if runs_engines:
        require_package(backend.replace("-", "_"), lean_will_do=True)
    elif find_spec("onnxruntime") is None:
        raise BackendError("onnxruntime is not installed", f"it, for {backend}", install("gpu"))
    return backend


def _webgpu_backend(backend: str, device: str, precision: str) -> str:
    if backend not in (AUTO, WEBGPU) or device not in WEBGPU_DEVICES:
        raise BackendError(
            f"device {device!r} with the {backend} backend",
            f"{' or '.join(WEBGPU_DEVICES)} with the {WEBGPU} backend",
            f"pass --device {WEBGPU} and no backend, or --device cpu",
        )
    if precision not in ON_PROVIDERS:
        raise BackendError(
            f"precision {precision!r} on {device}", f"one of {', '.join(ON_PROVIDERS)}", "choose one of them"
        )
    if find_spec("onnxruntime") is None:
        raise BackendError("onnxruntime is not installed", f"its package for {WEBGPU}", install("webgpu"))
    return WEBGPU


def on_device(backend: str, device: str) -> bool:
    """Whether a chosen backend runs the loop on the device, rather than its networks for a loop on the host."""
    return backend in DEVICE_BACKENDS or re.fullmatch(GPU, device) is not None


def open_backend(bundle: Bundle, *, backend: str, precision: str, threads: int | None, device: str = "cpu") -> Backend:
    """Load the networks of ``bundle`` for a loop on the host; ``threads=None`` is every core this process may use.

    Raises:
        BackendError: See :func:`choose_backend`; also when the library cannot load the graphs, or the processor or
            the bundle does not have the precision.
    """
    from verdiff.runtime.backends.laned import LanedBackend

    count = resolve_threads(threads)
    chosen = choose_backend(backend, device, precision)
    if chosen == WEBGPU:
        from verdiff.runtime.backends.webgpu import WebGpuBackend

        return WebGpuBackend(bundle, device=device, precision=precision)
    stored = processor_precision(precision)
    # Of several lanes the other form is opened at the first single slice: it must not need the file any more then.
    wanted = [graph_name(role, stored) for role in ("prior", "denoiser")]
    if count > 1:
        bundle = bundle.in_memory(name for name in wanted if name in bundle.manifest.files)
    opened: Callable[[int], Backend]
    if chosen == "openvino":
        from verdiff.runtime.backends.openvino import OpenVinoBackend

        opened = partial(OpenVinoBackend, bundle, precision=precision, threads=count)
    else:
        from verdiff.runtime.backends.onnxruntime import OnnxRuntimeBackend

        opened = partial(OnnxRuntimeBackend, bundle, precision=precision, threads=count)
    return LanedBackend(opened, lane_count(count)) if count > 1 else opened(1)
