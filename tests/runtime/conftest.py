"""The tiny bundle, written once a session; a clock that the networks drive; an ONNX Runtime that records."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.runtime.slow_time import FakeTime
from tests.runtime.tiny_bundle import write_tiny
from verdiff.runtime import clock

if TYPE_CHECKING:
    from tests.runtime.fake_onnxruntime import FakeOnnxRuntime


@pytest.fixture(scope="session")
def bundle_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A verified zip of the tiny model."""
    return write_tiny(tmp_path_factory.mktemp("bundles") / "tiny.verdiff")


@pytest.fixture(scope="session")
def single_pass_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model without its denoiser."""
    return write_tiny(tmp_path_factory.mktemp("bundles") / "single.verdiff", denoiser=False)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    """The clock of the runtime, which stands still outside the networks."""
    fake = FakeTime()
    monkeypatch.setattr(clock, "perf_counter", fake)
    return fake


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> FakeOnnxRuntime:
    """A module ``onnxruntime`` with CUDA that is none."""
    from tests.runtime.recording_device import fake_module
    from verdiff.runtime.backends import onnxruntime_cuda

    made = fake_module()
    monkeypatch.setitem(sys.modules, "onnxruntime", made)
    monkeypatch.setattr(onnxruntime_cuda, "require_provider", lambda *asked: None)
    return made
