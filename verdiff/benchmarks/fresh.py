"""Run a function in a fresh process: its result and the most memory the process ever held.

A peak is a property of a whole process, so one that has already loaded rivals or data cannot measure it. Nor can
``getrusage`` in its child: on Linux ``ru_maxrss`` starts at the parent's size and survives ``exec``, so a small child
of a large parent reports the parent. ``VmHWM`` belongs to the new program alone and is read where there is one.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verdiff import errors
from verdiff.errors import BackendError, VerdiffError, remedy_with

STATUS = Path("/proc/self/status")
MARK = "verdiff-fresh: "


@dataclass(frozen=True)
class FreshRun:
    """What came back from the process.

    Attributes:
        result: The function's return value, plain JSON values.
        peak_bytes: The most memory that was resident at once; None where the system does not tell.
    """

    result: Any
    peak_bytes: int | None


def run_fresh(target: str, arguments: Mapping[str, Any], *, environment: Mapping[str, str] | None = None) -> FreshRun:
    """Call ``target`` (``"package.module:function"``) with keyword arguments in a new Python process.

    Args:
        target: A function that takes and returns plain JSON values.
        arguments: Its keyword arguments.
        environment: Variables set beside this process's own.

    Raises:
        VerdiffError: What the function raised, as the same class.
        BackendError: The process ended in any other way, for example killed for its memory.
    """
    task = json.dumps({"target": target, "arguments": dict(arguments)})
    done = subprocess.run(
        [sys.executable, "-m", "verdiff.benchmarks.fresh"],
        input=task,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **(environment or {})},
    )
    answer = next((line for line in reversed(done.stdout.splitlines()) if line.startswith(MARK)), None)
    if answer is None:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise BackendError(
            f"a fresh process for {target} ended with code {done.returncode}: {last}",
            "a process that ends by itself and gives a result",
            "run it by itself to see the whole message; code -9 means it was killed, most often for its memory",
        )
    found = json.loads(answer.removeprefix(MARK))
    if "error" in found:
        raise getattr(errors, found["error"]["class"], VerdiffError)(*found["error"]["parts"])
    return FreshRun(found["result"], found["peak_bytes"])


def peak_bytes(status: Path = STATUS) -> int | None:
    """The most memory that this process has held resident, in bytes; None where the system does not tell."""
    if status.is_file():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _main() -> None:
    task = json.load(sys.stdin)
    module, _, name = task["target"].partition(":")
    answer: dict[str, Any]
    try:
        result = getattr(importlib.import_module(module), name)(**task["arguments"])
        answer = {"result": result, "peak_bytes": peak_bytes()}
    except VerdiffError as error:
        # Benchmarks have no option of the kind that a remedy may name.
        parts = [error.found, error.expected, remedy_with(error.remedy, ())]
        answer = {"error": {"class": type(error).__name__, "parts": parts}}
    print(MARK + json.dumps(answer))


if __name__ == "__main__":
    _main()
