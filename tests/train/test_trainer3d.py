"""The training loop on volumes: it learns, resumes exactly, leaves windows for the export, refuses what cannot be."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.train.toy3d import PATCH, STILL, toy_config3d, toy_volumes
from verdiff.errors import DataError
from verdiff.train.checkpoint import load_network
from verdiff.train.config import load_config
from verdiff.train.optimisation import bf16_is_fast
from verdiff.train.trainer import Trainer
from verdiff.train.validate3d import validate3d


def test_safnet_learns_the_toy_volumes_and_puts_windows_aside(tmp_path: Path) -> None:
    config = toy_config3d(STILL, iterations=60, validate_every=60, learning_rate=2e-2)
    trainer = Trainer(config, toy_volumes(), 0, tmp_path / "run", device="cpu")
    before = validate3d(trainer.net, config, trainer.val_cases)
    for _ in trainer.train():
        pass
    net, checkpoint = load_network(tmp_path / "run")
    after = validate3d(net, checkpoint.config, trainer.val_cases)
    assert after.sampled.mean() > 0.6 and after.loss < 0.5 * before.loss
    with np.load(tmp_path / "run" / "verification.npz") as arrays:
        assert arrays["images"].shape == (1, *PATCH)


def test_a_resumed_run_on_volumes_ends_with_the_very_weights_of_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = Trainer(toy_config3d(), toy_volumes(), 0, tmp_path / "whole", device="cpu")
    for _ in whole.train():
        pass
    for state in Trainer(toy_config3d(), toy_volumes(), 0, tmp_path / "cut", device="cpu").train():
        if state.iteration == 3:
            break
    second = Trainer(toy_config3d(), toy_volumes(), 0, tmp_path / "cut", resume=True, device="cpu")
    assert second.iteration == 2
    for _ in second.train():
        pass
    for (name, a), b in zip(second.net.state_dict().items(), whole.net.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize(
    ("flags", "in_2d", "in_3d"),
    [("avx2 fma", False, False), ("avx512_bf16", True, True), ("avx512_bf16 amx_bf16 amx_tile", True, False)],
)
def test_volumes_are_trained_in_fp32_where_bf16_is_amx(tmp_path: Path, flags: str, in_2d: bool, in_3d: bool) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"flags\t\t: fpu {flags}\n", "utf-8")
    device = torch.device("cpu")
    assert (bf16_is_fast(device, 2, cpuinfo), bf16_is_fast(device, 3, cpuinfo)) == (in_2d, in_3d)
    assert not bf16_is_fast(device, 2, tmp_path / "none")


@pytest.mark.parametrize(
    ("table", "change", "named"),
    [
        ("training", {"crop": (32, 16)}, r"\[training\] crop"),
        ("training", {"validate_slices": 3}, "validate_slices = 3"),
        ("augment", {"small_field": 0.3}, "small_field"),
        ("data", {"slice_spacing_mm": None}, "slice_spacing_mm = None"),
        ("data", {"spacing_mm": 0.9}, "voxels of 1.5, 1.5, 4.4 mm"),
        ("data", {"slice_spacing_mm": 2.0}, "2 mm"),
    ],
)
def test_what_only_slices_have_and_another_grid_are_refused_before_training(
    tmp_path: Path, table: str, change: dict[str, Any], named: str
) -> None:
    config = toy_config3d()
    config = dataclasses.replace(config, **{table: dataclasses.replace(getattr(config, table), **change)})
    with pytest.raises(DataError, match=named):
        Trainer(config, toy_volumes(), 0, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["safnet", "unet3d", "resunet3d", "deeplabv3-3d", "cfnet3d"])
def test_the_shipped_3d_configurations_share_data_window_and_schedule(name: str) -> None:
    config, paper = load_config(name), load_config("safnet")
    assert config.system == config.model_id == name
    assert (config.data, config.augment, config.training) == (paper.data, paper.augment, paper.training)
    assert config.network.patch == (18, 256, 128)
    assert (config.training.learning_rate, config.training.weight_decay) == (1e-3, 1e-4)
