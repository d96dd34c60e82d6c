"""``verdiff doctor``: does this installation work on this machine? Every check is short and none uses the network."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from verdiff import __version__
from verdiff.errors import VerdiffError

# An ONNX model of one node, b = a + a with a float32 [1] (opset 18): the least that shows a backend computes.
DOUBLING_MODEL = bytes.fromhex(
    "08093a350a0e0a01610a016112016222034164641201675a0f0a0161120a0a08080112040a02080162"
    "0f0a0162120a0a08080112040a02080142040a001012"
)
CPU_FEATURES = ("avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
LEAST_FREE_GB = 1.0
GOOD, NOTE, BAD = "ok", "note", "problem"


@dataclass(frozen=True)
class Check:
    """One line of the report.

    Attributes:
        name: What was looked at.
        state: ``"ok"``, ``"note"`` (nothing to do unless it is wanted) or ``"problem"``.
        found: What is there.
        remedy: What to do about it; empty when there is nothing to do.
    """

    name: str
    state: str
    found: str
    remedy: str = ""


def examine(folder: Path | None = None) -> list[Check]:
    """Every check, in the order of the report; ``folder`` is where results would go (the working folder)."""
    backends = [_backend("onnxruntime", _double_onnxruntime), _backend("openvino", _double_openvino)]
    checks = [_package(), _features(), *backends]
    if not any(check.state == GOOD for check in backends):
        checks.append(
            Check("inference", BAD, "no working backend", "pip install 'verdiff[cpu]' (or [gpu], or [openvino])")
        )
    checks += [_onnxruntime_twice(), *_bundles(), _training(), _disk(folder or Path.cwd())]
    return checks


def healthy(checks: list[Check]) -> bool:
    """Whether nothing needs to be done before ``verdiff infer`` works."""
    return all(check.state != BAD for check in checks)


def as_json(checks: list[Check]) -> dict[str, Any]:
    """The report as plain JSON values."""
    return {"healthy": healthy(checks), "checks": [asdict(check) for check in checks]}


def lines(checks: list[Check]) -> list[str]:
    """The report for people."""
    found = []
    for check in checks:
        found.append(f"{check.state:<8} {check.name:<18} {check.found}")
        if check.remedy:
            found.append(f"{'':<27} to do: {check.remedy}")
    return found


def _package() -> Check:
    parts = [f"verdiff {__version__}", f"Python {platform.python_version()}"]
    parts += [f"{name} {version}" for name in ("numpy", "SimpleITK") if (version := _version(name))]
    return Check("installation", GOOD, ", ".join(parts) + f", {platform.system()} {platform.machine()}")


def _features() -> Check:
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:
        return Check("processor", NOTE, f"{platform.machine()}; this system does not list its instructions")
    flags = next((set(line.split()) for line in text.splitlines() if line.startswith(("flags", "Features"))), set())
    there = [feature for feature in CPU_FEATURES if feature in flags]
    bf16 = "bf16 in hardware" if {"avx512_bf16", "amx_bf16"} & flags else "no bf16: use fp32"
    return Check("processor", GOOD, f"{', '.join(there) or platform.machine()}; {bf16}")


def _backend(name: str, double: Callable[[], float]) -> Check:
    version = _version(name) or (_version("onnxruntime-gpu") if name == "onnxruntime" else None)
    if version is None:
        extra = "cpu" if name == "onnxruntime" else "openvino"
        return Check(name, NOTE, "not installed", f"pip install 'verdiff[{extra}]' if it is wanted")
    try:
        answer = double()
    except Exception as error:
        # Whatever a native library raises here, the report must go on and say it.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        return Check(name, BAD, f"{version} does not work: {reason}", f"pip install --force-reinstall {name}")
    if answer != 4.0:
        return Check(name, BAD, f"{version} computes 2 + 2 = {answer}", f"pip install --force-reinstall {name}")
    return Check(name, GOOD, f"{version} works")


def _double_onnxruntime() -> float:
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(DOUBLING_MODEL, providers=["CPUExecutionProvider"])
    return float(session.run(None, {"a": np.array([2], np.float32)})[0][0])


def _double_openvino() -> float:
    import io

    import numpy as np
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(core.read_model(io.BytesIO(DOUBLING_MODEL)), "CPU")
    return float(compiled([np.array([2], np.float32)])[0][0])


def _onnxruntime_twice() -> Check:
    both = [name for name in ("onnxruntime", "onnxruntime-gpu") if _version(name)]
    if len(both) == 2:
        remedy = "pip uninstall both, then pip install 'verdiff[cpu]' or 'verdiff[gpu]'"
        return Check("onnxruntime files", BAD, "onnxruntime and onnxruntime-gpu overwrite each other", remedy)
    return Check("onnxruntime files", GOOD, "one package at most")


def _bundles() -> list[Check]:
    from verdiff.bundle import DEFAULT_MODEL, open_bundle, shipped_models

    checks = []
    for name, path in shipped_models().items():
        try:
            manifest = open_bundle(path).manifest
        except VerdiffError as error:
            checks.append(Check(f"model {name}", BAD, error.found, "pip install --force-reinstall verdiff"))
        else:
            checks.append(Check(f"model {name}", GOOD, f"{manifest.version}, {len(manifest.files)} files verified"))
    if DEFAULT_MODEL not in shipped_models():
        checks.append(Check(f"model {DEFAULT_MODEL}", BAD, "not there", "pip install --force-reinstall verdiff"))
    return checks


def _training() -> Check:
    missing = [name for name in ("torch", "onnx", "onnxscript") if _version(name) is None]
    if missing:
        return Check("training", NOTE, f"{', '.join(missing)} not installed", "pip install 'verdiff[train]' to train")
    return Check("training", GOOD, f"torch {_version('torch')}, onnx {_version('onnx')}")


def _disk(folder: Path) -> Check:
    try:
        free = shutil.disk_usage(folder).free / 1e9
    except OSError as error:
        return Check("disk", BAD, f"{folder}: {error.strerror}", "work in a folder that exists")
    if free < LEAST_FREE_GB:
        return Check("disk", BAD, f"{free:.1f} GB free in {folder}", f"free at least {LEAST_FREE_GB:g} GB")
    return Check("disk", GOOD, f"{free:.0f} GB free")


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
