"""nnunetv2 in a table's queue, against a package of that name with the calls that are made of the real one."""

from __future__ import annotations

import importlib
import json
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studies.training import queue, real_nnunet
from studies.training.folder import TableOptions, entries_of
from studies.training.page import verdict
from studies.training.plans import PLANS
from studies.training.running import run
from tests.studies.test_side_by_side import PACKAGE
from tests.studies.test_tables import quiet
from tests.train.toy import write_nnunet_dataset
from verdiff.benchmarks.fresh import FreshRun
from verdiff.errors import BackendError, VerdiffError
from verdiff.evaluate.comparing import Compared
from verdiff.evaluate.statistics import Comparison, Interval
from verdiff.evaluate.stored import read_results
from verdiff.train import nnunetv2_adapter
from verdiff.train.training import prepare

# A step takes two milliseconds of the processor. What is above the mean is the first structure.
TRAINER = """
import json, os, pathlib, time
import numpy as np, torch
class Scheduler:
    def __init__(self, trainer):
        self.trainer = trainer
    def step(self, epoch):
        self.trainer.rates.append(0.01 * (1 - epoch / self.trainer.num_epochs) ** 0.9)
class nnUNetTrainer:
    num_epochs = 1000
    def __init__(self, plans, configuration, fold, dataset_json, device):
        assert plans["continue_training"] is False and configuration == "2d" and os.environ["nnUNet_n_proc_DA"] == "0"
        folder = pathlib.Path(os.environ["nnUNet_results"]) / "Dataset900_Toy/nnUNetTrainer__nnUNetPlans__2d"
        self.output_folder, self.rates = str(folder / f"fold_{fold}"), []
    def initialize(self):
        self.network, self.loss, self.lr_scheduler = torch.nn.Linear(1, 1), sum, Scheduler(self)
    def on_train_start(self):
        os.makedirs(self.output_folder, exist_ok=True)
        self.dataloader_train = iter(lambda: "batch", None)
    def train_step(self, batch):
        end = time.process_time() + 0.002
        while time.process_time() < end:
            pass
        return {"loss": np.array(LOSS)}
    def save_checkpoint(self, path):
        pathlib.Path(path).write_text(json.dumps(self.rates))
    def load_checkpoint(self, path):
        self.rates = json.loads(pathlib.Path(path).read_text())
    def on_train_end(self):
        self.save_checkpoint(self.output_folder + "/checkpoint_final.pth")
"""
# Writes what the planner was asked for into the plan.
PLANNER = """
import json, os, pathlib
class ExperimentPlanner:
    plans_identifier = "nnUNetPlans"
    def __init__(self, number, gpu_memory_target_in_gb):
        self.asked = [number, gpu_memory_target_in_gb]
    def plan_experiment(self):
        forward, backward = self.determine_transpose()
        assert [forward[axis] for axis in backward] == [0, 1, 2]
        plan = {"patch_size": [40, 40], "batch_size": 2, "spacing": [1.0, 1.0], "asked": [*self.asked, *forward]}
        (FOLDER / "nnUNetPlans.json").write_text(json.dumps({"configurations": {"2d": plan}}))
FOLDER = pathlib.Path(os.environ["nnUNet_preprocessed"]) / "Dataset900_Toy"
"""
API = """
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import FOLDER
def extract_fingerprints(numbers, num_processes, check_dataset_integrity, show_progress_bar):
    FOLDER.mkdir(exist_ok=True)
def preprocess_dataset(number, plans, configurations, processes, show_progress_bar):
    assert (FOLDER / f"{plans}.json").is_file() and configurations == ["2d"] and number == 900
"""
PREDICTOR = """
import numpy as np
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
class nnUNetPredictor:
    def __init__(self, **how):
        assert how["use_mirroring"]
    def initialize_from_trained_model_folder(self, model, use_folds):
        self.plans_manager = PlansManager({})
    def predict_single_npy_array(self, image, properties, before, output, probabilities):
        bright = (image[0] > image.mean()).astype(np.float32)
        return bright, np.stack([1 - bright, bright, 0 * bright])
"""
SMALL = (
    *("network.planned=false", "network.widths=[8, 8, 8, 8]", "network.pools=[3, 3]", "training.crop=[32, 32]"),
    *("training.batch=1", "training.iterations=2", "training.validate_every=2"),
)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package, whose fresh processes are this one."""
    modules = {
        **PACKAGE,
        "experiment_planning/experiment_planners/default_experiment_planner": PLANNER,
        "experiment_planning/plan_and_preprocess_api": API,
        "training/nnUNetTrainer/nnUNetTrainer": TRAINER.replace("LOSS", "0.5"),
        "inference/predict_from_raw_data": PREDICTOR,
    }
    write_package(tmp_path / "site", modules)
    for name in [name for name in sys.modules if name.partition(".")[0] == "nnunetv2"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site"), *sys.path])
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))

    def fresh(target: str, arguments: Mapping[str, Any], *, environment: Mapping[str, str]) -> FreshRun:
        module, _, name = target.partition(":")
        with monkeypatch.context() as inside:
            for key in environment:
                if key.startswith("nnUNet_"):
                    inside.setenv(key, environment[key])
            return FreshRun(getattr(importlib.import_module(module), name)(**arguments), None)

    monkeypatch.setattr(real_nnunet, "run_fresh", fresh)


def write_package(site: Path, modules: Mapping[str, str]) -> None:
    for module, code in modules.items():
        path = site / "nnunetv2" / f"{module}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code, "utf-8")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_nnunet_dataset(tmp_path / "raw" / "Dataset900_Toy")


def options(data: Path, **more: Any) -> TableOptions:
    return TableOptions("nnunetv2", data, budget=0.002, others=0.002, clock="processor", settings=SMALL, **more)


@pytest.mark.usefixtures("installed")
def test_the_table_says_whether_nnunet_like_stands_for_it(data: Path, tmp_path: Path) -> None:
    sitting = queue.run(options(data), tmp_path / "queue", say=quiet)
    assert (sitting.done, sitting.failed) == (2, {})
    real = tmp_path / "queue/nnunetv2"
    about = json.loads((real / "scores.json").read_text("utf-8"))["training"]
    assert about["iterations"] > 10 and about["parameters"] == 2 and about["plan"]["batch_size"] == 2
    # Its batch is planned for the memory of nnunet-like's configuration, its slices are those of all models.
    plans = json.loads((real / "preprocessed/Dataset900_Toy/nnUNetPlans.json").read_text("utf-8"))
    assert plans["configurations"]["2d"]["asked"] == [900, 0.5, 0, 1, 2]
    final = real / "results/Dataset900_Toy/nnUNetTrainer__nnUNetPlans__2d/fold_0/checkpoint_final.pth"
    rates = json.loads(final.read_text("utf-8"))
    assert rates == sorted(rates, reverse=True) and rates[0] == 0.01 and rates[-1] < 0.002
    # Bright is a structure of the toy, in the slices and pixels of all others.
    scores = read_results(real).masks
    assert scores.cases == read_results(tmp_path / "queue/nnunet-like").masks.cases
    assert scores.value(scores.cases[0], "disc", "dice") == 0.0 < scores.value(scores.cases[0], "vertebra", "dice")
    page = (tmp_path / "queue/table.md").read_text("utf-8")
    assert "## nnunet-like minus nnunetv2" in page and "Of one case nothing follows" in page


@pytest.mark.usefixtures("installed")
def test_a_training_that_ran_out_of_time_goes_on_where_its_rate_was(data: Path, tmp_path: Path) -> None:
    asked = options(data, models=("nnunetv2",))
    (entry,) = entries_of(asked, tmp_path / "queue")
    sources = queue.folder.sources_of(asked, tmp_path / "queue", quiet)
    queue.advance(asked, entry, sources, time.monotonic() + 0.01, quiet)
    fold = entry.run / "results/Dataset900_Toy/nnUNetTrainer__nnUNetPlans__2d/fold_0"
    stopped = json.loads((fold / "budget.json").read_text("utf-8"))
    assert stopped["iterations"] > 0 and not entry.is_scored() and not (fold / "checkpoint_final.pth").exists()
    queue.advance(asked, entry, sources, float("inf"), quiet)
    done = json.loads((fold / "budget.json").read_text("utf-8"))
    rates = json.loads((fold / "checkpoint_final.pth").read_text("utf-8"))
    assert entry.is_scored() and done["processor_minutes"] >= 0.002
    assert len(rates) == done["iterations"] > stopped["iterations"] and rates == sorted(rates, reverse=True)
    assert len(json.loads((entry.run / "sittings.json").read_text("utf-8"))) == 2


@pytest.mark.usefixtures("installed")
def test_a_loss_that_is_not_finite_ends_it_by_name(data: Path, tmp_path: Path) -> None:
    module = {"training/nnUNetTrainer/nnUNetTrainer": TRAINER.replace("LOSS", "float('nan')")}
    write_package(tmp_path / "site", module)
    with pytest.raises(VerdiffError, match="nnU-Net's loss is nan after 1 iterations"):
        run("nnunetv2", data, tmp_path / "queue", models=("nnunetv2",), threads=1, clock="processor", say=quiet)


@pytest.mark.usefixtures("installed")
def test_it_needs_the_raw_scans(data: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    prepare("spine-mr", [queue.TrainingSource(data)], cache, say=quiet)
    with pytest.raises(VerdiffError, match="cache is a cache"):
        run("nnunetv2", cache, tmp_path / "queue", models=("nnunetv2",), threads=1, say=quiet)


def test_without_the_package_nothing_is_begun(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nnunetv2_adapter.util, "find_spec", lambda name: None)
    with pytest.raises(BackendError, match="no package nnunetv2"):
        run("nnunetv2", data, tmp_path / "queue", threads=1, say=quiet)
    assert not (tmp_path / "queue").exists()


@pytest.mark.parametrize(
    ("vertebra", "disc", "words"),
    [
        (0.005, -0.004, "lies within 0.005 Dice of nnunetv2**: the largest difference is that of vertebra, +0.0050"),
        # Their mean is 0, and neither is like the other.
        (0.18, -0.181, "does not lie within 0.005 Dice of nnunetv2**: the largest difference is that of disc, -0.1810"),
    ],
)
def test_the_verdict_is_on_every_structure(vertebra: float, disc: float, words: str) -> None:
    means = {"vertebra": vertebra, "disc": disc, "mean": (vertebra + disc) / 2}
    found = {
        name: {"dice": compared(Interval(mean, mean - 0.01, mean + 0.01, 0.95, 7))} for name, mean in means.items()
    }
    assert words in verdict(PLANS["nnunetv2"], "nnunetv2", found)[1]
    assert verdict(PLANS["table1"], "unet", found) == []


def test_one_case_gives_no_verdict() -> None:
    found = {"vertebra": {"dice": compared(Interval(0.0, math.nan, math.nan, 0.95, 1))}}
    assert "Of one case nothing follows" in verdict(PLANS["nnunetv2"], "nnunetv2", found)[1]


def compared(difference: Interval) -> Compared:
    return Compared(Comparison(difference, p_value=0.5, better=4, worse=3), 1.0, ())


def test_classes_are_brought_to_the_pixels_that_are_scored(data: Path, tmp_path: Path) -> None:
    from verdiff.imaging import read_labels
    from verdiff.train.config import DataConfig
    from verdiff.train.data.nnunet import read_raw

    prepared = DataConfig(spacing_mm=2.0)
    case = read_raw(data, prepared).cases[0]
    truth = read_labels(data / "labelsTr" / f"{case.name}.nii.gz").array
    maps = np.stack([truth == value for value in (0, 1, 2)]).astype(np.float16)
    found = real_nnunet.mask_of(maps, data / "imagesTr" / f"{case.name}_0000.nii.gz", case, prepared)
    assert case.own is not None and np.array_equal(found, case.own)
