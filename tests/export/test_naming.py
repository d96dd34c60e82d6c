"""A model is called after its run, never after the one that ships, and an untrained one says so."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest

from tests.train.toy import toy_config, toy_dataset
from verdiff.errors import DataError
from verdiff.export.exporting import run as export
from verdiff.export.from_run import name_of
from verdiff.export.run_manifest import untrained
from verdiff.options import ExportOptions
from verdiff.train.checkpoint import Checkpoint, read_checkpoint
from verdiff.train.trainer import Trainer


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("runs/my-spine", "my-spine"),
        ("runs/Meine Wirbel (2)", "meine-wirbel-2"),
        ("runs/spine-mr", "spine-mr-own"),
        ("runs/___", "model"),
        ("runs/" + "x" * 200, "x" * 58),
    ],
)
def test_a_model_is_called_after_the_folder_of_its_run(folder: str, name: str) -> None:
    assert name_of(Path(folder)) == name


@pytest.mark.parametrize("name", ["spine-mr", "My Model", "-x", ""])
def test_a_name_that_is_taken_or_none_is_refused_before_anything_is_computed(tmp_path: Path, name: str) -> None:
    (tmp_path / "last.pt").touch()
    with pytest.raises(DataError, match="--name"):
        export(tmp_path, ExportOptions(name=name), say=lambda line: None)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    run = tmp_path_factory.mktemp("runs") / "run"
    for _ in Trainer(toy_config(iterations=3), toy_dataset(), 0, run, device="cpu").train():
        pass
    return read_checkpoint(run / "last.pt")


def test_three_iterations_are_no_training(checkpoint: Checkpoint) -> None:
    said = untrained(dataclasses.replace(checkpoint, best=0.21))
    assert said == "3 iterations, best validation Dice 0.21"
    assert untrained(dataclasses.replace(checkpoint, best=-math.inf)) == "3 iterations, not validated"


def test_a_run_that_finds_something_is_trained_however_few_its_iterations(checkpoint: Checkpoint) -> None:
    assert untrained(dataclasses.replace(checkpoint, best=0.8)) is None


def test_a_run_stopped_by_patience_is_judged_by_its_iterations(checkpoint: Checkpoint) -> None:
    # Its score is the negative loss, and says nothing on this scale.
    config = dataclasses.replace(
        checkpoint.config, training=dataclasses.replace(checkpoint.config.training, patience=3)
    )
    assert untrained(dataclasses.replace(checkpoint, config=config, best=-0.1)) is not None
    assert untrained(dataclasses.replace(checkpoint, config=config, best=-0.1, denoiser_iterations=400)) is None
