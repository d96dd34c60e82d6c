"""Which of a processor's instructions decide how inference computes, and so which gates hold here."""

from __future__ import annotations

import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
# From the best to the least, each with what the system calls it. The first that is there decides how bytes and
# brief floats are multiplied.
KINDS = {
    "amx": ("amx_int8", "amx_bf16"),
    "avx512_bf16": ("avx512_bf16",),
    "avx512_vnni": ("avx512_vnni",),
    "avx_vnni": ("avx_vnni",),
    "avx512": ("avx512bw",),
    "avx2": ("avx2",),
    "i8mm": ("i8mm",),
    "dotprod": ("asimddp",),
}


def instruction_flags(cpuinfo: Path = CPUINFO) -> frozenset[str]:
    """What the system says the processor can do; empty where it does not say."""
    try:
        text = cpuinfo.read_text("utf-8", "replace")
    except OSError:
        return frozenset()
    lines = (line for line in text.splitlines() if line.startswith(("flags", "Features")))
    return frozenset(next((line.partition(":")[2].split() for line in lines), ()))


def instruction_set(cpuinfo: Path = CPUINFO) -> str:
    """The kind of kernels that run here (``"avx2"``, ``"avx512_vnni"``, ...), else the machine's name."""
    flags = instruction_flags(cpuinfo)
    return next((kind for kind, names in KINDS.items() if flags & set(names)), platform.machine())
