"""``verdiff train`` as a command: a configuration, settings and folds in, a run out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.train.toy import write_raw_dataset
from verdiff.errors import DataError
from verdiff.train import training as command
from verdiff.train.checkpoint import read_checkpoint
from verdiff.train.data.joining import TrainingSource

SETTINGS = (
    "network.prior_widths=[8, 8, 16]", "network.denoiser_widths=[8, 8]", "network.fusion_width=8",
    "training.crop=[16, 16]", "training.batch=1", "training.recycle=0.0", "training.validate_every=2",
)  # fmt: skip


def train(tmp_path: Path, run: str, **options: object) -> Path:
    data = tmp_path / "data"
    if not data.is_dir():
        write_raw_dataset(data, cases=4)
    return command.run(
        "spine-mr",
        [TrainingSource(data)],
        tmp_path / run,
        settings=[*SETTINGS, "training.iterations=2"],
        say=lambda line: None,
        **options,  # type: ignore[arg-type]
    )


def test_settings_and_folds_reach_the_run_and_its_record(tmp_path: Path) -> None:
    seen: set[str] = set()
    for fold in range(4):
        run = train(tmp_path, f"run{fold}", fold=fold, folds=4)
        checkpoint = read_checkpoint(run / "last.pt")
        assert checkpoint.config.network.denoiser_widths == (8, 8)
        assert len(checkpoint.facts.validation_cases) == 1
        seen |= set(checkpoint.facts.validation_cases)
        assert json.loads((run / "config.json").read_text("utf-8"))["training"]["crop"] == [16, 16]
    assert seen == {"toy0", "toy1", "toy2", "toy3"}


def test_more_folds_than_patients_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="5 folds"):
        train(tmp_path, "run", folds=5)
    assert not (tmp_path / "run").exists()


def test_the_real_nnunetv2_takes_no_settings_and_is_only_nnu_net(tmp_path: Path) -> None:
    for config, refused, message in (("unet", (), "unet"), ("nnunet", ("--minutes",), "--minutes")):
        with pytest.raises(DataError, match=message):
            command.run_nnunetv2(config, tmp_path, tmp_path / "run", fold=0, resume=False, refused=refused)
    assert not (tmp_path / "run").exists()
