"""The inference libraries: each is made to compute, and what of a GPU they could use is listed with the reasons."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from verdiff.doctor.report import BAD, GOOD, NOTE, Check, first_line, refused, version_of
from verdiff.errors import BackendError
from verdiff.extras import install

if TYPE_CHECKING:
    from verdiff.nvidia import InstalledDriver

# An ONNX model of one node, b = a + a with a float32 [1] (opset 18): the least that shows a backend computes.
DOUBLING_MODEL = bytes.fromhex(
    "08093a350a0e0a01610a016112016222034164641201675a0f0a0161120a0a08080112040a02080162"
    "0f0a0162120a0a08080112040a02080142040a001012"
)

# The packages that install a library, and what the others than the processor's are made for.
PACKAGES = {"onnxruntime": ("onnxruntime", "onnxruntime-gpu", "onnxruntime-webgpu")}
MADE_FOR = {"onnxruntime-gpu": " (the package for GPUs)", "onnxruntime-webgpu": " (the package for WebGPU)"}


def check_inference(driver: InstalledDriver | BackendError, *, needed: bool = True) -> list[Check]:
    """ONNX Runtime and OpenVINO, whether one of them is enough for ``verdiff infer``, and the providers.

    Args:
        driver: Driver of this machine, or why there is none.
        needed: Whether the processor is to be used; on a GPU the checks of the device say whether something runs.
    """
    backends = [check_backend("onnxruntime", double_onnxruntime), check_backend("openvino", double_openvino)]
    checks = [*backends]
    if not any(check.state == GOOD for check in backends):
        checks.append(
            Check(
                "inference",
                BAD if needed else NOTE,
                "no working backend for the processor",
                install("cpu", "gpu", "openvino"),
            )
        )
    checks.append(check_packages())
    if backends[0].state == GOOD:
        from verdiff.runtime import silent

        checks += check_providers(silent.onnxruntime(), driver)
    if backends[1].state == GOOD:
        checks.append(check_openvino_devices())
    return checks


def check_backend(name: str, double: Callable[[], float]) -> Check:
    """Whether a library is there and computes 2 + 2."""
    package = next((each for each in PACKAGES.get(name, (name,)) if version_of(each)), name)
    version = version_of(package)
    if version is None:
        extra = "cpu" if name == "onnxruntime" else "openvino"
        return Check(name, NOTE, "not installed", f"if it is wanted: {install(extra)}")
    try:
        answer = double()
    except Exception as error:
        # Whatever a native library raises here, the report must go on and say it.
        return Check(
            name, BAD, f"{version} does not work: {first_line(error)}", f"pip install --force-reinstall {package}"
        )
    if answer != 4.0:
        return Check(name, BAD, f"{version} computes 2 + 2 = {answer}", f"pip install --force-reinstall {package}")
    return Check(name, GOOD, f"{version} works" + MADE_FOR.get(package, ""))


def double_onnxruntime() -> float:
    """2 + 2 on the CPU."""
    import numpy as np

    from verdiff.runtime import silent

    onnxruntime = silent.onnxruntime()
    session = onnxruntime.InferenceSession(DOUBLING_MODEL, providers=["CPUExecutionProvider"])
    return float(session.run(None, {"a": np.array([2], np.float32)})[0][0])


def double_openvino() -> float:
    """2 + 2 on the CPU."""
    import io

    import numpy as np

    from verdiff.runtime import silent

    core = silent.openvino().Core()
    compiled = core.compile_model(core.read_model(io.BytesIO(DOUBLING_MODEL)), "CPU")
    return float(compiled([np.array([2], np.float32)])[0][0])


def check_packages() -> Check:
    """Check that at most one of ONNX Runtime's packages is installed: each overwrites the others' files."""
    from verdiff.runtime.backends.providers import installed_packages

    packages = installed_packages()
    if len(packages) > 1:
        return Check(
            "onnxruntime files",
            BAD,
            f"{' and '.join(packages)} overwrite each other",
            f"pip uninstall -y {' '.join(packages)}, then {install('cpu', 'gpu', 'webgpu')}",
        )
    return Check("onnxruntime files", GOOD, "one package at most")


def check_providers(onnxruntime: Any, driver: InstalledDriver | BackendError) -> list[Check]:
    """The providers that ONNX Runtime lists, and of each for GPUs whether it would load. None is loaded to find out."""
    from verdiff.runtime.backends.providers import GPU_PROVIDERS, require_fp32, require_provider

    def ask(device: str) -> tuple[InstalledDriver, Any]:
        if isinstance(driver, BackendError):
            raise driver
        return driver, driver.gpus[0]

    listed = onnxruntime.get_available_providers()
    built_for = getattr(onnxruntime, "cuda_version", "") or ""
    names = ", ".join(name.removesuffix("ExecutionProvider") for name in listed)
    found = f"{names}; built for CUDA {built_for}" if built_for else names
    checks = [Check("onnxruntime providers", GOOD, found)]
    for provider in GPU_PROVIDERS.values():
        if provider.name not in listed:
            continue
        try:
            gpu = require_provider(onnxruntime, provider, "cuda", require_gpu=ask)
            require_fp32(provider, gpu, onnxruntime.__version__)
        except BackendError as error:
            checks.append(refused(f"onnxruntime {provider.title}", NOTE, error))
        else:
            found = "listed; its libraries and the driver are there"
            checks.append(Check(f"onnxruntime {provider.title}", GOOD, found))
    checks += check_webgpu(listed)
    if len(checks) == 1 and not isinstance(driver, BackendError):
        remedy = f"to use the GPU through it: pip uninstall -y onnxruntime, then {install('gpu')}"
        checks.append(Check("onnxruntime CUDA", NOTE, "the package for the CPU is installed", remedy))
    return checks


def check_webgpu(listed: list[str]) -> list[Check]:
    """Where ONNX Runtime lists WebGPU, the GPU it would take. Nothing is computed on it."""
    from verdiff.runtime.backends.adapters import named
    from verdiff.runtime.backends.webgpu import PROVIDER, require_adapter

    if PROVIDER not in listed:
        return []
    try:
        found = f"listed; {named(require_adapter('webgpu'))} is there"
    except BackendError as error:
        return [refused("onnxruntime WebGPU", NOTE, error)]
    return [Check("onnxruntime WebGPU", GOOD, found)]


def check_openvino_devices() -> Check:
    """What OpenVINO could run on; verdiff uses its CPU."""
    from verdiff.runtime import silent

    try:
        devices = ", ".join(silent.openvino().Core().available_devices)
    except Exception as error:
        return Check("openvino devices", NOTE, f"cannot be listed: {first_line(error)}", "update the drivers")
    return Check("openvino devices", GOOD, f"{devices} (verdiff uses the CPU)")
