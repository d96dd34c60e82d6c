"""The adapter to nnunetv2, against a package of that name that notes how it was called."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest

from tests.train.toy import write_nnunet_dataset
from verdiff.errors import BackendError, DataError, VerdiffError
from verdiff.train import nnunetv2_adapter as adapter
from verdiff.train.config import DataConfig
from verdiff.train.data.nnunet import read_raw

PLANNER = """
import json, os, pathlib, sys
folder = pathlib.Path(os.environ["nnUNet_preprocessed"]) / "Dataset900_Toy"
folder.mkdir(exist_ok=True)
(folder / "plan.json").write_text(json.dumps([sys.argv[1:], os.environ["nnUNet_raw"]]))
plan = {"patch_size": [40, 40], "batch_size": 2, "spacing": [1.0, 1.0]}
(folder / "nnUNetPlans.json").write_text(json.dumps({"configurations": {"2d": plan}}))
"""
TRAINER = """
import json, os, pathlib, sys
name, configuration, fold = sys.argv[1:4]
splits = json.loads((pathlib.Path(os.environ["nnUNet_preprocessed"]) / "Dataset900_Toy/splits_final.json").read_text())
trainer = sys.argv[sys.argv.index("-tr") + 1]
model = pathlib.Path(os.environ["nnUNet_results"]) / f"Dataset900_Toy/{trainer}__nnUNetPlans__2d/fold_{fold}"
(model / "validation").mkdir(parents=True, exist_ok=True)
(model / "train.json").write_text(json.dumps(sys.argv[1:]))
if trainer == "Broken":
    sys.exit("RuntimeError: no such trainer")
for case in splits[int(fold)]["val"]:
    if trainer != "Lazy":
        (model / "validation" / f"{case}.nii.gz").write_bytes(b"mask")
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A raw data set as nnU-Net wants it."""
    return write_nnunet_dataset(tmp_path / "raw" / "Dataset900_Toy")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package nnunetv2 with its two entry points."""
    site = tmp_path / "site"
    for module, code in (
        ("experiment_planning/plan_and_preprocess_entrypoints", PLANNER),
        ("run/run_training", TRAINER),
    ):
        path = site / "nnunetv2" / f"{module}.py"
        path.parent.mkdir(parents=True)
        path.write_text(code, "utf-8")
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])
    monkeypatch.setenv("PYTHONPATH", str(site))


@pytest.mark.usefixtures("installed")
def test_one_fold_is_planned_trained_and_predicted_in_the_data_sets_own_split(data: Path, tmp_path: Path) -> None:
    said: list[str] = []
    outcome = adapter.run(data, tmp_path / "out", device="cpu", processes=3, say=said.append)
    preprocessed = tmp_path / "out" / "preprocessed" / "Dataset900_Toy"
    assert json.loads((preprocessed / "plan.json").read_text("utf-8")) == [
        ["-d", "900", "-c", "2d", "-np", "3", "--verify_dataset_integrity"],
        str(data.parent),
    ]
    assert json.loads((outcome.model / "train.json").read_text("utf-8")) == (
        ["900", "2d", "0", "-tr", "nnUNetTrainer", "-device", "cpu"]
    )
    splits = json.loads((data / "splits_final.json").read_text("utf-8"))
    assert json.loads((preprocessed / "splits_final.json").read_text("utf-8")) == splits
    assert [path.name for path in outcome.predictions.iterdir()] == ["toy0.nii.gz"]
    assert outcome.plan["patch_size"] == [40, 40]
    assert "patch [40, 40], batch 2" in said[-1]
    assert "python -m nnunetv2.run.run_training 900 2d 0" in (tmp_path / "out" / "nnunetv2.log").read_text("utf-8")


@pytest.mark.usefixtures("installed")
def test_the_command_it_names_is_one_that_evaluate_understands(data: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from verdiff.cli import app

    outcome = adapter.run(data, tmp_path / "out", device="cpu")
    mask = outcome.predictions / "toy0.nii.gz"
    mask.write_bytes((data / "labelsTr" / "toy0.nii.gz").read_bytes())
    program, *arguments = shlex.split(outcome.evaluate)
    result = CliRunner().invoke(app, arguments)
    assert (program, result.exit_code) == ("verdiff", 0), result.output
    assert "1.000" in result.output


@pytest.mark.usefixtures("installed")
def test_a_run_goes_on_without_planning_again(data: Path, tmp_path: Path) -> None:
    adapter.run(data, tmp_path / "out", device="cpu")
    noted = tmp_path / "out" / "preprocessed" / "Dataset900_Toy" / "plan.json"
    noted.unlink()
    outcome = adapter.run(data, tmp_path / "out", device="cpu", resume=True)
    assert not noted.exists()
    assert json.loads((outcome.model / "train.json").read_text("utf-8"))[-1] == "--c"


@pytest.mark.usefixtures("installed")
def test_folds_made_by_patient_are_those_of_every_other_system(data: Path, tmp_path: Path) -> None:
    outcome = adapter.run(data, tmp_path / "out", fold=1, folds=2, device="cpu")
    ours = read_raw(data, DataConfig(spacing_mm=1.0)).refolded(2)
    theirs = json.loads((tmp_path / "out/preprocessed/Dataset900_Toy/splits_final.json").read_text("utf-8"))
    assert theirs == list(ours.splits)
    predicted = sorted(path.name for path in outcome.predictions.iterdir())
    assert predicted == [f"{case}.nii.gz" for case in theirs[1]["val"]]


@pytest.mark.usefixtures("installed")
def test_a_run_does_not_go_on_with_other_folds(data: Path, tmp_path: Path) -> None:
    adapter.run(data, tmp_path / "out", folds=2, device="cpu")
    before = (tmp_path / "out/preprocessed/Dataset900_Toy/splits_final.json").read_bytes()
    with pytest.raises(DataError, match="trained on other folds"):
        adapter.run(data, tmp_path / "out", device="cpu", resume=True)
    assert (tmp_path / "out/preprocessed/Dataset900_Toy/splits_final.json").read_bytes() == before


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(("trainer", "words"), [("Broken", "no such trainer"), ("Lazy", "no mask of toy0")])
def test_a_failure_of_nnunet_is_told_in_its_own_words(data: Path, tmp_path: Path, trainer: str, words: str) -> None:
    with pytest.raises(VerdiffError, match=words) as caught:
        adapter.run(data, tmp_path / "out", device="cpu", trainer=trainer)
    assert "out/nnunetv2.log" in str(caught.value)


@pytest.mark.usefixtures("installed")
def test_what_nnunet_could_not_use_is_refused_before_it_starts(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="fold 7"):
        adapter.run(data, tmp_path / "out", fold=7)
    other = data.rename(data.parent / "toy")
    with pytest.raises(DataError, match="DatasetNNN_Name"):
        adapter.run(other, tmp_path / "out")
    other = other.rename(data)
    description = json.loads((data / "dataset.json").read_text("utf-8"))
    del description["channel_names"]
    (data / "dataset.json").write_text(json.dumps(description), "utf-8")
    with pytest.raises(DataError, match="without channel_names"):
        adapter.run(data, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_the_package_its_extra_is_named(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter.util, "find_spec", lambda name: None)
    with pytest.raises(BackendError, match=r"\.\[train,nnunetv2\]"):
        adapter.run(data, tmp_path / "out")
