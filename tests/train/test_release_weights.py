"""Weights for a release: all patients, none put aside; and weights that another run goes on from."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from tests.train.test_train_command import SETTINGS, train
from tests.train.toy import toy_config, toy_dataset
from verdiff.bundle import open_bundle
from verdiff.errors import BundleError, DataError
from verdiff.export.exporting import run as export
from verdiff.export.from_run import make_manifest
from verdiff.export.slices import chosen_of_run
from verdiff.export.torch_graphs import PriorGraph
from verdiff.options import ExportOptions
from verdiff.train import training as command
from verdiff.train.building import build_network
from verdiff.train.checkpoint import digest, load_network, read_checkpoint, write_checkpoint
from verdiff.train.data.cases import ALL
from verdiff.train.data.joining import TrainingSource
from verdiff.train.data.loading import load_sources
from verdiff.train.first_weights import kind_from
from verdiff.train.from_bundle import taken_back
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
    assert chosen_of_run(tmp_path / "run", manifest, lambda line: None).seen == 1
    aside = dataclasses.replace(manifest, training={**manifest.training, "fold": 0})
    assert chosen_of_run(tmp_path / "run", aside, lambda line: None).seen == 0
    before = {"trained_from": {"trained_on": ["toy0"]}}
    begun = dataclasses.replace(aside, training={**aside.training, **before})
    assert chosen_of_run(tmp_path / "run", begun, lambda line: None).seen == 1


def test_a_run_goes_on_from_the_weights_of_another_and_remembers_which(tmp_path: Path) -> None:
    first = train(tmp_path, "first", fold=0)
    second = train(tmp_path, "second", fold=ALL, origins=[first])
    origin = read_checkpoint(second / "last.pt").facts.origin
    net, _ = load_network(first)
    told = {"data_set": "data", "fold": 0, "iteration": 2, "weights_sha256": digest(net.state_dict())}
    assert origin == {**told, "put_aside": {"data": ("toy0",)}}
    command.run(None, (), second, resume=True, settings=["training.iterations=3"], say=lambda line: None)
    resumed = read_checkpoint(second / "last.pt")
    assert resumed.facts.origin == origin and resumed.iteration == 3 and resumed.facts.fold == ALL


def test_the_first_weights_are_those_of_the_other_run(tmp_path: Path) -> None:
    first = train(tmp_path, "first")
    kind = kind_from([first], read_checkpoint(first / "last.pt").config, dataclasses.replace(toy_dataset()))
    trainer = Trainer(read_checkpoint(first / "last.pt").config, toy_dataset(), 0, tmp_path / "run", kind=kind)
    net, _ = load_network(first)
    for (name, ours), theirs in zip(trainer.net.state_dict().items(), net.state_dict().values(), strict=True):
        assert torch.equal(ours.cpu(), theirs), name


def test_weights_of_another_network_or_of_other_structures_are_refused(tmp_path: Path) -> None:
    first = train(tmp_path, "first")
    config = read_checkpoint(first / "last.pt").config
    with pytest.raises(DataError, match=r"another \[network\]"):
        kind_from([first], toy_config(), toy_dataset())
    with pytest.raises(DataError, match="structures of the data"):
        kind_from([first], config, dataclasses.replace(toy_dataset(), labels=("disc", "vertebra")))
    with pytest.raises(DataError, match=r"no run with best\.pt"):
        kind_from([tmp_path / "none"], config, toy_dataset())


def test_nothing_is_written_where_first_weights_do_not_fit(tmp_path: Path) -> None:
    first = train(tmp_path, "first")
    with pytest.raises(DataError):
        command.run(
            "spine-mr", [TrainingSource(tmp_path / "data")], tmp_path / "second", origins=[first],
            settings=[*SETTINGS, "network.norm=group", "training.iterations=2"], say=lambda line: None,
        )  # fmt: skip
    assert not (tmp_path / "second").exists()
    assert json.loads((first / "started.json").read_text("utf-8"))["fold"] == 0


def exported(run: Path, decide: str | None = None) -> Path:
    """A bundle of the run's weights, each moved a little: an export stores equal ones once, under one name."""
    checkpoint = read_checkpoint(run / "last.pt")
    torch.manual_seed(0)
    moved = {
        name: value + 0.02 * torch.rand_like(value)
        for name, value in checkpoint.ema.items()
        if value.is_floating_point()
    }
    write_checkpoint(run / "best.pt", dataclasses.replace(checkpoint, ema={**checkpoint.ema, **moved}))
    bundle = run.with_suffix(".verdiff")
    export(run, ExportOptions(bundle, decide=decide), say=lambda line: None)
    return bundle


def test_what_an_export_decided_is_taken_back(tmp_path: Path) -> None:
    run = train(tmp_path, "first")
    config = read_checkpoint(run / "last.pt").config
    dataset = load_sources([TrainingSource(tmp_path / "data")], config.data)
    weights = {}
    for decided in (None, f"{dataset.labels[1]}=0.3"):
        kind = kind_from([exported(run, decided)], config, dataset)
        assert kind.initial is not None
        weights[decided] = kind.initial
    plain, moved = weights.values()
    for name, theirs in plain.items():
        torch.testing.assert_close(moved[name], theirs, atol=2e-3, rtol=1e-3)  # the shifted bias was kept as float16


@pytest.mark.parametrize("decided", [5, ["disc"], {"disc": "often"}, {"disc": None}])
def test_a_manifest_that_decides_nothing_sensible_is_refused(decided: object) -> None:
    with pytest.raises(BundleError, match=r"training\.decided"):
        taken_back(decided)


def test_a_run_goes_on_from_a_bundle_whose_norms_were_folded(tmp_path: Path) -> None:
    bundle = exported(train(tmp_path, "first"))
    run = train(tmp_path, "second", fold=ALL, origins=[bundle])
    origin = read_checkpoint(run / "last.pt").facts.origin
    assert origin["model"] == "first 0.0.1" and len(origin["manifest_sha256"]) == 64

    config = read_checkpoint(run / "last.pt").config
    dataset = load_sources([TrainingSource(tmp_path / "data")], config.data)
    kind = kind_from([bundle], config, dataset)
    assert kind.initial is not None
    net = build_network(config, len(dataset.labels)).eval()
    net.load_state_dict(kind.initial)
    image = torch.from_numpy(np.random.default_rng(3).uniform(-1, 1, (2, 1, 32, 24)).astype(np.float32))
    with torch.no_grad():
        prior, *features = PriorGraph(net)(image)
    session = onnxruntime.InferenceSession(open_bundle(bundle).graph("prior"))
    for ours, theirs in zip((prior, *features), session.run(None, {"image": image.numpy()}), strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, atol=2e-5)
    norms = [module for module in net.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert norms and all(bool((norm.running_var > 0).any()) for norm in norms)


def test_a_bundle_of_another_network_or_other_structures_is_refused(tmp_path: Path) -> None:
    first = train(tmp_path, "first")
    config = read_checkpoint(first / "last.pt").config
    bundle = exported(first)
    names = tuple(label.name for label in open_bundle(bundle).manifest.labels)
    with pytest.raises(DataError, match=r"not those of this \[network\]"):
        kind_from([bundle], toy_config(), dataclasses.replace(toy_dataset(), labels=names))
    with pytest.raises(DataError, match=r"first 0\.0\.1, which knows"):
        kind_from([bundle], config, dataclasses.replace(toy_dataset(), labels=names[::-1]))
    (tmp_path / "damaged.verdiff").write_bytes(bundle.read_bytes()[:-200])
    with pytest.raises(BundleError):
        kind_from([tmp_path / "damaged.verdiff"], config, toy_dataset())


def test_a_run_keeps_weights_half_way_to_its_first_ones(tmp_path: Path) -> None:
    first = train(tmp_path, "first")
    run = command.run(
        "spine-mr", [TrainingSource(tmp_path / "data")], tmp_path / "second", origins=[first],
        settings=[*SETTINGS, "training.keep_first=0.25", "training.iterations=3"], say=lambda line: None,
    )  # fmt: skip
    begun, ended, between = (read_checkpoint(run / name).ema for name in ("first.pt", "last.pt", "blended.pt"))
    weights = [name for name in begun if begun[name].is_floating_point() and "running" not in name]
    assert any(not torch.equal(begun[name], ended[name]) for name in weights)
    for name in weights:
        torch.testing.assert_close(between[name], 0.25 * begun[name] + 0.75 * ended[name])
    assert load_network(run, "blended.pt")[1].iteration == 3


def test_the_mean_of_several_runs_without_a_minute_of_training(tmp_path: Path) -> None:
    first = train(tmp_path, "first", fold=0)
    others = [train(tmp_path, name, fold=ALL, origins=[first], seed=seed) for name, seed in (("b", 1), ("c", 2))]
    runs = [first, *others]
    mean = command.run(
        "spine-mr", [TrainingSource(tmp_path / "data")], tmp_path / "mean", origins=runs, fold=ALL, minutes=0,
        settings=SETTINGS, say=lambda line: None,
    )  # fmt: skip
    checkpoint = read_checkpoint(mean / "last.pt")
    assert checkpoint.iteration == 0 and checkpoint.facts.fold == ALL and not (mean / "best.pt").exists()
    states = [read_checkpoint(run / ("best.pt" if run == first else "last.pt")).ema for run in runs]
    for name, value in checkpoint.ema.items():
        if value.is_floating_point() and "running" not in name:
            torch.testing.assert_close(value, sum(state[name] for state in states) / 3)
    counted = [name for name in checkpoint.ema if name.endswith("running_mean")]
    assert any(not torch.allclose(checkpoint.ema[name], sum(state[name] for state in states) / 3) for name in counted)
    told = checkpoint.facts.origin["mean_of"]
    assert [each["fold"] for each in told] == [0, ALL, ALL]
    assert [each["weights_sha256"] for each in told] == [digest(state) for state in states]
    assert len((mean / "metrics.csv").read_text("utf-8").splitlines()) == 2


def test_a_mean_goes_on_learning_when_it_is_given_time(tmp_path: Path) -> None:
    runs = [train(tmp_path, name, seed=seed) for name, seed in (("a", 1), ("b", 2))]
    mean = command.run(
        "spine-mr", [TrainingSource(tmp_path / "data")], tmp_path / "mean", origins=runs, minutes=0,
        settings=SETTINGS, say=lambda line: None,
    )  # fmt: skip
    longer = ["training.iterations=2"]
    command.run(None, (), mean, resume=True, minutes=10, settings=longer, say=lambda line: None)
    checkpoint = read_checkpoint(mean / "last.pt")
    assert checkpoint.iteration == 2 and len(checkpoint.facts.origin["mean_of"]) == 2


def test_weights_of_which_one_does_not_fit_have_no_mean(tmp_path: Path) -> None:
    first = train(tmp_path, "first")
    config = read_checkpoint(first / "last.pt").config
    with pytest.raises(DataError, match=r"no run with best\.pt"):
        kind_from([first, tmp_path / "none"], config, toy_dataset())


def aside_in(run: Path, data_set: str = "data") -> list[str]:
    """The cases of a data set that the bundle of a run says were put aside."""
    checkpoint = read_checkpoint(run / "last.pt")
    table = checkpoint.config.sampling.table(checkpoint.config.process.build())
    from verdiff.bundle import Defaults

    manifest = make_manifest(checkpoint, table, Defaults(**dataclasses.asdict(checkpoint.config.sampling)), {}, True)
    aside = manifest.put_aside(data_set)
    assert aside is not None and aside == checkpoint.facts.put_aside(data_set)
    return list(aside)


def test_cases_that_the_first_weights_saw_are_not_put_aside(tmp_path: Path) -> None:
    told: list[str] = []
    sources = [TrainingSource(tmp_path / "data")]

    def begun(name: str, *origins: Path, fold: int) -> Path:
        return command.run(
            "spine-mr", sources, tmp_path / name, origins=origins, minutes=0, fold=fold, folds=4, settings=SETTINGS,
            say=told.append,
        )  # fmt: skip

    first, everything = train(tmp_path, "first", fold=0, folds=4), train(tmp_path, "all", fold=ALL, folds=4)
    (own,) = aside_in(first)
    assert aside_in(begun("same", first, fold=0)) == [own] and not any("--from was trained on" in line for line in told)
    for name, origins, fold in (("b", [first], 1), ("c", [everything], 0), ("d", [first, everything], 0)):
        run = begun(name, *origins, fold=fold)
        assert aside_in(run) == []
        seen = read_checkpoint(run / "last.pt").facts.origin["trained_on"]
        assert any(f"--from was trained on {seen[0]}" in line for line in told)
    # What they saw stays seen: by a run that goes on from such a one, by one that is resumed, and by way of a bundle.
    assert aside_in(begun("e", tmp_path / "d", fold=0)) == []
    command.run(None, (), tmp_path / "c", resume=True, minutes=9, settings=["training.iterations=1"], say=told.append)
    assert aside_in(tmp_path / "c") == []
    shutil.copyfile(tmp_path / "c/last.pt", tmp_path / "c/best.pt")
    assert aside_in(begun("f", exported(tmp_path / "c"), fold=0)) == []


def test_what_the_first_weights_saw_of_other_data_is_known_over_several_runs(tmp_path: Path) -> None:
    # A learns on "data" and puts toy0 aside, B goes on from it on "other", C from B on "data" with another fold.
    first = train(tmp_path, "first", fold=0, folds=4)
    (kept,) = aside_in(first)
    shutil.copytree(tmp_path / "data", tmp_path / "other")

    def begun(name: str, origin: Path, data: str, fold: int) -> Path:
        return command.run(
            "spine-mr", [TrainingSource(tmp_path / data)], tmp_path / name, origins=[origin], minutes=0, fold=fold,
            folds=4, settings=SETTINGS, say=lambda line: None,
        )  # fmt: skip

    second = begun("second", first, "other", 1)
    assert aside_in(second) == [kept] and len(aside_in(second, "other")) == 1
    third = begun("third", second, "data", 1)
    assert aside_in(third) == [] and aside_in(third, "other") == aside_in(second, "other")
    assert read_checkpoint(third / "last.pt").facts.origin["trained_on"]
    # A bundle in between tells as much.
    shutil.copyfile(second / "last.pt", second / "best.pt")
    assert aside_in(begun("fourth", exported(second), "data", 0)) == [kept]


def test_weights_of_other_data_leave_the_cases_put_aside(tmp_path: Path) -> None:
    first = train(tmp_path, "first", fold=ALL)
    checkpoint = read_checkpoint(first / "last.pt")
    write_checkpoint(
        first / "last.pt", dataclasses.replace(checkpoint, facts=dataclasses.replace(checkpoint.facts, dataset="other"))
    )
    second = train(tmp_path, "second", fold=0, origins=[first])
    assert aside_in(second) and "trained_on" not in read_checkpoint(second / "last.pt").facts.origin
