"""The machine and the library versions a figure was measured with. No host name, no user, no path."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

CPUINFO = Path("/proc/cpuinfo")
LOAD_LIMIT = 0.5
OTHERS_LIMIT = 0.05
TELLING_FLAGS = (
    "avx2",
    "fma",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "avx_vnni",
    "amx_tile",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "asimdhp",
    "bf16",
    "i8mm",
    "sve",
)
LIBRARIES = (
    "numpy",
    "scipy",
    "SimpleITK",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "torch",
    "tensorrt",
    "cuda-core",
)


@dataclass(frozen=True)
class Environment:
    """What a figure depends on.

    Attributes:
        cpu: Model name of the processor.
        cores: Cores this process may use.
        memory_gb: Installed memory in GB (10^9 bytes); None where the system does not tell.
        flags: Instruction sets of the processor that change how fast networks run.
        system: Operating system and architecture.
        python: Version of Python.
        load: Load average of the last minute when this was asked for; None where the system does not tell.
        others: Share of the cores' time that other processes took while the case ran; None where the system does not
            tell, or the run was too short to.
    """

    cpu: str
    cores: int
    memory_gb: float | None
    flags: tuple[str, ...]
    system: str
    python: str
    load: float | None
    others: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {"flags": list(self.flags)}

    def doubts(self) -> tuple[str, ...]:
        """A reason to distrust timings taken here: something else kept the cores busy.

        What others did during the run decides where it is known. The load average before it is what is left elsewhere:
        it also remembers the last minute's own work.
        """
        if self.others is not None:
            if self.others > OTHERS_LIMIT:
                return (f"other processes took {self.others:.0%} of the {self.cores} core(s)' time during the run",)
        elif self.load is not None and self.load > LOAD_LIMIT:
            return (
                f"the load average was {self.load:.1f} on {self.cores} core(s) before the run: other work was going on",
            )
        return ()


def describe_machine() -> Environment:
    """The machine this process runs on; ask before the first measurement, which raises the load itself."""
    cpu, flags = parse_cpuinfo(CPUINFO.read_text(encoding="utf-8", errors="replace") if CPUINFO.is_file() else "")
    affinity = getattr(os, "sched_getaffinity", None)
    return Environment(
        cpu=cpu or platform.processor() or platform.machine(),
        cores=len(affinity(0)) if affinity is not None else os.cpu_count() or 1,
        memory_gb=_memory_gb(),
        flags=flags,
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    )


def parse_cpuinfo(text: str) -> tuple[str, tuple[str, ...]]:
    """Model name (``""`` where there is none) and telling flags from the text of ``/proc/cpuinfo``."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, separator, value = line.partition(":")
        if separator:
            fields.setdefault(key.strip(), value.strip())
    there = set((fields.get("flags") or fields.get("Features") or "").split())
    return fields.get("model name", ""), tuple(flag for flag in TELLING_FLAGS if flag in there)


def library_versions() -> dict[str, str]:
    """Versions of the installed libraries that a figure may depend on."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (AttributeError, ValueError, OSError):
        return None
