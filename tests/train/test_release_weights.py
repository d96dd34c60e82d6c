"""Weights for a release: all patients, none put aside; and weights that another run goes on from."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from tests.train.test_train_command import SETTINGS, train
from tests.train.toy import toy_config, toy_dataset
from verdiff.errors import DataError
from verdiff.export.from_run import make_manifest
from verdiff.train import command
from verdiff.train.checkpoint import digest, load_network, read_checkpoint
from verdiff.train.data.cases import ALL
from verdiff.train.data.joining import Source
from verdiff.train.trainer import Trainer


def test_all_cases_train_none_is_put_aside_and_none_chooses_weights(tmp_path: Path) -> None:
    run = train(tmp_path, "run", fold=ALL)
    facts = read_checkpoint(run / "last.pt").facts
    assert facts.training_cases == ("toy0", "toy1", "toy2", "toy3") and facts.validation_cases == ()
    assert not (run / "best.pt").exists() and (run / "verification.npz").is_file()


def test_the_manifest_says_that_all_cases_were_trained_on(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(train(tmp_path, "run", fold=ALL) / "last.pt")
    config = checkpoint.config
    table = config.sampling.table(config.process.build())
    from verdiff.bundle import Defaults

    manifest = make_manifest(checkpoint, table, Defaults(**dataclasses.asdict(config.sampling)), {}, True)
    assert manifest.training["fold"] == "all" and manifest.put_aside("data") == ()


def test_a_run_goes_on_from_the_weights_of_another_and_remembers_which(tmp_path: Path) -> None:
    first = train(tmp_path, "first", fold=0)
    second = train(tmp_path, "second", fold=ALL, origin=first)
    origin = read_checkpoint(second / "last.pt").facts.origin
    net, _ = load_network(first)
    assert origin == {"data_set": "data", "fold": 0, "iteration": 2, "weights_sha256": digest(net.state_dict())}
    command.run(None, (), second, resume=True, iterations=3, say=lambda line: None)
    resumed = read_checkpoint(second / "last.pt")
    assert resumed.facts.origin == origin and resumed.iteration == 3 and resumed.facts.fold == ALL


def test_the_first_weights_are_those_of_the_other_run(tmp_path: Path) -> None:
    first = train(tmp_path, "first")
    task = command.task_from(first, read_checkpoint(first / "last.pt").config, dataclasses.replace(toy_dataset()))
    trainer = Trainer(read_checkpoint(first / "last.pt").config, toy_dataset(), 0, tmp_path / "run", task=task)
    net, _ = load_network(first)
    for (name, ours), theirs in zip(trainer.net.state_dict().items(), net.state_dict().values(), strict=True):
        assert torch.equal(ours.cpu(), theirs), name


def test_weights_of_another_network_or_of_other_structures_are_refused(tmp_path: Path) -> None:
    first = train(tmp_path, "first")
    config = read_checkpoint(first / "last.pt").config
    with pytest.raises(DataError, match=r"another \[network\]"):
        command.task_from(first, toy_config(), toy_dataset())
    with pytest.raises(DataError, match="structures of the data"):
        command.task_from(first, config, dataclasses.replace(toy_dataset(), labels=("disc", "vertebra")))
    with pytest.raises(DataError, match=r"best\.pt"):
        command.task_from(tmp_path / "none", config, toy_dataset())


def test_nothing_is_written_where_first_weights_do_not_fit(tmp_path: Path) -> None:
    first = train(tmp_path, "first")
    with pytest.raises(DataError):
        command.run(
            "spine-mr", [Source(tmp_path / "data")], tmp_path / "second", origin=first,
            settings=[*SETTINGS, "network.norm=group"], iterations=2, say=lambda line: None,
        )  # fmt: skip
    assert not (tmp_path / "second").exists()
    assert json.loads((first / "started.json").read_text("utf-8"))["fold"] == 0
