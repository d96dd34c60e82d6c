"""Keys, sidecars and machines for tests that need one."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from verdiff.engines import (
    EngineKey,
    Machine,
    ProfileShape,
    Sidecar,
    TensorInfo,
    TensorRange,
    build_arguments,
    write_engine,
)
from verdiff.options import BuildOptions

PLAN = b"a plan of some bytes" * 50


def profile(rows: int, cols: int, batch: int = 8) -> ProfileShape:
    """Of a prior: image [1 to batch, 1, rows, cols]."""
    return ProfileShape((TensorRange("image", (1, 1, rows, cols), (batch, 1, rows, cols), (batch, 1, rows, cols)),))


def make_key(**changes: Any) -> EngineKey:
    """The key of a TensorRT engine for one H200; ``changes`` replace its fields."""
    key = EngineKey(
        model_id="tiny-mr",
        role="prior",
        precision="fp16",
        graph_sha256="ab" * 32,
        flavour="tensorrt",
        trt_version="10.13.0.35",
        cuda_version="13",
        profiles=(profile(192, 192), profile(320, 256)),
        flags=(),
        sm="90",
        gpu_name="NVIDIA H200",
    )
    return replace(key, **changes)


def make_sidecar(key: EngineKey | None = None, plan: bytes = PLAN, **changes: Any) -> Sidecar:
    """The sidecar of ``plan`` under ``key``; ``changes`` replace its fields."""
    key = key or make_key()
    sidecar = Sidecar(
        key=key,
        plan_sha256=hashlib.sha256(plan).hexdigest(),
        plan_bytes=len(plan),
        io=(TensorInfo("image", "float32", "input", (-1, 1, -1, -1)),),
        weight_bytes=1000,
        device_memory_bytes=None,
        proof=("network: all of the graph's types",),
        driver_version="580.65.06",
        gpu_name="NVIDIA H200",
        built_at="2026-11-21T08:00:00+00:00",
        build_seconds=12.5,
        verdiff="0.1.0",
        arguments=build_arguments(
            BuildOptions(
                "tiny-mr",
                key.precision,
                (key.role,),
                version_compatible="version-compatible" in key.flags,
                hardware_compatible="hardware-compatible" in key.flags,
            )
        ),
    )
    return replace(sidecar, **changes)


HERE = Machine("tensorrt", "10.13.0.35", "13", "580.65.06", (13, 0), "90", "NVIDIA H200")
REBUILD = "verdiff build tiny-mr --precision fp16 --role prior --flavour tensorrt"


def put(folder: Path, key: EngineKey | None = None, plan: bytes = PLAN, **changes: Any) -> Path:
    """Write an engine into a cache; the path of its plan."""
    key = key or make_key()
    return write_engine(key, plan, make_sidecar(key, plan, **changes), folder)
