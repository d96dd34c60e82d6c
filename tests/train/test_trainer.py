"""The training loop: it learns, resumes exactly, keeps the best, and stops with a message when it cannot go on."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.random import Generator
from torch import Tensor

from tests.train.toy import toy_config, toy_dataset
from verdiff.errors import DataError, OutputError, VerdiffError
from verdiff.train import trainer as trainer_module
from verdiff.train.checkpoint import load_network, read_checkpoint
from verdiff.train.config import RunConfig
from verdiff.train.curves import read_metrics
from verdiff.train.first_weights import kind_from
from verdiff.train.networks import SegmentationModel
from verdiff.train.objective import Losses, Objective, joint_objective
from verdiff.train.run_kind import RunKind
from verdiff.train.trainer import Trainer
from verdiff.train.validate import dice_per_class, sample_case, validate


def train(run: Path, **training: object) -> Trainer:
    trainer = Trainer(toy_config(**training), toy_dataset(), 0, run, device="cpu")
    for _ in trainer.train():
        pass
    return trainer


def test_it_learns_the_toy_data_and_the_sampled_mask_is_a_mask(tmp_path: Path) -> None:
    trainer = train(tmp_path / "run", iterations=120, batch=4, learning_rate=5e-3, validate_every=120)
    result = validate(trainer.ema, trainer.config, trainer.val_cases)
    assert result.prior.mean() > 0.8 and result.sampled.mean() > 0.8


def test_slices_too_small_for_the_network_are_refused_before_training(tmp_path: Path) -> None:
    data = toy_dataset()
    case = data.cases[1]
    small = dataclasses.replace(case, images=case.images[:, :4], labels=case.labels[:, :4])
    data = dataclasses.replace(data, cases=(data.cases[0], small, *data.cases[2:]))
    with pytest.raises(DataError, match=rf"slices of 4 x {small.images.shape[2]} pixels in case {case.name}"):
        Trainer(toy_config(), data, 0, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("every", [1, 2, 1000])
def test_a_case_of_few_slices_is_validated_on_its_middle_one(tmp_path: Path, every: int) -> None:
    trainer = Trainer(toy_config(), toy_dataset(), 0, tmp_path / "run", device="cpu")
    case, table = trainer.val_cases[0], trainer.config.sampling.table(trainer.config.process.build())
    count = len(case.images)
    _, sampled, chosen = sample_case(trainer.ema, trainer.config, case, table, every=every)
    assert len(sampled) == len(chosen) == max(1, count // every)
    if every > count:
        assert chosen.tolist() == [count // 2]


def test_the_budget_is_counted_by_the_clock_that_is_given(tmp_path: Path) -> None:
    ticks = itertools.count(0, 60)
    config = toy_config(iterations=50, minutes=3.0, validate_every=50)
    trainer = Trainer(config, toy_dataset(), 0, tmp_path / "run", device="cpu", clock=lambda: float(next(ticks)))
    assert sum(1 for _ in trainer.train()) == 3


def test_a_budget_that_a_validation_ends_is_spent_in_the_checkpoint_too(tmp_path: Path) -> None:
    ticks = itertools.count(0, 60)
    config = toy_config(iterations=50, minutes=3.0, validate_every=2)
    trainer = Trainer(config, toy_dataset(), 0, tmp_path / "run", device="cpu", clock=lambda: float(next(ticks)))
    assert sum(1 for _ in trainer.train()) == 2 and trainer.fraction == 1.0
    assert read_checkpoint(tmp_path / "run" / "last.pt").minutes == 3.0


def test_validations_look_at_every_so_manieth_case_and_all_are_put_aside(tmp_path: Path) -> None:
    data = toy_dataset(6)
    names = [case.name for case in data.cases]
    data = dataclasses.replace(data, splits=({"train": names[:2], "val": names[2:]},))
    trainer = Trainer(toy_config(validate_cases=3), data, 0, tmp_path / "run", device="cpu")
    (first, _) = [state.validation for state in trainer.train() if state.validation is not None]
    assert first.sampled.shape == (2, 2)
    assert [case.name for case in trainer.validated] == [names[2], names[5]]
    assert trainer.facts.validation_cases == tuple(names[2:])


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_the_papers_form_trains_on_whole_slices_one_at_a_time(tmp_path: Path, prediction: str) -> None:
    config = toy_config(crop=None, batch=1, optimizer="adam", loss_dice=0.0, loss_mse=1.0, ema=0.0)
    config = dataclasses.replace(
        config,
        network=dataclasses.replace(config.network, denoiser_widths=(8, 8, 8), denoiser_stride=1, condition="stem"),
        process=dataclasses.replace(config.process, prediction=prediction, signal_scale=1.0),
        sampling=dataclasses.replace(config.sampling, steps=4, samples=2),
    )
    trainer = Trainer(config, toy_dataset(), 0, tmp_path / "run", device="cpu")
    results = [state.validation for state in trainer.train() if state.validation]
    assert trainer.iteration == 6 and np.isfinite(results[-1].loss)
    assert all(torch.equal(a, b) for a, b in zip(trainer.ema.parameters(), trainer.net.parameters(), strict=True))


def test_a_resumed_run_ends_with_the_very_weights_of_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole")
    first = Trainer(toy_config(), toy_dataset(), 0, tmp_path / "cut", device="cpu")
    for state in first.train():
        if state.iteration == 4:  # after the checkpoint of iteration 3, which it has to go back to
            break
    second = Trainer(toy_config(), toy_dataset(), 0, tmp_path / "cut", resume=True, device="cpu")
    assert second.iteration == 3
    for _ in second.train():
        pass
    for ours, theirs in ((second.net, whole.net), (second.ema, whole.ema)):
        for (name, a), b in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
            assert torch.equal(a, b), name
    whole_rows, cut_rows = (read_metrics(tmp_path / run / "metrics.csv") for run in ("whole", "cut"))
    assert [r["iteration"] for r in cut_rows] == [3, 6]
    assert [r["dice_sampled"] for r in cut_rows] == [r["dice_sampled"] for r in whole_rows]


def test_a_run_killed_long_before_its_next_validation_goes_on_from_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(tmp_path / "whole", validate_every=6)
    monkeypatch.setattr(trainer_module, "SAVE_MINUTES", 0.0)
    for state in Trainer(toy_config(validate_every=6), toy_dataset(), 0, tmp_path / "cut", device="cpu").train():
        if state.iteration == 4:
            break
    second = Trainer(toy_config(validate_every=6), toy_dataset(), 0, tmp_path / "cut", resume=True, device="cpu")
    assert second.iteration == 4
    for _ in second.train():
        pass
    for (name, a), b in zip(second.net.state_dict().items(), whole.net.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_a_run_leaves_checkpoints_metrics_curves_and_slices_to_verify_an_export_on(tmp_path: Path) -> None:
    train(tmp_path / "run")
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {"last.pt", "best.pt", "metrics.csv", "curves.png", "verification.npz"}
    net, checkpoint = load_network(tmp_path / "run")
    assert checkpoint.facts.labels == ("vertebra", "disc") and checkpoint.facts.validation_cases == ("toy3",)
    assert not net.training
    with np.load(tmp_path / "run" / "verification.npz") as arrays:
        assert arrays["images"].shape == (1, 40, 36)


def test_the_best_weights_are_kept_when_later_ones_are_worse(tmp_path: Path) -> None:
    trainer = Trainer(toy_config(), toy_dataset(), 0, tmp_path / "run", device="cpu")
    trainer.step()
    trainer._validate({"prior": 1.0, "denoiser": 1.0})
    trainer.best = 2.0
    trainer.step()
    trainer._validate({"prior": 1.0, "denoiser": 1.0})
    assert read_checkpoint(tmp_path / "run" / "best.pt").iteration == 1
    assert read_checkpoint(tmp_path / "run" / "last.pt").iteration == 2 and trainer.stale == 1


def test_the_best_weights_are_on_the_disk_before_the_run_counts_on_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(toy_config(), toy_dataset(), 0, tmp_path / "run", device="cpu")
    save, full = trainer._save, {"last.pt"}

    def until_full(name: str) -> None:
        if name in full:
            raise OutputError("no space", "room", "make some")
        save(name)

    monkeypatch.setattr(trainer, "_save", until_full)
    trainer.step()
    with pytest.raises(OutputError):
        trainer._validate({"prior": 1.0, "denoiser": 1.0})
    assert read_checkpoint(tmp_path / "run" / "best.pt").best == trainer.best


def test_a_run_that_patience_ends_is_blended_with_its_first_weights_too(tmp_path: Path) -> None:
    first = train(tmp_path / "first", iterations=1, validate_every=1)
    config = toy_config(iterations=100, validate_every=1, patience=2, learning_rate=0.0, keep_first=0.5)
    run, kind = tmp_path / "run", kind_from([tmp_path / "first"], config, first.dataset, 0)
    states = list(Trainer(config, toy_dataset(), 0, run, kind=kind, device="cpu").train())
    assert [state.iteration for state in states] == [1, 2, 3, 3] and (run / "blended.pt").is_file()
    again = list(Trainer(config, toy_dataset(), 0, run, kind=kind, resume=True, device="cpu").train())
    assert [state.iteration for state in again] == [3], "it is out of patience still"


def test_patience_ends_a_run_that_no_longer_improves(tmp_path: Path) -> None:
    trainer = Trainer(
        toy_config(iterations=100, validate_every=1, patience=2, learning_rate=0.0), toy_dataset(), 0, tmp_path / "run"
    )
    assert sum(1 for _ in trainer.train()) == 3


def test_minutes_bound_a_run_whatever_the_iterations(tmp_path: Path) -> None:
    trainer = Trainer(toy_config(iterations=10**6, minutes=1e-6), toy_dataset(), 0, tmp_path / "run", device="cpu")
    states = list(trainer.train())
    assert len(states) == 1 and states[-1].validation is not None and (tmp_path / "run" / "best.pt").is_file()


def test_non_finite_gradients_never_reach_the_weights_and_end_the_run_with_a_message(tmp_path: Path) -> None:
    trainer = Trainer(toy_config(iterations=100, validate_every=1000), toy_dataset(), 0, tmp_path / "run", device="cpu")
    poisoned = trainer.net.prior.head.bias
    before = {name: p.clone() for name, p in trainer.net.named_parameters()}
    poisoned.register_hook(lambda grad: grad * float("nan"))
    with pytest.raises(VerdiffError, match="gradients of NaN"):
        for _ in trainer.train():
            pass
    assert all(torch.equal(before[name], p) for name, p in trainer.net.named_parameters())


def test_a_loss_of_nan_ends_the_run_names_the_batch_and_keeps_the_weights_from_before(tmp_path: Path) -> None:
    def spoilt(config: RunConfig, device: torch.device) -> Objective:
        objective, calls = joint_objective(config, device), iter(range(100))

        def loss(net: SegmentationModel, image: Tensor, truth: Tensor, rng: Generator) -> Losses:
            found = objective(net, image, truth, rng)
            return found if next(calls) < 2 else found._replace(total=found.total * float("nan"))

        return loss

    config = toy_config(iterations=100, validate_every=1000)
    trainer = Trainer(config, toy_dataset(), 0, tmp_path / "run", kind=RunKind(objective=spoilt), device="cpu")
    with pytest.raises(VerdiffError, match="the loss of batch 3 is nan"):
        for _ in trainer.train():
            pass
    good = Trainer(config, toy_dataset(), 0, tmp_path / "good", device="cpu")
    good.step()
    good.step()
    resumed = Trainer(config, toy_dataset(), 0, tmp_path / "run", resume=True, device="cpu")
    assert resumed.iteration == 2
    assert all(torch.equal(a, b) for a, b in zip(good.net.parameters(), resumed.net.parameters(), strict=True))


def test_a_plateau_lowers_the_rate_after_as_many_validations_without_a_better_one(tmp_path: Path) -> None:
    config = toy_config(
        iterations=100, decay="plateau", plateau_factor=0.5, plateau_patience=1, warmup=0, learning_rate=0.01
    )
    trainer = Trainer(config, toy_dataset(), 0, tmp_path / "run", device="cpu")
    trainer.best = 2.0
    rates = []
    for _ in range(4):
        trainer._validate({"prior": 1.0, "denoiser": 1.0})
        rates.append(trainer._learning_rate())
    assert rates == [0.01, 0.005, 0.005, 0.0025]
    assert Trainer(config, toy_dataset(), 0, tmp_path / "run", resume=True)._learning_rate() == 0.0025


def test_poly_decay_falls_as_nnu_net_s(tmp_path: Path) -> None:
    trainer = Trainer(toy_config(iterations=4, decay="poly", warmup=0), toy_dataset(), 0, tmp_path / "run")
    trainer.iteration = 2
    assert trainer._learning_rate() == pytest.approx(2e-3 * 0.5**0.9 + 1e-6)


def test_a_finished_folder_is_not_overwritten_and_another_configuration_is_not_resumed(tmp_path: Path) -> None:
    train(tmp_path / "run")
    with pytest.raises(DataError, match="already holds a run"):
        Trainer(toy_config(), toy_dataset(), 0, tmp_path / "run")
    with pytest.raises(DataError, match=r"training\.seed = 1 \(was 35\)"):
        Trainer(toy_config(seed=1), toy_dataset(), 0, tmp_path / "run", resume=True)
    with pytest.raises(DataError, match=r"has no last\.pt"):
        Trainer(toy_config(), toy_dataset(), 0, tmp_path / "new", resume=True)


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / "last.pt").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(DataError, match=r"last\.pt is damaged"):
        read_checkpoint(tmp_path / "last.pt")


def test_dice_of_a_structure_in_neither_mask_is_one_and_in_one_only_zero() -> None:
    labels, truth = np.array([[[1, 0, 0, 0]]]), np.array([[[1, 1, 0, 0]]])
    assert dice_per_class(labels, truth, 2).tolist() == [pytest.approx(2 / 3), 1.0]
    assert dice_per_class(labels + 1, truth * 0, 2).tolist() == [0.0, 0.0]
