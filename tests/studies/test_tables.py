"""Tables of trained models on tiny films: a queue goes on where it was stopped, and the figures are right."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from typer.testing import CliRunner

from studies.__main__ import app
from studies.training import folder, queue
from studies.training.folder import (
    PREDICTIONS,
    TableOptions,
    cases_to_score,
    entries_of,
    joined_source,
    preparation_of,
    sources_of,
    write_configuration,
)
from studies.training.page import models_table, scored_on
from studies.training.plans import PLANS
from studies.training.running import run
from studies.training.scoring import score_run, write_mask, write_scores
from studies.training.table import METRICS, TableLine, TrainedRun, against, over_seeds
from tests.train.toy import toy_dataset, write_films, write_raw_dataset
from verdiff.errors import DataError, InputError, VerdiffError
from verdiff.evaluate.stored import read_results
from verdiff.evaluate.tables import Table
from verdiff.train.checkpoint import read_checkpoint
from verdiff.train.config import DataConfig, load_config
from verdiff.train.data.cases import IGNORE
from verdiff.train.data.joining import TrainingSource
from verdiff.train.data.loading import load_sources

ROOT = Path(__file__).resolve().parents[2]
TINY = (
    "network.prior_widths=[8, 8, 16]",
    "network.denoiser_widths=[8, 8]",
    "network.fusion_width=8",
    "training.crop=[32, 32]",
    "training.batch=2",
    "training.iterations=6",
    "training.validate_every=3",
)
# SIGKILL in the middle of the second training: nothing is cleaned up, and last.pt is of its first validation.
KILLED = """
import os, signal, sys
from verdiff.train.trainer import Trainer
step = Trainer.step
def killed(self):
    if self.run.name == "neither" and self.iteration == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self)
Trainer.step = killed
from studies.__main__ import app
app(sys.argv[1:])
"""


def quiet(line: str) -> None:
    """Says nothing."""


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_films(tmp_path_factory.mktemp("raw") / "Dataset900_Toy", 6, 3)


def words(films: Path, output: Path, *more: str) -> list[str]:
    settings = [word for text in TINY for word in ("--set", text)]
    return ["ablation", str(films), "-o", str(output), "--seeds", "1", "--threads", "1", *settings, *more]


@pytest.fixture(scope="module")
def whole(films: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models of the ablation, trained in one sitting by the command."""
    output = tmp_path_factory.mktemp("whole") / "queue"
    result = CliRunner().invoke(app, words(films, output, "--models", "MSFM and NSA,neither"))
    assert result.exit_code == 0, result.output
    return output


def test_a_run_s_folder_has_its_configuration_curves_weights_predictions_and_scores(whole: Path) -> None:
    run_folder = whole / "neither"
    names = {path.name for path in run_folder.iterdir()}
    assert {"configuration.toml", "config.json", "metrics.csv", "curves.png", "last.pt", "sittings.json"} <= names
    config = load_config(run_folder / "configuration.toml")
    assert not config.network.msfm and not config.network.nsa and config.data.view == "film"
    with np.load(run_folder / "predictions" / "toy0.npz") as arrays:
        assert arrays["labels"].shape == (1, 40, 36) and set(np.unique(arrays["labels"])) <= {0, 1, 2}
    results = read_results(run_folder)
    assert results.masks.cases == ("toy0", "toy1", "toy2") and results.masks.structures == ("vertebra", "disc")
    assert json.loads((run_folder / "scores.json").read_text("utf-8"))["training"]["iterations"] == 6


def test_the_page_says_how_it_was_made_and_compares_patient_by_patient(whole: Path) -> None:
    page = (whole / "table.md").read_text("utf-8")
    assert "3 of the 3 cases put aside" in page and "2 of 2 trainings are done" in page
    assert "python -m studies ablation" in page and "--models 'MSFM and NSA,neither'" in page
    assert "seed 35" in page and "1 thread," in page
    assert "## MSFM and NSA minus neither" in page and "95 % bootstrap interval" in page
    assert (whole / "boxes.png").stat().st_size > 0
    shown = (whole / "table.html").read_text("utf-8")
    assert shown.startswith("<!doctype html>") and "data:image/png;base64," in shown and "boxes.png" not in shown
    rows = (whole / "cases.csv").read_text("utf-8").splitlines()
    assert len(rows) == 1 + 2 * 3 * 2


def test_a_finished_queue_looks_at_groups_of_cases_apart_and_trains_nothing(
    films: Path, whole: Path, tmp_path: Path
) -> None:
    groups = tmp_path / "groups.csv"
    groups.write_text("case,group\ntoy0,degenerated\ntoy2,degenerated\ntoy1,healthy\n", "utf-8")
    before = (whole / "neither" / "last.pt").stat().st_mtime_ns
    asked = words(films, whole, "--models", "MSFM and NSA,neither", "--groups", str(groups))
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 0 and (whole / "neither" / "last.pt").stat().st_mtime_ns == before
    page = (whole / "table.md").read_text("utf-8").partition("## degenerated: 2 cases")[2]
    dice = read_results(whole / "neither").masks.by_case("vertebra", "dice")
    assert f"| neither | {(dice['toy0'] + dice['toy2']) / 2:.4f} ± " in page and "## healthy: 1 case\n" in page
    groups.write_text("toy0,degenerated\n", "utf-8")
    assert CliRunner().invoke(app, asked).exit_code == DataError.exit_code


def test_a_queue_that_was_killed_goes_on_and_gives_the_same_table(films: Path, whole: Path, tmp_path: Path) -> None:
    output = tmp_path / "queue"
    asked = words(films, output, "--models", "MSFM and NSA,neither")
    done = subprocess.run([sys.executable, "-c", KILLED, *asked], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (output / "msfm-and-nsa" / "scores.json").is_file() and not (output / "neither" / "scores.json").exists()
    kept = (output / "msfm-and-nsa" / "scores.json").stat().st_mtime_ns
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 0, result.output
    assert "goes on at iteration 3" in result.output
    assert (output / "msfm-and-nsa" / "scores.json").stat().st_mtime_ns == kept
    ours, theirs = ((folder / "cases.csv").read_text("utf-8").splitlines()[1:] for folder in (output, whole))
    assert ours == theirs


def test_a_sitting_that_is_over_stops_a_training_and_the_next_goes_on(films: Path, whole: Path, tmp_path: Path) -> None:
    options = TableOptions(
        "ablation", films, budget=20, others=20, models=("MSFM and NSA",), settings=TINY, clock="processor"
    )
    (entry,) = entries_of(options, tmp_path)
    queue.run(options, tmp_path, minutes=0, say=quiet)
    assert not entry.run.exists() or not (entry.run / "last.pt").exists()
    sources = sources_of(options, tmp_path, quiet)
    queue.advance(options, entry, sources, until=0.0, say=quiet)
    stopped = queue.read_checkpoint(entry.run / "last.pt")
    assert 0 < stopped.iteration < 6 and not entry.is_scored()
    sitting = queue.run(options, tmp_path, say=quiet)
    assert (sitting.done, sitting.all, sitting.failed) == (1, 1, {})
    assert len(json.loads((entry.run / "sittings.json").read_text("utf-8"))) == 2
    assert read_results(entry.run).masks.values == read_results(whole / "msfm-and-nsa").masks.values


def test_another_queue_s_folder_is_refused_by_what_differs(films: Path, whole: Path) -> None:
    options = TableOptions("ablation", films, budget=7)
    with pytest.raises(DataError, match=r"budget = 7 \(was 20"):
        queue.run(options, whole, say=quiet)


def test_a_training_that_cannot_go_on_is_named_and_the_others_are_trained(films: Path, tmp_path: Path) -> None:
    given = {"models": ("neither", "NSA alone"), "settings": (*TINY, "neither:training.crop=[30, 30]"), "seeds": 1}
    with pytest.raises(VerdiffError, match="1 of 2 trainings could not go on; neither"):
        run("ablation", films, tmp_path / "queue", threads=1, say=quiet, **given)
    assert (tmp_path / "queue/nsa-alone/scores.json").is_file()
    assert "| NSA alone |" in (tmp_path / "queue/table.md").read_text("utf-8")


def test_a_model_of_several_data_sets_is_scored_on_the_patients_of_the_first(
    films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So few are looked at that the number of cases put aside is seen in the configuration.
    monkeypatch.setattr(folder, "MOST_VALIDATED", 1)
    further = write_raw_dataset(tmp_path / "Dataset901_Further", cases=5, ending=".png")
    about = json.loads((further / "dataset.json").read_text("utf-8"))
    for mask in (further / "labelsTr").iterdir():
        labels = sitk.ReadImage(str(mask))
        sitk.WriteImage(labels * sitk.Cast(labels == 1, sitk.sitkUInt8), str(mask))
    (further / "dataset.json").write_text(json.dumps({**about, "labels": {"background": 0, "vertebra": 1}}), "utf-8")
    sizes = ("network.widths=[8,8,8,8,8]", "network.presegmentation_widths=[8,8]", "training.crop=[32,32]")
    times = ("training.batch=1", "training.iterations=2", "training.validate_every=2")
    names = ("T 30 from 20", "T1w and T2w")
    given = {"beside": (further,), "models": names, "settings": (*sizes, *times), "threads": 1}
    run("spinesegdiff", films, tmp_path / "queue", say=quiet, **given)  # type: ignore[arg-type]
    joined, alone = (read_results(tmp_path / "queue" / name) for name in ("t1w-and-t2w", "t-30-from-20"))
    assert joined.masks.cases == alone.masks.cases == ("toy0", "toy1", "toy2")
    facts = [
        json.loads((tmp_path / "queue" / name / "scores.json").read_text("utf-8"))["training"]
        for name in ("t1w-and-t2w", "t-30-from-20")
    ]
    # toy0 to toy2 of the further set are patients put aside in the first: only toy3 and toy4 are trained on.
    assert [fact["training_cases"] for fact in facts] == [5, 3]
    page = (tmp_path / "queue/table.md").read_text("utf-8")
    assert "## T 30 from 20 minus T1w and T2w" in page and "cases put aside, scored in the scan's own pixels." in page
    # The cases that its own fold puts aside decide its configuration, here as where it is taken over.
    options = TableOptions("spinesegdiff", films, budget=20, others=20, **given)  # type: ignore[arg-type]
    sitting = queue.run(options, tmp_path / "again", minutes=0, records=[tmp_path / "queue"], say=quiet)
    assert sitting.done == 2


def test_no_patient_who_is_scored_is_trained_on_beside_other_data_sets_without_stated_folds(tmp_path: Path) -> None:
    sets = [write_raw_dataset(tmp_path / f"Dataset90{number}_Toy", cases=10, ending=".png") for number in (1, 2)]
    for each in sets:
        (each / "splits_final.json").unlink()
    options = TableOptions("spinesegdiff", sets[0], beside=(sets[1],))
    sources = sources_of(options, tmp_path / "queue", quiet)
    for fold in range(5):
        scored = cases_to_score(replace(options, fold=fold), sources[0])
        trained, aside = load_sources(
            [joined_source(sources, tmp_path / "queue")], DataConfig(**preparation_of(sources[0]))
        ).fold(fold)
        assert len(scored) == 2 and set(scored) <= {case.name for case in aside}
        assert not set(scored) & {case.name.removesuffix("@Dataset902_Toy") for case in trained}


def test_a_network_that_was_trained_on_a_scored_case_is_not_scored(whole: Path, films: Path) -> None:
    (entry,) = entries_of(TableOptions("ablation", films, seeds=1, models=("neither",)), whole)
    checkpoint = read_checkpoint(entry.run / "last.pt")
    dataset = load_sources([TrainingSource(whole / "cache")], checkpoint.config.data)
    with pytest.raises(DataError, match="neither did not put aside toy3"):
        score_run(entry, dataset, checkpoint, ["toy0", "toy3"], say=quiet)


@pytest.mark.parametrize("value", [2, 255])
def test_masks_are_scored_whatever_ids_their_structures_have(tmp_path: Path, value: int) -> None:
    dataset = replace(toy_dataset(), labels=("vertebra", "bone"), label_ids=(1, value))
    case = replace(dataset.cases[0], labels=dataset.cases[0].labels.copy())
    case.labels[:, 0] = IGNORE
    (tmp_path / PREDICTIONS).mkdir()
    found = np.where(case.labels == 2, value, case.labels).astype(np.uint8)
    found[:, 0] = value
    write_mask(found, case, 1.0, tmp_path / PREDICTIONS / f"{case.name}.npz")
    write_scores(tmp_path, replace(dataset, cases=(case,)), [case.name], {})
    table = read_results(tmp_path).masks
    assert [table.value(case.name, name, "dice") for name in ("vertebra", "bone")] == [1.0, 1.0]
    assert table.facts[case.name]["bone"]["reference_voxels"] == np.count_nonzero(case.labels == 2) > 0


def test_a_structure_that_no_scored_case_labels_has_no_row(tmp_path: Path) -> None:
    dataset = toy_dataset()
    case = replace(dataset.cases[0], unknown=(1,))
    (tmp_path / PREDICTIONS).mkdir()
    write_mask(case.labels, case, 1.0, tmp_path / PREDICTIONS / f"{case.name}.npz")
    write_scores(tmp_path, replace(dataset, cases=(case,)), [case.name], {})
    table = read_results(tmp_path).masks
    assert dataset.labels[0] in table.structures and dataset.labels[1] not in table.structures


def test_a_run_that_stopped_before_its_denoiser_learnt_is_not_finished(whole: Path, films: Path) -> None:
    entry = entries_of(TableOptions("ablation", films, seeds=1, models=("neither",)), whole)[0]
    checkpoint = read_checkpoint(entry.run / "last.pt")
    training = replace(checkpoint.config.training, patience=3, iterations=10**6, minutes=None)
    stale = replace(checkpoint, config=replace(checkpoint.config, training=training), stale=5)
    assert queue.finished(stale)
    assert not queue.finished(replace(stale, denoiser_iterations=0))


@pytest.mark.parametrize(
    ("prepared", "words"),
    [
        (DataConfig(), "in the scan's own pixels"),
        (DataConfig(soft_masks=True), "on the pixels of their masks in `labelsFull`, or on the scan's own"),
        (DataConfig(spacing_mm=1.5, slice_spacing_mm=4.4), "on the prepared grid of 1.5 x 1.5 x 4.4 mm"),
    ],
)
def test_a_page_says_on_which_pixels_its_table_is_scored(prepared: DataConfig, words: str) -> None:
    assert scored_on(prepared).startswith(words)


def test_a_chain_is_sampled_otherwise_without_another_training(films: Path, tmp_path: Path) -> None:
    sizes = ("network.widths=[8,8,8,8,8]", "network.presegmentation_widths=[8,8]", "training.crop=[32,32]")
    times = ("training.batch=1", "training.iterations=2", "training.validate_every=2")
    names = ("T 30 from 20", "T 30 from 20 with start 10", "T 30 from 20 with samples 1")
    options = TableOptions("spinesegdiff", films, budget=20, others=20, models=names, settings=(*sizes, *times))
    sitting = queue.run(options, tmp_path, say=quiet)
    assert (sitting.done, sitting.failed) == (3, {})
    trained, *sampled = (entry.run for entry in entries_of(options, tmp_path))
    assert [run.name for run in sampled] == ["t-30-from-20-with-start-10", "t-30-from-20-with-samples-1"]
    assert not any((run / "last.pt").exists() for run in sampled)
    assert load_config(sampled[0] / "configuration.toml").sampling.start_step == 10
    facts = [json.loads((run / "scores.json").read_text("utf-8"))["training"] for run in (trained, *sampled)]
    assert len({(fact["iterations"], fact["minutes"], fact["processor_minutes"]) for fact in facts}) == 1
    masks = []
    for run_folder in (trained, *sampled):
        with np.load(run_folder / "predictions" / "toy0.npz") as arrays:
            masks.append(arrays["labels"])
    assert all((masks[0] != other).any() for other in masks[1:])


def test_a_sampling_needs_the_network_of_its_own_queue(films: Path, tmp_path: Path) -> None:
    alone = TableOptions("spinesegdiff", films, models=("T 30 from 20 with start 10",))
    with pytest.raises(InputError, match="samples the network of 'T 30 from 20', without that"):
        entries_of(alone, tmp_path)
    options = replace(alone, models=("T 30 from 20 with start 10", "T 30 from 20"))
    failed = queue.run(options, tmp_path, minutes=0, say=quiet).failed
    assert failed == {}
    (entry, _) = entries_of(options, tmp_path)
    with pytest.raises(DataError, match="the weights of T 30 from 20 are not trained yet"):
        queue.advance(options, entry, sources_of(options, tmp_path, quiet), float("inf"), quiet)


def test_what_is_asked_for_has_to_be_there(films: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="without a further data set"):
        entries_of(TableOptions("spinesegdiff", films, models=("T1w and T2w",)), tmp_path)
    with pytest.raises(InputError, match="the model 'nnunet'"):
        entries_of(TableOptions("table1", films, models=("nnunet",)), tmp_path)
    with pytest.raises(InputError, match="correct the model"):
        entries_of(TableOptions("table1", films, settings=("unett:training.batch=2",)), tmp_path)


def test_nnunet_is_like_nnunet_in_every_table_and_every_configuration_comes_back_from_toml(tmp_path: Path) -> None:
    assert all("nnunet" not in {model.name for model in plan.models} for plan in PLANS.values())
    assert "nnunet-like" in {model.name for model in PLANS["table1"].models}
    for plan in PLANS.values():
        assert plan.reference in {model.name for model in plan.models}
        for model in plan.models:
            config = load_config(model.configuration, model.settings)
            write_configuration(config, tmp_path / f"{model.folder}.toml")
            assert load_config(tmp_path / f"{model.folder}.toml") == config


def scores(values: dict[str, float]) -> Table:
    """Dice and IoU of one structure by case."""
    return Table({case: {"vertebra": dict.fromkeys(METRICS, dice)} for case, dice in values.items()}, METRICS)


def line(name: str, *seeds: dict[str, float]) -> TableLine:
    facts = {
        "minutes": 12.0,
        "processor_minutes": 11.0,
        "iterations": 100,
        "parameters": 2_000_000,
        "validation_cases": 3,
    }
    runs = tuple(TrainedRun(35 + number, scores(values), facts, (0.5,)) for number, values in enumerate(seeds))
    return TableLine(name, runs, over_seeds([run.table for run in runs]))


def test_the_figures_of_known_scores() -> None:
    ours = line("verdiff-net", {"a": 0.9, "b": 0.8, "c": 0.7}, {"a": 0.8, "b": 0.7, "c": 0.6})
    theirs = line("nnunet-like", {"a": 0.8, "b": 0.75, "c": 0.55})
    assert ours.spread == pytest.approx(0.1) and np.isnan(theirs.spread)
    assert list(ours.table.by_case("vertebra", "dice").values()) == pytest.approx([0.85, 0.75, 0.65])
    found = against([ours, theirs], "verdiff-net")["nnunet-like"]["vertebra"]["dice"].comparison
    assert found is not None
    # Differences of 0.05, 0 and 0.1: three cases resampled give means from 0 to 0.1.
    assert found.difference.mean == pytest.approx(0.05)
    assert (found.difference.low, found.difference.high) == (pytest.approx(0.0), pytest.approx(0.1))
    assert (found.better, found.worse) == (2, 0)
    # Two pairs differ, both in one direction: 2 of the 4 arrangements of signs are as far out.
    assert found.p_value == pytest.approx(0.5)


def test_a_table_has_the_published_figure_of_its_own_modality(tmp_path: Path) -> None:
    lines = [line("verdiff-net", {"a": 0.9, "b": 0.8}), line("spinesegdiff", {"a": 0.9, "b": 0.8})]
    options = TableOptions("table1", tmp_path / "Dataset103_SpineXray")
    film, scan = models_table(options, lines, "XR"), models_table(options, lines, "MR")
    assert film[2].endswith("| 0.8874 |") and scan[2].endswith("| 0.9386 |")
    assert film[3].endswith("| none |")
