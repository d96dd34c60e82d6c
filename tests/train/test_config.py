"""Configurations: the shipped files are valid, and mistakes in a file are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from verdiff.errors import DataError
from verdiff.train.config import RunConfig, load_config, shipped_configs
from verdiff.train.training import override


@pytest.mark.parametrize("name", shipped_configs())
def test_shipped_configurations_load_and_survive_a_round_trip(name: str) -> None:
    config = load_config(name)
    assert config.model_id == name
    assert RunConfig.from_dict(config.to_dict()) == config
    assert len(config.sampling.table(config.process.build())) == config.sampling.steps


def test_the_papers_settings_are_the_papers() -> None:
    config = load_config("verdiff-net-paper")
    training, augment = config.training, config.augment
    assert (training.optimizer, training.learning_rate, training.iterations, training.batch) == ("adam", 1e-4, 9000, 1)
    assert (training.seed, training.crop, augment.rotation_deg, augment.shift) == (35, None, 30.0, 0.05)
    assert (config.process.name, config.process.prediction, config.process.timesteps) == ("verdiff", "epsilon", 1000)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[training]\nlearning = 1", "key 'learning'"),
        ("[training]\niterations = 'many'", "iterations = 'many'"),
        ("[training]\nbatch = 1.5", "batch = 1.5"),
        ("[trainer]", "'trainer'"),
        ("[network]\ndenoiser_stride = 3", "denoiser_stride = 3"),
        ("training = [", "not TOML"),
    ],
)
def test_a_mistake_in_a_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "model.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(DataError, match=message):
        load_config(path)


def test_an_unknown_configuration_lists_the_known_ones() -> None:
    with pytest.raises(DataError, match="spine-mr"):
        load_config("spine")


def test_the_command_line_overrides_only_what_it_names() -> None:
    config = load_config("spine-mr")
    changed = override(config, minutes=5.0, seed=None)
    assert changed.training.minutes == 5.0 and changed.training.seed == config.training.seed


def test_settings_stand_in_place_of_the_configurations_own_values() -> None:
    config = load_config(
        "unet", ("training.batch=2", "training.crop=[64, 32]", "training.decay=poly", "network.widths=[8, 8, 8, 8, 8]")
    )
    assert (config.training.batch, config.training.crop, config.training.decay) == (2, (64, 32), "poly")
    assert config.network.widths == (8, 8, 8, 8, 8)
    assert config.training.seed == load_config("unet").training.seed


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.batch", "TABLE.KEY=VALUE"),
        ("batch=2", "TABLE.KEY=VALUE"),
        ("training.bach=2", "'bach'"),
        ("training.batch=many", "'many'"),
        ("trainings.batch=2", "'trainings'"),
        ("training.decay=slow", "'slow'"),
    ],
)
def test_a_setting_that_means_nothing_is_refused(setting: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_config("unet", (setting,))
