"""Graphs in FP16 and engines that a benchmark lacks are made first, once, where they can be found again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.runtime.tiny_bundle import write_tiny, write_tiny_half
from verdiff.benchmarks.cases import Options, gpu
from verdiff.benchmarks.gpu import prepare
from verdiff.benchmarks.gpu.prepare import build_missing, with_half_graphs
from verdiff.bundle import open_bundle, resolve_model
from verdiff.engines import build
from verdiff.errors import BackendError
from verdiff.nvidia import Gpu, InstalledDriver


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VERDIFF_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_bundle_with_half_graphs_is_taken_as_it_is(tmp_path: Path, cache: Path) -> None:
    bundle = open_bundle(write_tiny_half(tmp_path / "half.verdiff"))
    assert with_half_graphs(bundle, pytest.fail) is bundle
    assert not cache.exists()


def test_the_default_model_is_converted_once_and_again_when_the_conversion_was_damaged(cache: Path) -> None:
    shipped, said = open_bundle(resolve_model(None)), list[str]()
    made = with_half_graphs(shipped, said.append)
    assert made.has("prior", "fp16") and made.has("denoiser", "fp16")
    assert made.path.is_relative_to(cache) and made.path.parent.stat().st_mode & 0o077 == 0
    assert with_half_graphs(shipped, said.append).manifest_sha256 == made.manifest_sha256
    assert len(said) == 1
    made.path.write_bytes(made.path.read_bytes()[:-5000])
    assert with_half_graphs(shipped, said.append).manifest_sha256 == made.manifest_sha256
    assert len(said) == 2


def test_a_model_that_cannot_be_converted_has_rows_that_say_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rival(workload: Any, *_: Any, precision: str, **__: Any) -> Any:
        assert not workload.bundle.has("prior", "fp16") and precision == "fp32"
        raise BackendError("not here", "it", "go")

    monkeypatch.setattr(gpu, "torch_rival", lambda *_, **__: rival(*_, precision="fp32"))
    monkeypatch.setattr(gpu, "runtime_rival", rival)
    card = Gpu(0, "a card", "90", 1, 1)
    options = Options(bundle=write_tiny(tmp_path / "tiny.verdiff"), size=(32, 32))
    with pytest.raises(BackendError) as caught:
        gpu.run(options, require_gpu=lambda device: (InstalledDriver("580.1", (13, 0), (card,)), card))
    for name, (_, precision, _) in gpu.RUNTIME.items():
        reasons = [part for part in caught.value.found.split("; ") if name in part]
        assert len(reasons) == 1
        assert ("no slices to judge fp16 on" in reasons[0]) == (precision == "fp16")
    assert caught.value.found.count("not here") == 1


def test_engines_are_asked_for_as_verdiff_build_makes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    bundle = open_bundle(write_tiny_half(tmp_path / "half.verdiff"))
    monkeypatch.setattr(build, "build_engines", lambda request, say: asked.append(request))
    monkeypatch.setattr(prepare, "find_package", lambda flavour: None if flavour == "tensorrt" else object())
    for backend in ("onnxruntime", "tensorrt", "tensorrt-rtx"):
        build_missing(bundle, backend=backend, precision="fp16", device="cuda:1", say=print)
    (request,) = asked
    assert (request.flavour, request.precision, request.device) == ("tensorrt-rtx", "fp16", "cuda:1")
    assert request.model == str(bundle.path)
