"""The one door to ONNX Runtime and OpenVINO: imported so that they call nobody and write nothing below HOME.

ONNX Runtime 1.31 looks up a telemetry host and keeps an id and a database in the user's cache, from its import on;
its own switch comes too late, an environment variable that it reads while it is imported does not. OpenVINO hands a
line to its package ``openvino_telemetry``, which looks up an analytics host and keeps an id; without that package it
has a stub of its own. A program that imported either library before verdiff decided this for itself.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from threading import Lock
from typing import Any

ORT_SWITCH = "ORT_DISABLE_TELEMETRY"
OPENVINO_TELEMETRY = "openvino_telemetry"
# The environment and the table of modules are the whole process's.
_LOCK = Lock()


def onnxruntime() -> Any:
    """The onnxruntime module."""
    if "onnxruntime" in sys.modules:
        return import_module("onnxruntime")
    with _LOCK, environment(ORT_SWITCH, "1"):
        return import_module("onnxruntime")


def openvino() -> Any:
    """The openvino module."""
    if "openvino" in sys.modules:
        return import_module("openvino")
    with _LOCK, _without_module(OPENVINO_TELEMETRY):
        return import_module("openvino")


@contextmanager
def environment(name: str, value: str) -> Iterator[None]:
    """Set a variable of the environment for the length of the block; it is the whole process's."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextmanager
def _without_module(name: str) -> Iterator[None]:
    """Hide the package, as if it were not installed, for the length of the block."""
    before = {each: module for each, module in sys.modules.items() if each == name or each.startswith(f"{name}.")}
    for each in before:
        del sys.modules[each]
    # An entry of None makes the import fail as a missing package does.
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]
        sys.modules.update(before)
