"""One small trained run and its bundle, exported once for all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.train.toy import toy_config, toy_dataset
from verdiff.export.exporting import run
from verdiff.options import ExportOptions
from verdiff.train.trainer import Trainer


@pytest.fixture(scope="session")
def toy_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished training run of a few iterations."""
    folder = tmp_path_factory.mktemp("runs") / "toy"
    for _ in Trainer(toy_config(iterations=30, validate_every=30), toy_dataset(), 0, folder, device="cpu").train():
        pass
    return folder


@pytest.fixture(scope="session")
def toy_bundle(toy_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of :func:`toy_run`, with its checks passed."""
    path = tmp_path_factory.mktemp("bundles") / "toy.verdiff"
    run(toy_run, ExportOptions(path), say=lambda line: None)
    return path
