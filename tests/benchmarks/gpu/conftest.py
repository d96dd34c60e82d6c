"""A small workload of the tiny model."""

from __future__ import annotations

import pytest

from tests.runtime.tiny_bundle import write_tiny
from verdiff.benchmarks.gpu.workload import Workload
from verdiff.bundle import open_bundle


@pytest.fixture(scope="session")
def workload(tmp_path_factory: pytest.TempPathFactory) -> Workload:
    path = write_tiny(tmp_path_factory.mktemp("bundle") / "tiny.verdiff")
    return Workload(open_bundle(path), slices=3, size=(40, 28), samples=2, steps=3)
