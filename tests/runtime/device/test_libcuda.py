"""The tests of tests/gpu through the installed cuda-core and cuda-bindings, on a driver library that is none.

What this cannot show is a device: speed, TensorRT, and whatever NVIDIA's own driver does otherwise.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.runtime.device.compiled_kernels import COMPILER
from tests.runtime.device.libcuda import build

ROOT = Path(__file__).resolve().parents[3]

pytestmark = [
    pytest.mark.skipif(COMPILER is None, reason="no C++ compiler"),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the driver library is loaded by its Linux name"),
    pytest.mark.skipif(find_spec("cuda") is None, reason="cuda-core is not installed"),
]


def test_the_gpu_tests_pass_on_a_driver_library_that_runs_on_the_processor(tmp_path: Path) -> None:
    library = build(tmp_path)
    environment = {**os.environ, "LD_LIBRARY_PATH": f"{library.parent}:{os.environ.get('LD_LIBRARY_PATH', '')}"}
    files = [f"tests/gpu/{name}.py" for name in ("test_driver", "test_kernels", "test_loop")]
    # Those that are quick on a processor; the path itself is the same.
    chosen = "not thousand and not closing and not same_bits and not ddpm and not (the_mask and mean)"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", chosen, *files]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert re.search(r"^[.\s]+\[100%\]", done.stdout, re.MULTILINE), done.stdout
