"""A GPU of any make: ONNX Runtime's WebGPU provider, on Vulkan, Metal or Direct3D.

The networks run on the GPU, the loop between their calls on the host. The provider has no name for a GPU and no word
for which one it took, and where there is none it takes a driver that computes on the processor, if one is installed.
So the adapters are looked at before (:func:`require_adapter`), and drivers of the kind that was not asked for are
hidden from it: ``webgpu`` is a GPU, ``webgpu:software`` is such a driver, and neither is ever the other. Whatever the
provider has no kernel for it leaves to the processor: where every layer was put is asked after loading.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from verdiff.choices import WEBGPU_DEVICES
from verdiff.errors import BackendError
from verdiff.extras import install
from verdiff.runtime import silent
from verdiff.runtime.backends import vulkan
from verdiff.runtime.backends.adapters import Adapter, named
from verdiff.runtime.backends.direct3d import direct3d_adapters
from verdiff.runtime.backends.onnxruntime import LaneSessions, OnnxRuntimeBackend, first_line, open_session
from verdiff.runtime.backends.opset import declared_at_most
from verdiff.runtime.backends.providers import installed_packages, layers_on_cpu

if TYPE_CHECKING:
    from verdiff.bundle import Bundle

GPU, SOFTWARE = WEBGPU_DEVICES
PROVIDER = "WebGpuExecutionProvider"
PACKAGE = "onnxruntime-webgpu"
# The newest set of operators of which the provider has every kernel: see verdiff.runtime.backends.opset.
OPSET = 18
# Wanted of a GPU where a machine has two.
OPTIONS = {"powerPreference": "high-performance"}
FATAL_ONLY = 4
# What the provider says of a GPU without shader-f16, and of a machine without a GPU that WebGPU takes.
NO_HALF, NO_ADAPTER = "requires f16", "No supported adapters"


class WebGpuBackend(OnnxRuntimeBackend):
    """The prior and the denoiser as sessions on a GPU; one image a call, and one call at a time.

    Args:
        bundle: The model.
        device: ``"webgpu"`` or ``"webgpu:software"``.
        precision: ``"fp32"``, or ``"fp16"`` where the bundle carries it and the GPU computes in it.
    """

    name = "webgpu"

    def __init__(self, bundle: Bundle, *, device: str, precision: str) -> None:
        self.device = device
        with _opened_on(device) as adapters:
            self.adapter = named(adapters)
            super().__init__(bundle, precision=precision, threads=1)
        # As on every device: none of the processor's threads takes part in a network call.
        self.threads = 0

    def _network(self, onnxruntime: Any, graph: bytes, role: str) -> LaneSessions:
        return _WebGpuNetwork(_open(onnxruntime, graph, role, self.device, self.adapter), self)


class _WebGpuNetwork(LaneSessions):
    """One network, whose failures say what of the GPU failed."""

    def __init__(self, session: Any, backend: WebGpuBackend) -> None:
        super().__init__([session])
        self._version, self._where = backend.version, f"{backend.device} ({backend.adapter})"

    def run(self, feed: dict[str, NDArray[Any]], outputs: list[str]) -> list[NDArray[Any]]:
        try:
            results = super().run(feed, outputs)
        except Exception as error:
            raise run_failed(self._version, self._where, first_line(error)) from error
        for name, result in zip(outputs, results, strict=True):
            # What is not a number would be background in a mask, without a word.
            if not np.isfinite(result).all():
                raise run_failed(self._version, self._where, f"{name} holds numbers that are not finite")
        return results


def run_on(device: str, graph: bytes, feed: dict[str, NDArray[Any]]) -> tuple[list[NDArray[Any]], str]:
    """Every output of a small graph, computed once on a device, and the adapter's name.

    Raises:
        BackendError: There is no such device, or it does not compute the graph.
    """
    with _opened_on(device) as adapters:
        module: Any = silent.onnxruntime()
        session = _open(module, graph, "small", device, named(adapters))
    # What goes wrong is raised, and need not be printed too.
    options = module.RunOptions()
    options.log_severity_level = FATAL_ONLY
    try:
        return session.run(None, feed, options), named(adapters)
    except Exception as error:
        raise run_failed(module.__version__, f"{device} ({named(adapters)})", first_line(error)) from error


def require_provider(onnxruntime: Any) -> None:
    """Refuse an ONNX Runtime without the WebGPU provider.

    Raises:
        BackendError: It is another one of its packages, or several have overwritten each other.
    """
    if PROVIDER in onnxruntime.get_available_providers():
        return
    packages = installed_packages()
    several = " and ".join(packages)
    raise BackendError(
        f"onnxruntime {onnxruntime.__version__} has no WebGPU provider"
        + (f": {several} are installed and have overwritten each other" if len(packages) > 1 else ""),
        f"{PACKAGE}, and no other package of ONNX Runtime beside it",
        f"pip uninstall -y {' '.join(packages) or 'onnxruntime'}, then {install('webgpu')}",
    )


def require_adapter(device: str, *, platform: str = sys.platform) -> tuple[Adapter, ...]:
    """The adapters that ``device`` may be; the provider takes one of them.

    Args:
        device: ``"webgpu"`` for a GPU, ``"webgpu:software"`` for a Vulkan driver that computes on the processor.
        platform: Name of the platform, as :data:`sys.platform` has it.

    Raises:
        BackendError: There is none, or the other kind cannot be kept out.
    """
    if platform in ("win32", "darwin"):
        return _without_vulkan(device, platform)
    software = device == SOFTWARE
    with vulkan.only(software=software):
        there = vulkan.vulkan_adapters()
    if there is None:
        raise BackendError(
            f"device {device}, and no Vulkan loader ({vulkan.LIBRARY})",
            "Vulkan, which WebGPU computes with here",
            "install it (Debian and Ubuntu: apt-get install libvulkan1) and the GPU's driver",
        )
    wrong = tuple(each for each in there if each.software != software)
    if there and not wrong:
        return there
    if software:
        raise BackendError(
            f"device {device}, and {_listed(wrong) or 'no Vulkan driver that computes on the processor'}",
            "such a driver, Mesa's lavapipe or SwiftShader, and no other that cannot be left out",
            "install one and a Vulkan loader from 1.3.234 on (Debian and Ubuntu: apt-get install mesa-vulkan-drivers "
            "libvulkan1), or name its file in VK_DRIVER_FILES",
        )
    if len(wrong) < len(there):
        raise BackendError(
            f"device {device}, and {_listed(wrong)} beside a GPU, which this Vulkan loader cannot leave out",
            "GPUs alone",
            f"install a Vulkan loader from 1.3.234 on, or name the GPU's driver file in VK_DRIVER_FILES and "
            f"VK_ICD_FILENAMES, or pass --device {SOFTWARE}",
        )
    raise BackendError(
        f"device {device}, and no Vulkan driver of a GPU"
        + (f", but {_listed(others)}, which computes on the processor" if (others := _elsewhere()) else ""),
        "a GPU with a Vulkan driver that this process may use",
        "install the GPU's driver (Intel and AMD: apt-get install mesa-vulkan-drivers; NVIDIA: its own) and look at "
        "what vulkaninfo shows; or pass --device cpu" + (f", or {SOFTWARE}, which is slow" if others else ""),
    )


def run_failed(version: str, where: str, said: str) -> BackendError:
    """A run that went wrong."""
    if NO_HALF in said:
        return BackendError(
            f"{where}, which does not compute in FP16",
            "a GPU whose driver does (WebGPU's shader-f16)",
            "use --precision fp32, or update the GPU's driver",
        )
    return BackendError(
        f"onnxruntime {version} failed on {where}: {said}",
        "a run without errors",
        f"run 'verdiff doctor --device {where.partition(' ')[0]}', look at the system's log for resets of the GPU, and "
        "load the Segmenter again; a scan that is too large for the GPU's memory wants --device cpu",
    )


def _open(onnxruntime: Any, graph: bytes, role: str, device: str, adapter: str) -> Any:
    """A session that computes a whole network on the device."""
    version, written = onnxruntime.__version__, declared_at_most(graph, OPSET)
    try:
        session = open_session(onnxruntime, written, role, device, [(PROVIDER, OPTIONS)], threads=1)
    except BackendError as error:
        if NO_HALF in error.found:
            raise run_failed(version, f"{device} ({adapter})", error.found) from error
        if NO_ADAPTER in error.found:
            raise BackendError(
                f"device {device}, and WebGPU takes none of what is there: {adapter}",
                "a GPU whose driver has all that WebGPU wants",
                "update the GPU's driver, or pass --device cpu",
            ) from error
        raise
    on_cpu = layers_on_cpu(session)
    if on_cpu:
        raise BackendError(
            f"onnxruntime {version} puts layers of the {role} graph on the CPU: {', '.join(on_cpu)}",
            f"the whole network on {device}",
            "use --device cpu, and report the model",
        )
    return session


def _without_vulkan(device: str, platform: str) -> tuple[Adapter, ...]:
    if device == SOFTWARE:
        raise BackendError(
            f"device {device} on {platform}", "a Vulkan driver, which WebGPU computes with on Linux", f"pass {GPU}"
        )
    if platform == "darwin":
        # Metal has no software driver, and every Mac that the package is built for has a GPU.
        return (Adapter("Metal", False),)
    there = tuple(each for each in direct3d_adapters() if not each.software)
    if not there:
        raise BackendError(
            f"device {device}, and no GPU that Direct3D knows",
            "a GPU with its driver",
            "install it; or pass --device cpu",
        )
    return there


def _elsewhere() -> tuple[Adapter, ...]:
    """The software drivers, for an error that says what else is here."""
    with vulkan.only(software=True):
        return vulkan.vulkan_adapters() or ()


def _listed(adapters: tuple[Adapter, ...]) -> str:
    return ", ".join(each.name for each in adapters)


# ONNX Runtime keeps its one WebGPU device for the whole process: whoever comes second gets the first one's.
_LOCK = Lock()
_TAKEN: list[str] = []


@contextmanager
def _opened_on(device: str) -> Iterator[tuple[Adapter, ...]]:
    """What ``device`` may be, the process's one WebGPU device held for sessions that open in the block.

    Raises:
        BackendError: The provider is not there, nor such a device; or the process computes on the other kind already.
    """
    with _LOCK:
        if _TAKEN and device not in _TAKEN:
            raise BackendError(
                f"device {device} in a process that computes on {_TAKEN[0]} already",
                "one WebGPU device in a process",
                "use it in a process of its own, such as verdiff.serve.Client",
            )
        require_provider(silent.onnxruntime())
        adapters = require_adapter(device)
        # A session that opens and fails may have taken the device too.
        _TAKEN[:] = [device]
        with vulkan.only(software=device == SOFTWARE):
            yield adapters
