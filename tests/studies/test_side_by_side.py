"""The study ``side-by-side``: whose Dice stands beside whose time, and that random weights never have one."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from studies import running
from studies.cases import side_by_side
from studies.cases.side_by_side import DEFAULT, MEDSEGDIFF, NNUNET, RANDOM, SEEN, TRAINED
from studies.options import StudyOptions
from tests.benchmarks.tiny_fold import write_fold, write_short_chain
from tests.train.test_nnunetv2_adapter import PLANNER
from verdiff.benchmarks.fresh import FreshRun
from verdiff.errors import InputError
from verdiff.train import nnunetv2_adapter

RECIPES = [f"MedSegDiff's recipe, {name} x 5" for name in ("60-step DDPM", "50-step DPM-Solver++(2M)")]
PREDICTORS = [f"{NNUNET}, mirroring", f"{NNUNET}, no mirroring"]
# Bright pixels are the vertebra, so that a trained predictor has a Dice; the reader is nnU-Net's in three lines.
PACKAGE = {
    "experiment_planning/plan_and_preprocess_entrypoints": PLANNER.replace(
        '{"configurations"', '{"transpose_forward": [1, 0, 2], "configurations"'
    ),
    "inference/predict_from_raw_data": """
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
class nnUNetPredictor:
    def __init__(self, **how):
        self.how = how
    def manual_initialization(self, network, manager, configuration, parameters, data, trainer, axes):
        assert axes == (0, 1) and not network.training and list(parameters[0]) == ["weight", "bias"]
        self.plans_manager = manager
    def initialize_from_trained_model_folder(self, model, use_folds):
        assert use_folds == (0,)
        self.plans_manager = PlansManager({})
    def predict_single_npy_array(self, image, properties, before, output, probabilities):
        print("mirroring", self.how["use_mirroring"])
        return (image[0] > 130).astype("uint8")
""",
    "utilities/get_network_from_plans": """
import torch
def get_network_from_plans(kind, arguments, required, channels, heads, deep_supervision):
    return torch.nn.Conv2d(channels, heads, 1)
""",
    "utilities/plans_handling/plans_handler": """
from types import SimpleNamespace
import SimpleITK as sitk
class Reader:
    def read_images(self, paths):
        image = sitk.ReadImage(paths[0])
        return sitk.GetArrayFromImage(image)[None], {"image": image}
    def write_seg(self, mask, path, properties):
        image = sitk.GetImageFromArray(mask)
        image.CopyInformation(properties["image"])
        sitk.WriteImage(image, path)
class PlansManager:
    image_reader_writer_class = Reader
    def __init__(self, plans):
        self.plans = plans
    def get_configuration(self, name):
        names = ("class_name", "init_kwargs", "init_kwargs_req_import")
        return SimpleNamespace(**{f"network_arch_{each}": self.plans["configurations"][name] for each in names})
    def get_label_manager(self, data):
        return SimpleNamespace(num_segmentation_heads=len(data["labels"]))
""",
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_short_chain(tmp_path_factory.mktemp("bundle") / "tiny.verdiff")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_fold(tmp_path_factory.mktemp("data") / "Dataset900_Toy", folds=1)
    about = json.loads((folder / "dataset.json").read_text("utf-8"))
    (folder / "dataset.json").write_text(json.dumps({**about, "numTraining": 2, "channel_names": {"0": "T2"}}), "utf-8")
    return folder


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Mapping[str, Any]]]:
    """Every fresh process in this one, with a peak of a gigabyte."""
    found: list[tuple[str, Mapping[str, Any]]] = []

    def fresh(target: str, arguments: Mapping[str, Any]) -> FreshRun:
        found.append((target, arguments))
        module, _, name = target.partition(":")
        return FreshRun(getattr(importlib.import_module(module), name)(**arguments), 10**9)

    monkeypatch.setattr(side_by_side, "run_fresh", fresh)
    return found


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package nnunetv2 of a few lines, with the calls that are made of the real one."""
    site = tmp_path / "site"
    for module, code in PACKAGE.items():
        path = site / "nnunetv2" / f"{module}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code, "utf-8")
    for name in [name for name in sys.modules if name.partition(".")[0] == "nnunetv2"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])
    monkeypatch.setenv("PYTHONPATH", str(site))


def options(bundle: Path, data: Path, **more: Any) -> StudyOptions:
    return StudyOptions(bundle=bundle, data=data, repeats=1, threads=1, **more)


@pytest.mark.usefixtures("installed")
def test_random_weights_have_a_time_and_no_dice(
    bundle: Path, data: Path, tasks: list[Any], capfd: pytest.CaptureFixture[str]
) -> None:
    found = side_by_side.run(options(bundle, data))
    rows = {row["name"]: row for row in found.results["entrants"]}
    assert list(rows) == [DEFAULT, *(f"{name}, verdiff's networks" for name in RECIPES), *PREDICTORS]
    assert found.left_out == {} and found.subject["nnunetv2's plan"] == "patch 40 x 40, slices along y"
    assert [rows[name]["weights"] for name in PREDICTORS] == [RANDOM, RANDOM]
    assert all(rows[name]["mean_dice"] is None for name in (*PREDICTORS, f"{RECIPES[0]}, verdiff's networks"))
    assert set(rows[DEFAULT]["dice"]) == {"p0", "p1"} and 0 < rows[DEFAULT]["mean_dice"] < 1
    assert [row["extrapolated"] for row in rows.values()] == [False, True, True, False, False]
    # 300 passes of the denoiser against 50 steps, five times.
    assert rows[f"{RECIPES[0]}, verdiff's networks"]["seconds_a_scan"] > rows[DEFAULT]["seconds_a_scan"]
    assert all(row["peak_bytes"] == 10**9 for row in rows.values())
    assert capfd.readouterr().out.count("mirroring True") == 2
    assert f"| {PREDICTORS[0]} | {RANDOM} |" in found.page


@pytest.mark.usefixtures("installed", "tasks")
def test_a_trained_nnunet_and_a_bundle_of_medsegdiff_have_their_own_dice(
    bundle: Path, data: Path, tmp_path: Path
) -> None:
    fold = tmp_path / "out/results/Dataset900_Toy/nnUNetTrainer__nnUNetPlans__2d/fold_0"
    fold.mkdir(parents=True)
    (fold / "checkpoint_final.pth").write_bytes(b"weights")
    (fold / "budget.json").write_text('{"iterations": 120, "processor_minutes": 10.2}', "utf-8")
    found = side_by_side.run(options(bundle, data, nnunet=tmp_path / "out", medsegdiff=bundle))
    rows = {row["name"]: row for row in found.results["entrants"]}
    assert rows[PREDICTORS[0]]["weights"] == f"{TRAINED}, 120 iterations in 10 processor minutes"
    scores = rows[PREDICTORS[0]]["dice"]["p0"]
    # Bright is the vertebra, noise apart; the others are never found.
    assert scores["vertebra"] > 0.7 and scores["canal"] == 0.0
    assert rows[MEDSEGDIFF]["dice"] == rows[DEFAULT]["dice"]
    assert f"{RECIPES[0]}, its own networks" in rows


@pytest.mark.usefixtures("tasks")
@pytest.mark.parametrize(("aside", "weights"), [(["p0", "p1"], TRAINED), (["p0"], SEEN), (None, TRAINED)])
def test_weights_that_were_trained_on_the_scans_are_said_to_be(
    data: Path, tmp_path: Path, aside: list[str] | None, weights: str
) -> None:
    about = {"data_set": "Dataset900_Toy", "validation_cases": aside} if aside else {"data_set": "Dataset901_Other"}
    model = write_short_chain(tmp_path / "tiny.verdiff", training=about)
    rows = side_by_side.run(options(model, data)).results["entrants"]
    assert {row["weights"] for row in rows if not row["name"].startswith(NNUNET)} == {weights}


def test_without_the_package_the_others_are_timed_and_the_record_says_why(
    bundle: Path, data: Path, tasks: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nnunetv2_adapter.util, "find_spec", lambda name: None)
    options = StudyOptions(bundle=bundle, data=data, repeats=2, every=2)
    record = running.run("side-by-side", options, output=tmp_path)
    assert list(record.outcome.left_out) == [NNUNET] and "no package nnunetv2" in record.outcome.left_out[NNUNET]
    assert {target for target, _ in tasks} == {side_by_side.SEGMENT, side_by_side.RECIPE}
    assert all(len(arguments["scans"]) == 1 for _, arguments in tasks) and len(tasks) == 6
    assert "--every 2" in record.command and (tmp_path / "side-by-side.png").is_file()


def test_it_needs_a_data_set() -> None:
    with pytest.raises(InputError, match="no data set"):
        side_by_side.run(StudyOptions())
