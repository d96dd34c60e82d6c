"""Builds TensorRT engines of a bundle's graphs, proves their precision and puts them in the cache.

One code path for ``tensorrt`` 10.13 to 11 and ``tensorrt_rtx``. Needs onnx, never torch. docs/engines.md explains.
"""

from __future__ import annotations

from verdiff.engines.build.command import BuildRequest, Built, build_engines

__all__ = ["BuildRequest", "Built", "build_engines"]
