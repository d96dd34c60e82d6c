"""CUDA C itself, compiled for the processor: the one text that runs on a device, run here thread by thread."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.runtime.device.null_driver import NullDriver, signatures
from verdiff.runtime.device.driver import Argument

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
    """The kernels of a source; arrays of numpy, or their addresses, stand for pointers."""

    def __init__(self, folder: Path, source: str, macros: dict[str, str]) -> None:
        assert COMPILER is not None
        self.kinds = signatures(source)
        text = PREAMBLE + source
        for name, kinds in self.kinds.items():
            places = [f"a{index}" for index in range(len(kinds))]
            parameters = "".join(f", {kind} {place}" for kind, place in zip(kinds, places, strict=True))
            text += RUN.format(name=name, parameters=parameters, arguments=", ".join(places))
        path = folder / "kernels.cpp"
        path.write_text(text, "utf-8")
        library = folder / "kernels.so"
        # As NVRTC is told: every product and sum is rounded by itself.
        command = [COMPILER, "-O1", "-ffp-contract=off", "-shared", "-fPIC"]
        command += [f"-D{name}={value}" for name, value in macros.items()]
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
                given.append((ctypes.c_void_p if kind.endswith("*") else C_TYPES[kind])(argument))
        getattr(self.library, f"run_{name}")(ctypes.c_longlong(threads), *given)


class CompiledDriver(NullDriver):
    """The null device with the CUDA C text itself for its kernels."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def compile(self, source: str, names: Iterable[str], macros: dict[str, str]) -> dict[str, Any]:
        super().compile(source, names, macros)
        folder = self.folder / str(len(self.calls))
        folder.mkdir()
        compiled = CompiledKernels(folder, source, macros)
        return {name: (compiled, name) for name in names}

    def launch(self, kernel: Any, threads: int, arguments: tuple[Argument, ...], stream: int) -> None:
        compiled, name = kernel
        self.check_arguments(name, arguments, compiled.kinds[name])

        def work() -> None:
            places = [
                self.view(argument, np.uint8, (1,)).ctypes.data if kind.endswith("*") else argument
                for argument, kind in zip(arguments, compiled.kinds[name], strict=True)
            ]
            compiled.run(name, threads, *places)

        self._put(f"launch:{name}", stream, work)


def zeros(*shape: int, dtype: Any = np.float32) -> NDArray[Any]:
    """Room for a result, filled with what must not be left there."""
    return np.full(shape, 77, dtype)
