"""A scan from file to mask file, as the cases time it: which rivals there are, and the stages of one run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verdiff.bundle import Manifest
from verdiff.errors import BackendError
from verdiff.extras import install
from verdiff.files import scratch_folder
from verdiff.imaging import read_volume, write_array
from verdiff.runtime import Segmenter

Clock = Callable[[], float]

BACKENDS = {
    "ONNX Runtime fp32": ("onnxruntime", "fp32"),
    "OpenVINO fp32": ("openvino", "fp32"),
    "OpenVINO bf16": ("openvino", "bf16"),
    "OpenVINO int8": ("openvino", "int8"),
}
FAST = "fast"
# What the runtime's timings hold beside its stages: the whole call, and a part of the loop.
NO_STAGES = ("total", "denoiser")
SEGMENT_ONCE = f"{__name__}:segment_once"


@dataclass(frozen=True)
class LoadedBackends:
    """The backends that can run a model here.

    Attributes:
        segmenters: Name -> the model, loaded.
        seconds: Name -> what loading took, self-test and warm-up included.
        left_out: Name -> why it cannot.
    """

    segmenters: dict[str, Segmenter]
    seconds: dict[str, float]
    left_out: dict[str, str]


def load_backends(model: Path, threads: int) -> LoadedBackends:
    """Load a model on each of :data:`BACKENDS`.

    Raises:
        BackendError: None can run it.
    """
    loaded = LoadedBackends({}, {}, {})
    for name, (backend, precision) in BACKENDS.items():
        begun = time.perf_counter()
        try:
            loaded.segmenters[name] = Segmenter.load(model, backend=backend, precision=precision, threads=threads)
        except BackendError as error:
            loaded.left_out[name] = error.found
        else:
            loaded.seconds[name] = time.perf_counter() - begun
    if not loaded.segmenters:
        raise BackendError(
            "; ".join(loaded.left_out.values()),
            "at least one backend",
            install("cpu", "openvino"),
        )
    return loaded


def policies_of(manifest: Manifest) -> tuple[str | None, ...]:
    """What to time of a model: its default (None), and the fast setting where its record names one."""
    fast = any(setting.name == FAST for setting in manifest.settings)
    return (None, FAST) if fast else (None,)


def file_to_file(
    segmenter: Segmenter, scan: Path, mask: Path, *, policy: str | None = None, clock: Clock = time.perf_counter
) -> dict[str, float]:
    """Read a scan, segment it, write the mask; the seconds of each stage, those of the runtime under its own names."""
    begun = clock()
    volume = read_volume(scan)
    read = clock()
    result = segmenter.segment(volume, policy=policy)
    segmented = clock()
    write_array(result.labels, volume, mask)
    inner = {name: seconds for name, seconds in result.timings.items() if name not in NO_STAGES}
    return {"read": read - begun, **inner, "write": clock() - segmented}


def segment_once(model: str, scan: str, backend: str, precision: str, threads: int, policy: str | None) -> None:
    """What a fresh process runs to have its memory measured: load, read, segment, write, once."""
    segmenter = Segmenter.load(model, backend=backend, precision=precision, threads=threads)
    with scratch_folder() as folder:
        file_to_file(segmenter, Path(scan), Path(folder) / "mask.nii.gz", policy=policy)


def once_in_a_fresh_process(model: Path, scan: Path, name: str, threads: int, policy: str | None) -> dict[str, Any]:
    """The arguments of :func:`segment_once` for the backend ``name``."""
    backend, precision = BACKENDS[name]
    return {
        "model": str(model),
        "scan": str(scan),
        "backend": backend,
        "precision": precision,
        "threads": threads,
        "policy": policy,
    }
