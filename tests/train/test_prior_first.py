"""A run's first part trains the prior network alone; what it measures is not what the denoiser will be judged by."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch

from tests.train.toy import toy_config, toy_dataset
from verdiff.errors import DataError
from verdiff.export.run_manifest import untrained
from verdiff.train.checkpoint import load_network, read_checkpoint
from verdiff.train.distill import distillation_kind, student_config
from verdiff.train.trainer import Trainer


def trainer_of(run: Path, *, resume: bool = False, **training: object) -> Trainer:
    return Trainer(toy_config(**training), toy_dataset(), 0, run, resume=resume, device="cpu")


def test_the_denoiser_keeps_its_first_weights_until_it_joins(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path / "run", prior_first=0.5, iterations=6, validate_every=3)
    first = {name: value.clone() for name, value in trainer.net.denoiser.state_dict().items()}

    def moved() -> bool:
        return any(not torch.equal(first[name], value) for name, value in trainer.net.denoiser.state_dict().items())

    for state in trainer.train():
        assert moved() == (state.iteration > 3)
    assert trainer.denoiser_iterations == 3


def test_the_prior_learns_alone_whatever_the_losses_of_the_denoiser(tmp_path: Path) -> None:
    losses = {"loss_mse": 1.0, "loss_bce": 0.0, "loss_dice": 0.0}
    trainer = trainer_of(tmp_path / "run", prior_first=0.5, **losses)
    first = [parameter.clone() for parameter in trainer.net.prior.parameters()]
    assert trainer.step()["prior"] > 0
    assert any(not torch.equal(a, b) for a, b in zip(first, trainer.net.prior.parameters(), strict=True))
    with pytest.raises(DataError, match=r"prior_first = 0\.5 with loss_prior = 0"):
        trainer_of(tmp_path / "other", prior_first=0.5, loss_prior=0.0)


def test_scores_of_the_prior_alone_choose_no_weights_of_both(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path / "run", prior_first=0.5, iterations=6, validate_every=3)
    for state in trainer.train():
        if state.iteration == 3:
            assert math.isfinite(trainer.best) and read_checkpoint(tmp_path / "run/best.pt").denoiser_iterations == 0
            trainer.best, trainer.stale = 1.0, 7
    assert trainer.best < 1.0 and trainer.stale == 0
    assert read_checkpoint(tmp_path / "run/best.pt").denoiser_iterations == 3


def test_a_run_that_ends_before_the_denoiser_learns_says_so_and_others_do_not(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path / "run", prior_first=0.5, iterations=6, validate_every=3)
    for state in trainer.train():
        if state.iteration == 3:
            break
    cut = dataclasses.replace(read_checkpoint(tmp_path / "run/best.pt"), best=0.9)
    assert untrained(cut) == "3 iterations of the prior network alone: the denoiser has learnt nothing yet"
    # Its first weights were those of a run whose denoiser had learnt.
    assert untrained(dataclasses.replace(cut, facts=dataclasses.replace(cut.facts, origin={"model": "m 1"}))) is None
    joined = dataclasses.replace(cut, iteration=400, denoiser_iterations=5, best=-math.inf)
    assert untrained(joined) == "400 iterations, the denoiser in 5 of them, not validated"
    assert untrained(dataclasses.replace(joined, denoiser_iterations=200)) is None


def test_a_longer_budget_does_not_send_the_denoiser_back_to_wait(tmp_path: Path) -> None:
    for _ in trainer_of(tmp_path / "run", prior_first=0.5, iterations=4).train():
        pass
    longer = trainer_of(tmp_path / "run", resume=True, prior_first=0.5, iterations=40)
    assert longer.fraction < 0.5 and longer.denoiser_iterations == 2 and not longer.prior_alone
    assert not math.isnan(longer.step()["denoiser"])
    # A checkpoint from before the count was kept has it from how far the run was.
    values = torch.load(tmp_path / "run/last.pt", weights_only=True)
    del values["denoiser_iterations"]
    torch.save(values, tmp_path / "run/last.pt")
    assert read_checkpoint(tmp_path / "run/last.pt").denoiser_iterations == 4


def test_patience_waits_for_the_denoiser(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path / "run", prior_first=0.5, iterations=8, validate_every=1, patience=1)
    for _ in trainer.train():
        if trainer.prior_alone:
            trainer.stale = 5
    assert trainer.denoiser_iterations > 0


def test_a_student_of_such_a_run_learns_from_the_start_and_keeps_the_prior_whole(tmp_path: Path) -> None:
    config = toy_config(prior_first=0.5, keep_first=0.5, iterations=2)
    config = dataclasses.replace(config, network=dataclasses.replace(config.network, norm="batch"))
    for _ in Trainer(config, toy_dataset(), 0, tmp_path / "teacher", device="cpu").train():
        pass
    teacher, checkpoint = load_network(tmp_path / "teacher", "last.pt")
    recipe = dataclasses.replace(
        config.distillation, iterations=4, validate_every=1, teacher_steps=2, teacher_samples=1
    )
    student = student_config(dataclasses.replace(config, distillation=recipe))
    kind = distillation_kind(teacher, checkpoint)
    trainer = Trainer(student, toy_dataset(), 0, tmp_path / "student", kind=kind, device="cpu")
    for _ in trainer.train():
        pass
    # The statistics of its norms, too, through every validation.
    for net in (trainer.net, trainer.ema):
        for (name, ours), theirs in zip(
            net.prior.state_dict().items(), teacher.prior.state_dict().values(), strict=True
        ):
            assert torch.equal(ours, theirs), name
    assert not (tmp_path / "student/blended.pt").exists()
