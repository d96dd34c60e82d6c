"""A ``libcuda.so.1`` that runs on the processor, so that cuda-core itself can be driven where there is no driver."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.gpu.stand_in import SOURCE as STAND_IN
from tests.runtime.device.compiled_kernels import COMPILER, PREAMBLE
from tests.runtime.device.null_driver import signatures
from verdiff.runtime.device.kernels import source

DRIVER = Path(__file__).with_suffix(".cpp")
CLASSES = 3
TYPES = """
#include <map>
#include <string>
#include <vector>
struct Entry { void (*run)(long long, int, void**); std::vector<size_t> sizes; };
"""
CALL = """
static void call_{name}(long long blocks, int threads, void** given) {{
    blockDim.x = threads;
    for (long long i = 0; i < blocks * threads; ++i) {{
        blockIdx.x = (int)(i / threads); threadIdx.x = (int)(i % threads);
        {name}({arguments});
    }}
}}
"""


def build(folder: Path) -> Path:
    """Compile the library into ``folder``; its kernels are those of verdiff and of the stand-in networks."""
    assert COMPILER is not None
    text = f"{PREAMBLE}\n#define CLASSES {CLASSES}\n{source()}\n#undef HERE\n{STAND_IN}\n{TYPES}"
    table = []
    for name, kinds in (*signatures(source()).items(), *signatures(STAND_IN).items()):
        text += CALL.format(name=name, arguments=", ".join(f"*({kind}*)given[{i}]" for i, kind in enumerate(kinds)))
        table.append(f'{{"{name}", {{call_{name}, {{{", ".join(f"sizeof({kind})" for kind in kinds)}}}}}}}')
    text += f"static std::map<std::string, Entry> KERNELS{{{', '.join(table)}}};\n" + DRIVER.read_text("utf-8")
    code, library = folder / "libcuda.cpp", folder / "libcuda.so.1"
    code.write_text(text, "utf-8")
    options = ["-std=c++17", "-O1", "-ffp-contract=off", "-shared", "-fPIC"]
    subprocess.run([COMPILER, *options, str(code), "-o", str(library), "-ldl"], check=True, capture_output=True)
    return library
