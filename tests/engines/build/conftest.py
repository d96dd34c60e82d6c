"""The default model as a bundle that carries FP16 too, and TensorRT-RTX, which builds without a GPU."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from tests.runtime.tiny_bundle import write_tiny
from verdiff.bundle import Bundle, graph_name, open_bundle, resolve_model, write_bundle
from verdiff.engines import find_package, require_package
from verdiff.engines.build import BuildOptions, Built, build_engines
from verdiff.engines.library import Library, load_library
from verdiff.export.precision import to_half
from verdiff.extras import install

# Two sizes, so that every engine has more than one profile; small ones, so that it is built in a second.
SIZES = ((64, 48), (96, 96))


@pytest.fixture(scope="session")
def library() -> Library:
    if find_package("tensorrt_rtx") is None:
        pytest.skip(f"TensorRT-RTX is not installed: {install('tensorrt-rtx')}")
    return load_library(require_package("tensorrt_rtx"))


@pytest.fixture(scope="session")
def single_pass(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model without a denoiser."""
    return write_tiny(tmp_path_factory.mktemp("single") / "single.verdiff", denoiser=False)


@pytest.fixture(scope="session")
def both(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The default model with its FP32 graphs and the FP16 ones that are made of them."""
    source = open_bundle(resolve_model())
    files = {name: source.read(name) for name in source.manifest.files}
    for role in ("prior", "denoiser"):
        half = to_half(onnx.load_from_string(source.graph(role))).model
        files[graph_name(role, "fp16")] = half.SerializeToString(deterministic=True)
    path = tmp_path_factory.mktemp("bundle") / "both.verdiff"
    write_bundle(path, source.manifest, files)
    return open_bundle(path)


@pytest.fixture(scope="session")
def engines(library: Library, both: Bundle, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Built]:
    """Real engines of the default model by role and precision."""
    found = {}
    for precision in ("fp32", "fp16"):
        request = BuildOptions(
            str(both.path), precision, sizes=SIZES, batch=4, cache=tmp_path_factory.mktemp("cache") / "engines"
        )
        found |= {(built.sidecar.key.role, precision): built for built in build_engines(request)}
    return found
