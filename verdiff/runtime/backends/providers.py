"""ONNX Runtime's execution providers for NVIDIA GPUs: what each needs, and why one that was asked for is not there.

ONNX Runtime lists a provider that it cannot load, goes on with the CPU when it does not load, and writes the reason to
stderr at best. So everything a provider needs is looked at before, and where the nodes were put is asked after.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from verdiff.errors import BackendError
from verdiff.extras import install
from verdiff.nvidia import CUDA_LIBRARY, Gpu, InstalledDriver, device_index, require_gpu
from verdiff.runtime.libraries import missing_libraries, needed_libraries

# Opened by the CUDA provider at the first convolution, so it is no entry of the plug-in's own table.
CUDNN = "libcudnn.so.9"
# TensorRT's switch where its caller has none. It warns when it is not the same as an engine was built with.
TF32_SWITCH = "NVIDIA_TF32_OVERRIDE"
FIRST_SM_WITH_TF32 = 80
# ONNX Runtime as it is built for processors, for CUDA and for WebGPU: each installs the module ``onnxruntime``.
PACKAGES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-webgpu")
# What works out shapes may stay on the CPU, where ONNX Runtime puts it on purpose; a network's layers may not.
SHAPE_OPERATORS = frozenset(
    (
        *("Shape", "Size", "Gather", "Concat", "Cast", "Slice", "Squeeze", "Unsqueeze", "Range", "ConstantOfShape"),
        *("Add", "Sub", "Mul", "Div", "Mod", "Floor", "Ceil", "Max", "Min", "ReduceProd", "Where", "Equal", "Expand"),
    )
)


@dataclass(frozen=True)
class Provider:
    """One execution provider.

    Attributes:
        name: Name that ONNX Runtime gives it.
        title: Name that people give it.
        plugin: Which of the ``onnxruntime_providers_*`` libraries it lives in.
        graphs: The option that replays a run as a CUDA graph.
        libraries: What it opens beside the libraries it is linked with.
        captured_within: How many runs of a binding it takes until that is captured; 0 where a provider keeps one graph
            and replays it whatever is bound, so that graphs cannot be used.
        rounds_to_tf32: Whether it computes fp32 in TF32 where the environment does not forbid it.
    """

    name: str
    title: str
    plugin: str
    graphs: str
    libraries: tuple[str, ...] = ()
    captured_within: int = 1
    rounds_to_tf32: bool = False


# One call of ONNX Runtime does the runs that warm up and the one that captures.
CUDA = Provider("CUDAExecutionProvider", "CUDA", "cuda", "enable_cuda_graph", (CUDNN,))
# Of the graphs by ``gpu_graph_id`` it knows number 0 only: every step would replay the first one's addresses.
TENSORRT = Provider(
    "TensorrtExecutionProvider",
    "TensorRT",
    "tensorrt",
    "trt_cuda_graph_enable",
    captured_within=0,
    rounds_to_tf32=True,
)
# It counts runs itself and captures in the second or third.
TENSORRT_RTX = Provider(
    "NvTensorRTRTXExecutionProvider",
    "TensorRT-RTX",
    "nv_tensorrt_rtx",
    "enable_cuda_graph",
    captured_within=3,
    rounds_to_tf32=True,
)
GPU_PROVIDERS = {
    "onnxruntime": CUDA,
    "onnxruntime-tensorrt": TENSORRT,
    "onnxruntime-tensorrt-rtx": TENSORRT_RTX,
}


def require_provider(
    onnxruntime: Any,
    provider: Provider,
    device: str,
    *,
    require_gpu: Callable[[str], tuple[InstalledDriver, Gpu]] = require_gpu,
    missing_libraries: Callable[[tuple[str, ...]], tuple[str, ...]] = missing_libraries,
) -> Gpu:
    """The GPU of ``device``, once everything that ``provider`` needs on it is known to be there.

    Args:
        onnxruntime: The module.
        provider: One of :data:`GPU_PROVIDERS`.
        device: ``"cuda"`` or ``"cuda:N"``.
        require_gpu: Asks the driver.
        missing_libraries: Tries libraries by name, and says which cannot be loaded.

    Raises:
        BackendError: The installed onnxruntime has no such provider, there is no driver or no such GPU, the driver is
            too old, or libraries are missing; all of them are named.
    """
    version = onnxruntime.__version__
    if provider.name not in onnxruntime.get_available_providers():
        raise _not_built_in(version, provider, device)
    driver, gpu = require_gpu(device)
    built_for = str(getattr(onnxruntime, "cuda_version", "") or "")
    major = built_for.partition(".")[0]
    if major.isdigit() and int(major) > driver.cuda[0]:
        raise BackendError(
            f"NVIDIA driver {driver.version or 'of unknown version'}, which runs CUDA up to "
            f"{driver.cuda[0]}.{driver.cuda[1]}",
            f"a driver for CUDA {major}, which onnxruntime-gpu {version} is built with (CUDA {built_for})",
            f"update the NVIDIA driver, or install an onnxruntime-gpu that is built with CUDA {driver.cuda[0]}",
        )
    plugin = plugin_path(onnxruntime, provider)
    needed = needed_libraries(plugin) if plugin.is_file() else ()
    missing = missing_libraries((*needed, *(provider.libraries if needed else ())))
    if missing:
        raise BackendError(
            f"onnxruntime-gpu {version} cannot load its {provider.title} provider: {', '.join(missing)} not found",
            f"these libraries, from NVIDIA's packages or in the system's search path{_for_cuda(built_for)}",
            _how_to_get(missing),
        )
    return gpu


def provider_options(
    provider: Provider, device: str, *, graphs: bool, stream: int | None = None, folder: Path | None = None
) -> list[tuple[str, dict[str, str]]]:
    """What a session on ``provider`` is opened with; the CPU provider is never named.

    Args:
        provider: One of :data:`GPU_PROVIDERS`.
        device: ``"cuda"`` or ``"cuda:N"``.
        graphs: Replay runs on the same addresses as CUDA graphs.
        stream: The CUDA stream to work on; None is a stream of the session's own.
        folder: Where TensorRT's provider keeps the engines it builds.
    """
    shared = {"device_id": str(device_index(device))}
    if stream is not None:
        shared |= {"has_user_compute_stream": "1", "user_compute_stream": str(stream)}
    cuda = {
        **shared,
        # fp32 means fp32: by default convolutions would round their inputs to TF32's 10 bits.
        "use_tf32": "0",
        # The default times every algorithm at load and keeps the quickest: masks would differ from load to load.
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
    }
    if provider is CUDA:
        return [(provider.name, {**cuda, provider.graphs: str(int(graphs))})]
    own = {**shared, provider.graphs: str(int(graphs))}
    if provider is TENSORRT and folder is not None:
        # An engine's name does not tell whether it was built with TF32; these were not.
        own |= {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(folder), "trt_engine_cache_prefix": "fp32"}
        own |= {"trt_timing_cache_enable": "1", "trt_timing_cache_path": str(folder)}
    if provider is TENSORRT_RTX and folder is not None:
        own["nv_runtime_cache_path"] = str(folder)
    return [(provider.name, own), (CUDA.name, cuda)]


def require_fp32(provider: Provider, gpu: Gpu, version: str, *, environment: Mapping[str, str] = os.environ) -> None:
    """Refuse a provider that would compute fp32 in TF32, with inputs rounded to ten bits.

    Raises:
        BackendError: It has no option against that (ONNX Runtime up to 1.31), this GPU can do it, and the environment
            does not forbid it.
    """
    if not provider.rounds_to_tf32 or int(gpu.sm) < FIRST_SM_WITH_TF32 or environment.get(TF32_SWITCH) == "0":
        return
    found = environment.get(TF32_SWITCH)
    raise BackendError(
        f"{TF32_SWITCH} {'is not set' if found is None else f'= {found!r}'}, and on {gpu.name} (SM {gpu.sm}) the "
        f"{provider.title} provider of onnxruntime {version} computes fp32 in TF32, without an option against it",
        f"fp32 that is fp32: {TF32_SWITCH}=0",
        f"set {TF32_SWITCH}=0 before the program starts (the CUDA libraries read it once), or use --backend "
        "onnxruntime, tensorrt or tensorrt-rtx, which have TF32 off",
    )


def require_placement(session: Any, provider: Provider, role: str, device: str, version: str) -> None:
    """Refuse a session that computes anything but shapes on the CPU.

    Raises:
        BackendError: The first provider is another one, or layers of the network were put on the CPU.
    """
    granted = session.get_providers()
    if granted[0] != provider.name:
        raise BackendError(
            f"device {device} was asked for and onnxruntime {version} gave {granted[0]} for the {role} graph",
            f"{provider.name} on {device}",
            "run 'verdiff doctor', or pass --device cpu",
        )
    on_cpu = layers_on_cpu(session)
    if on_cpu:
        raise BackendError(
            f"onnxruntime {version} puts layers of the {role} graph on the CPU: {', '.join(on_cpu)}",
            f"the whole network on {device}",
            "use --backend tensorrt or --device cpu, and report the model",
        )


def layers_on_cpu(session: Any) -> list[str]:
    """The operators of a session's layers that run on the CPU, apart from those that work out shapes."""
    on_cpu = {
        node.op_type
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name == "CPUExecutionProvider"
        for node in part.get_nodes()
    }
    return sorted(on_cpu - SHAPE_OPERATORS)


def plugin_path(onnxruntime: Any, provider: Provider) -> Path:
    """Where the provider's library lies in the installed package."""
    folder = Path(onnxruntime.__file__).parent / "capi"
    if sys.platform == "win32":
        return folder / f"onnxruntime_providers_{provider.plugin}.dll"
    return folder / f"libonnxruntime_providers_{provider.plugin}.so"


def installed_packages() -> tuple[str, ...]:
    """The packages of :data:`PACKAGES` that pip knows; two at once have overwritten each other."""
    found = []
    for name in PACKAGES:
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        found.append(name)
    return tuple(found)


def _not_built_in(version: str, provider: Provider, device: str) -> BackendError:
    packages = installed_packages()
    found = f"device {device}, and onnxruntime {version} has no {provider.title} provider"
    if len(packages) > 1:
        return BackendError(
            f"{found}: {' and '.join(packages)} are installed and have overwritten each other",
            "one of these packages",
            f"pip uninstall -y {' '.join(packages)}, then {install('gpu')}",
        )
    if "onnxruntime-gpu" in packages:
        return BackendError(
            found,
            f"an onnxruntime-gpu that is built with {provider.title}",
            "use --backend onnxruntime for CUDA, or --backend tensorrt or tensorrt-rtx for engines of verdiff's own",
        )
    other = packages[0] if packages else "onnxruntime"
    return BackendError(
        f"{found}: it is the package for {'WebGPU' if other.endswith('webgpu') else 'the CPU'}",
        "onnxruntime-gpu",
        f"pip uninstall -y {other}, then {install('gpu')}; the two overwrite each other",
    )


def _how_to_get(missing: tuple[str, ...]) -> str:
    if CUDA_LIBRARY in missing:
        others = tuple(name for name in missing if name != CUDA_LIBRARY)
        rest = f", then {_how_to_get(others)}" if others else ""
        return f"install the NVIDIA driver, which brings {CUDA_LIBRARY}{rest}"
    wanted = [_package_of(name) for name in missing]
    extras = list(dict.fromkeys(extra for extra, _ in wanted))
    packages = dict.fromkeys(package for _, package in wanted if package)
    remedy = install(",".join(extras), packages=" ".join(packages))
    if all("tensorrt" in extra for extra in extras):
        return f"{remedy}; or use --backend onnxruntime, which needs no TensorRT"
    return remedy if len(extras) > 1 else f"{remedy}, which brings CUDA and cuDNN"


def _package_of(library: str) -> tuple[str, str]:
    """The extra that brings a library, and what else to tell pip; TensorRT's name carries its major version."""
    if "rtx" in library:
        return "tensorrt-rtx", ""
    named = re.search(r"nv(?:infer|onnxparser)\D*(\d+)?", library)
    if named is None:
        return "gpu", ""
    # The newest TensorRT is another one than onnxruntime is linked with, as a rule.
    return "tensorrt", "" if named[1] is None else f"'tensorrt<{int(named[1]) + 1}'"


def _for_cuda(version: str) -> str:
    return f", for CUDA {version}" if version else ""
