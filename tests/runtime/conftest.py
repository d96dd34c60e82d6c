"""The tiny bundle, written once a session."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runtime.tiny_bundle import write_tiny


@pytest.fixture(scope="session")
def bundle_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A verified zip of the tiny model."""
    return write_tiny(tmp_path_factory.mktemp("bundles") / "tiny.verdiff")


@pytest.fixture(scope="session")
def single_pass_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model without its denoiser."""
    return write_tiny(tmp_path_factory.mktemp("bundles") / "single.verdiff", denoiser=False)
