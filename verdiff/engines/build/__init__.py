"""Builds TensorRT engines of a bundle's graphs, proves their precision and puts them in the cache.

One code path for ``tensorrt`` 10.13 to 11 and ``tensorrt_rtx``. Needs onnx, never torch. docs/engines.md explains.
"""

from __future__ import annotations

from verdiff.engines.build.command import Built, build_engines
from verdiff.options import BuildOptions

__all__ = ["BuildOptions", "BuildRequest", "Built", "build_engines"]

# The older name of the same record.
BuildRequest = BuildOptions
