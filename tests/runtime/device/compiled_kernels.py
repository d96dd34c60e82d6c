"""``kernels.cu`` itself, compiled for the processor: the one text that runs on a device, run here thread by thread."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.runtime.device.null_driver import signatures
from verdiff.runtime.device.kernels import source

COMPILER = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
# What CUDA C has and C++ has not: one thread after the other stands at its place.
PREAMBLE = """
#include <cmath>
#define __global__
#define __device__ static
struct Place { int x; };
static thread_local Place blockIdx, blockDim, threadIdx;
using std::exp; using std::log; using std::sqrt; using std::cos; using std::sin;
"""
RUN = """
extern "C" void run_{name}(long long threads{parameters}) {{
    blockDim.x = 256;
    for (long long i = 0; i < (threads + 255) / 256 * 256; ++i) {{
        blockIdx.x = (int)(i / 256); threadIdx.x = (int)(i % 256);
        {name}({arguments});
    }}
}}
"""
C_TYPES = {"int": ctypes.c_int, "word": ctypes.c_uint, "wide": ctypes.c_ulonglong, "float": ctypes.c_float}


class CompiledKernels:
    """The kernels for one number of classes; arrays of numpy stand for pointers."""

    def __init__(self, folder: Path, classes: int) -> None:
        assert COMPILER is not None
        self.kinds = signatures(source())
        text = PREAMBLE + source()
        for name, kinds in self.kinds.items():
            places = [f"a{index}" for index in range(len(kinds))]
            parameters = "".join(f", {kind} {place}" for kind, place in zip(kinds, places, strict=True))
            text += RUN.format(name=name, parameters=parameters, arguments=", ".join(places))
        path = folder / "kernels.cpp"
        path.write_text(text)
        library = folder / "kernels.so"
        # As NVRTC is told: every product and sum is rounded by itself.
        command = [COMPILER, "-O1", "-ffp-contract=off", "-shared", "-fPIC", f"-DCLASSES={classes}"]
        subprocess.run([*command, str(path), "-o", str(library)], check=True, capture_output=True)
        self.library = ctypes.CDLL(str(library))

    def run(self, name: str, threads: int, *arguments: Any) -> None:
        """One kernel; arrays must be C-contiguous and are written in place."""
        given = []
        for argument, kind in zip(arguments, self.kinds[name], strict=True):
            if isinstance(argument, np.ndarray):
                assert kind.endswith("*") and argument.flags.c_contiguous
                given.append(ctypes.c_void_p(argument.ctypes.data))
            else:
                given.append(C_TYPES[kind](argument))
        getattr(self.library, f"run_{name}")(ctypes.c_longlong(threads), *given)


def zeros(*shape: int, dtype: Any = np.float32) -> NDArray[Any]:
    """Room for a result, filled with what must not be left there."""
    return np.full(shape, 77, dtype)
