"""The machine beside its inference engines: versions, processor, memory, disks, training packages."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path

from verdiff import __version__
from verdiff.doctor.report import BAD, GOOD, NOTE, Check, version_of
from verdiff.errors import BackendError
from verdiff.extras import install

CPU_FEATURES = ("avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
CPUINFO = Path("/proc/cpuinfo")
LEAST_FREE_GB = 1.0
# What the default model takes on a full-resolution lumbar scan, and as much again.
LEAST_MEMORY_GB = 0.7


def check_installation() -> Check:
    """Versions of what every installation has."""
    parts = [f"verdiff {__version__}", f"Python {platform.python_version()}"]
    parts += [f"{name} {version}" for name in ("numpy", "SimpleITK") if (version := version_of(name))]
    return Check("installation", GOOD, ", ".join(parts) + f", {platform.system()} {platform.machine()}")


def check_processor(cpuinfo: Path = CPUINFO) -> Check:
    """Which of the instructions that inference gains from are there, and how many cores."""
    from verdiff.runtime.backends import default_threads

    cores = f"{default_threads()} core(s)"
    try:
        text = cpuinfo.read_text("utf-8", "replace")
    except OSError:
        return Check("processor", NOTE, f"{platform.machine()}, {cores}; this system does not list its instructions")
    flags = next((set(line.split()) for line in text.splitlines() if line.startswith(("flags", "Features"))), set())
    there = [feature for feature in CPU_FEATURES if feature in flags]
    bf16 = "bf16 in hardware" if {"avx512_bf16", "amx_bf16"} & flags else "no bf16: use fp32"
    return Check("processor", GOOD, f"{cores}, {', '.join(there) or platform.machine()}; {bf16}")


def check_memory() -> Check:
    """Whether a scan fits into what is free."""
    from verdiff.runtime.memory import available_bytes

    free = available_bytes()
    if free is None:
        return Check("memory", NOTE, "this system does not say how much is free")
    found = f"{free / 1e9:.1f} GB free" + _installed_memory()
    if free < LEAST_MEMORY_GB * 1e9:
        return Check("memory", BAD, found, f"free at least {LEAST_MEMORY_GB:g} GB, or raise the container's limit")
    return Check("memory", GOOD, found)


def check_training() -> Check:
    """Whether ``verdiff train`` would run."""
    missing = [name for name in ("torch", "onnx", "onnxscript") if version_of(name) is None]
    if missing:
        return Check("training", NOTE, f"{', '.join(missing)} not installed", f"to train: {install('train')}")
    return Check("training", GOOD, f"torch {version_of('torch')}, onnx {version_of('onnx')}")


def check_disks(folder: Path | None = None) -> list[Check]:
    """Room where results go (None is the working folder) and where engines are kept."""
    from verdiff.engines import cache_path

    try:
        checks = [_disk("disk", folder or Path.cwd())]
    except OSError as error:
        # It was deleted while somebody stood in it.
        found = f"the working folder cannot be found ({error.strerror or error})"
        checks = [Check("disk", BAD, found, "change into a folder that exists")]
    try:
        checks.append(_disk("disk of engines", _nearest(cache_path())))
    except BackendError as error:
        # This user has no home folder.
        checks.append(Check("disk of engines", NOTE, error.found, error.remedy))
    return checks


def _disk(name: str, folder: Path) -> Check:
    try:
        free = shutil.disk_usage(folder).free / 1e9
    except OSError as error:
        return Check(name, BAD, f"{folder}: {error.strerror}", "work in a folder that exists")
    if free < LEAST_FREE_GB:
        return Check(name, BAD, f"{free:.1f} GB free in {folder}", f"free at least {LEAST_FREE_GB:g} GB")
    return Check(name, GOOD, f"{free:.0f} GB free")


def _nearest(folder: Path) -> Path:
    """The folder, or the first of those above it that is there and may be looked into."""
    for each in (folder, *folder.parents):
        try:
            each.stat()
        except OSError:
            continue
        return each
    return folder


def _installed_memory() -> str:
    try:
        return f" of {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9:.1f} GB"
    except (AttributeError, ValueError, OSError):
        return ""
