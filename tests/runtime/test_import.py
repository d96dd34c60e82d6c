"""What ``import verdiff.runtime`` loads: numpy and verdiff's own rooms, nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys

HEAVY = ("torch", "onnx", "onnxruntime", "openvino", "SimpleITK", "scipy", "matplotlib", "PIL", "typer", "rich")


def test_importing_the_runtime_loads_nothing_heavy() -> None:
    code = f"import sys, verdiff.runtime; print([m for m in {HEAVY} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_runtime_does_not_reach_into_the_rooms_above_it() -> None:
    code = "import sys, verdiff.runtime; print(sorted({m.split('.')[1] for m in sys.modules if m[:8] == 'verdiff.'}))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ground = ["choices", "errors", "extras", "files", "keywords", "options", "precisions", "settings"]
    assert ast.literal_eval(found.stdout) == sorted([*ground, "bundle", "diffusion", "imaging", "runtime"])


def test_the_library_prints_nothing() -> None:
    code = (
        "from tests.runtime.scans import mr_scan, numpy_segmenter\n"
        "numpy_segmenter().segment(mr_scan())\n"
        "list(numpy_segmenter().stream(mr_scan()))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout + found.stderr == ""
