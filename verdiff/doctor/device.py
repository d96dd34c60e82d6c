"""The device that was named: what a model needs to run on it, each thing tried rather than assumed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from verdiff.doctor.gpu import gpu_package
from verdiff.doctor.inference import DOUBLING_MODEL
from verdiff.doctor.report import BAD, GOOD, NOTE, Check, first_line, refused, version_of
from verdiff.errors import BackendError

if TYPE_CHECKING:
    from verdiff.engines import Sidecar
    from verdiff.engines.doctor.installed import Installed

START = 'extern "C" __global__ void start('
LOOK = "look at nvidia-smi and the system log for Xid errors"
# For errors that elsewhere send their reader to this command.
KERNELS_REMEDY = f"pip install --upgrade cuda-core cuda-bindings nvidia-cuda-nvrtc, all for one CUDA; {LOOK}"


def check_device(
    device: str, there: Mapping[str, Installed], loading: Sequence[Sidecar] = (), model: str | None = None
) -> list[Check]:
    """Nothing for the CPU, whose backends are always tried; else verdiff's own kernels on the GPU, which every way of
    running a model wants, and each of the ways that are installed.

    Args:
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        there: The flavours of TensorRT that are installed.
        loading: The engines that load on the device.
        model: The model to run there; None is any.
    """
    if device == "cpu":
        return []
    from verdiff.engines.doctor.serving import check_way
    from verdiff.nvidia import require_gpu

    name = f"device {device}"
    try:
        driver, gpu = require_gpu(device)
    except BackendError as error:
        return [refused(name, BAD, error)]
    kernels = _tried(
        name, lambda: double_by_kernel(device), "there, and computes with verdiff's kernels", KERNELS_REMEDY
    )
    engines = [check_way(name, installed, driver, gpu, loading, model) for installed in there.values()]
    onnxruntime = []
    if has_provider():
        remedy = f"pip install --force-reinstall onnxruntime-gpu; {LOOK}"
        found = "works through ONNX Runtime's CUDA provider"
        onnxruntime = [_tried(f"{name} onnxruntime", lambda: double_on_gpu(device), found, remedy)]
    if not onnxruntime and not engines:
        return [kernels, Check(f"{name} backends", BAD, "nothing is installed that runs on it", gpu_package())]
    if any(check.state == GOOD for check in (*onnxruntime, *engines)):
        # One way is enough; ONNX Runtime, which is taken where none is named, has to work all the same.
        engines = [replace(check, state=NOTE) if check.state == BAD else check for check in engines]
    return [kernels, *onnxruntime, *engines]


def has_provider() -> bool:
    """Whether ONNX Runtime is here for GPUs: by its package's name, or by what it lists."""
    from verdiff.runtime import silent
    from verdiff.runtime.backends.providers import CUDA

    if version_of("onnxruntime-gpu") is not None:
        return True
    try:
        onnxruntime = silent.onnxruntime()
    except Exception:
        # Said where the backends are looked at.
        return False
    return CUDA.name in onnxruntime.get_available_providers()


def double_on_gpu(device: str) -> float:
    """2 + 2 through ONNX Runtime's CUDA provider.

    Raises:
        BackendError: The provider is not there, or the sum went to the CPU.
    """
    import numpy as np

    from verdiff.runtime import silent
    from verdiff.runtime.backends.onnxruntime import open_session
    from verdiff.runtime.backends.providers import CUDA, provider_options, require_placement, require_provider

    module: Any = silent.onnxruntime()
    require_provider(module, CUDA, device)
    options = provider_options(CUDA, device, graphs=False)
    session = open_session(module, DOUBLING_MODEL, "doubling", device, options, threads=1)
    require_placement(session, CUDA, "doubling", device, module.__version__)
    return float(session.run(None, {"a": np.array([2], np.float32)})[0][0])


def double_by_kernel(device: str) -> float:
    """2 + 2 by the kernel ``start`` of the device path, through its driver; what is taken is given back.

    Raises:
        BackendError: cuda-core or NVRTC is not there, the kernel is not compiled, or the device refused.
    """
    import numpy as np

    from verdiff.runtime.device.block import Block, quietly
    from verdiff.runtime.device.cuda_core import open_driver

    driver = open_driver(device)
    with driver.active(), ExitStack() as undo:
        kernel = driver.compile(start_source(), ("start",), {})["start"]
        stream = driver.open_stream(None)
        undo.callback(quietly, driver.close_stream, stream)
        # x = on[0] prior + on[1] noise, one float each and two for `on`.
        values = np.array([np.nan, 2, 2, 1, 1], np.float32)
        block = Block(driver, values.nbytes, values.nbytes)
        undo.callback(block.close)
        x, prior, noise, on = (block.base + at * values.itemsize for at in range(4))
        block.pinned[:] = values.view(np.uint8)
        driver.upload(x, block.pinned, stream)
        driver.launch(kernel, 1, (x, prior, noise, on, np.int32(1)), stream)
        driver.download(block.pinned, x, stream)
        driver.synchronise(stream)
        return float(block.pinned.view(np.float32)[0])


def start_source() -> str:
    """The kernel ``start`` alone: NVRTC takes a second of the processor for all of ``kernels.cu``, and 60 ms for it."""
    from verdiff.runtime.device.kernels import source

    text = source()
    begin = text.index(START)
    return text[: text.index("// ----")] + text[begin : text.index("\n}\n", begin) + 3]


def _tried(name: str, double: Callable[[], float], works: str, remedy: str) -> Check:
    try:
        answer = double()
    except BackendError as error:
        check = refused(name, BAD, error)
        return replace(check, remedy=remedy) if "verdiff doctor" in error.remedy else check
    except Exception as error:
        # Whatever a native library raises here, the report must go on and say it.
        return Check(name, BAD, first_line(error), remedy)
    if answer != 4.0:
        return Check(name, BAD, f"computes 2 + 2 = {answer}", LOOK)
    return Check(name, GOOD, works)
