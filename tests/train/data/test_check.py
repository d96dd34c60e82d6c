"""``verdiff data check``: every kind of damage is found, in one pass, under its case's name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import SimpleITK as sitk

from tests.train.toy import write_raw_dataset
from verdiff.commands import data_sets as command
from verdiff.errors import DataError
from verdiff.evaluate.fold import cases_of, scans_of
from verdiff.train.config import DataConfig
from verdiff.train.data.check import DataReport, check_dataset
from verdiff.train.data.nnunet import read_raw


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four patients, one fold of which validates on the first."""
    folder = write_raw_dataset(tmp_path / "Dataset900_Toy", cases=4)
    names = [f"toy{number}" for number in range(4)]
    splits = [{"train": [n for n in names if n != name], "val": [name]} for name in names]
    (folder / "splits_final.json").write_text(json.dumps(splits), "utf-8")
    return folder


def edit(folder: Path, **changes: object) -> None:
    path = folder / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **changes}), "utf-8")


def mask(folder: Path, name: str, change: Callable[[sitk.Image], sitk.Image]) -> None:
    path = str(folder / "labelsTr" / f"{name}.nii.gz")
    sitk.WriteImage(change(sitk.ReadImage(path)), path)


def without_discs(folder: Path, count: int) -> None:
    """The first patients lose theirs."""
    for number in range(count):
        mask(folder, f"toy{number}", lambda image: image * sitk.Cast(image != 2, image.GetPixelID()))


def texts(report: DataReport, *, fatal: bool = True) -> list[str]:
    return [finding.text for finding in report.findings if finding.fatal == fatal]


def test_a_sound_data_set_is_described_and_nothing_is_found(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    report = check_dataset(folder)
    assert report.findings == () and report.usable
    assert (report.cases, report.patients, report.folds) == (4, 4, 4)
    assert report.cases_with == {"vertebra": 4, "disc": 4}
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def shifted(image: sitk.Image) -> sitk.Image:
    image.SetOrigin((9.0, 0.0, 0.0))
    return image


def test_several_things_are_found_in_one_pass(folder: Path) -> None:
    mask(folder, "toy0", lambda image: image * 0)
    mask(folder, "toy1", shifted)
    mask(folder, "toy2", lambda image: image * 3)
    (folder / "imagesTr" / "toy3_0000.nii.gz").unlink()
    found = texts(check_dataset(folder))
    assert any("case toy0: its mask is empty" in text for text in found)
    assert any(
        "case toy1: image (36, 40, 3) and mask (36, 40, 3)" in text and "apart in space" in text for text in found
    )
    assert any("case toy2: label 3 (" in text and "label 6 (" in text for text in found)
    assert "toy3 with a mask only" in found


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: (d / "dataset.json").unlink(), "dataset.json cannot be read"),
        (lambda d: (d / "imagesTr" / "toy2_0000.nii.gz").write_bytes(b"x" * 400), "case toy2: "),
        (
            lambda d: edit(d, labels={"background": 0, "vertebra": 1, "disc": 2, "canal": 3}),
            "'canal' (label 3) is in none",
        ),
        (lambda d: edit(d, patients={"toy0": "p", "toy1": "p"}), "patient p is in val of fold 0"),
        (lambda d: edit(d, patients={f"toy{i}": "p" for i in range(4)}), "one patient only, p"),
        (lambda d: (d / "splits_final.json").write_text("[]", "utf-8"), "splits_final.json holds no folds"),
        (
            lambda d: [
                without_discs(d, 2),
                (d / "splits_final.json").write_text('[{"train": ["toy0", "toy1"], "val": ["toy2", "toy3"]}]', "utf-8"),
            ],
            "fold 0 never trains on 'disc'",
        ),
        (
            lambda d: (d / "imagesTr" / "toy1_0000.nii.gz").write_bytes((d / "imagesTr/toy0_0000.nii.gz").read_bytes()),
            "case toy1: its image is that of case toy0, on both sides of fold 0",
        ),
    ],
)
def test_damage_that_forbids_training_is_found(folder: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(folder)
    report = check_dataset(folder)
    assert not report.usable
    assert any(message in text for text in texts(report)), texts(report)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: without_discs(d, 3), "fold 3 never trains on 'disc' (label 2): it validates on the one patient"),
        (lambda d: edit(d, numTraining=5), "numTraining 5; there are 4 masks"),
        (
            lambda d: (d / "imagesTr" / "notes.txt").write_text("a", "utf-8"),
            "imagesTr/notes.txt is no file of the layout",
        ),
        (
            lambda d: (d / "imagesTr" / "toy1_0001.nii.gz").write_bytes((d / "imagesTr/toy1_0000.nii.gz").read_bytes()),
            "case toy0: it and 2 more have no channel 0001",
        ),
        (
            lambda d: (d / "splits_final.json").write_text(
                '[{"train": ["toy0", "toy1", "toy2"], "val": ["toy3"]}]', "utf-8"
            ),
            "case toy0: it and 2 more are validated on in no fold",
        ),
    ],
)
def test_what_does_not_forbid_training_is_noted(folder: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(folder)
    report = check_dataset(folder)
    assert report.usable
    assert any(message in text for text in texts(report, fatal=False)), report.findings


def second_channel(folder: Path) -> None:
    """Every case in two channels, as ``dataset.json`` says."""
    edit(folder, channel_names={"0": "T1", "1": "T2"})
    for path in sorted((folder / "imagesTr").glob("*_0000.nii.gz")):
        shutil.copy(path, path.with_name(path.name.replace("_0000", "_0001")))


def test_a_second_channel_is_named_by_the_check_and_by_training(folder: Path) -> None:
    before = texts(check_dataset(folder), fatal=False)
    second_channel(folder)
    said = "of each case channel 0000 (T1) alone is taken; left out: 0001 (T2)"
    assert texts(check_dataset(folder), fatal=False) == [*before, said]
    lines: list[str] = []
    dataset = read_raw(folder, DataConfig(), lines.append)
    assert dataset.remarks == (said,) and said in lines
    assert read_raw(folder, DataConfig()).cases[0].images.shape == dataset.cases[0].images.shape


def test_a_channel_that_is_only_named_or_only_there_is_named_too(folder: Path) -> None:
    edit(folder, channel_names={"0": "T2", "1": "T1"})
    assert any("left out: 0001 (T1)" in text for text in texts(check_dataset(folder), fatal=False))
    edit(folder, channel_names={"0": "T2"})
    assert not any("left out" in text for text in texts(check_dataset(folder), fatal=False))


def test_what_macos_keeps_beside_the_files_is_passed_over(folder: Path) -> None:
    before = check_dataset(folder)
    for part, name in (("imagesTr", "._toy0_0000.nii.gz"), ("labelsTr", "._toy0.nii.gz")):
        (folder / part / name).write_bytes(b"\0\x05\x16\x07")
    assert check_dataset(folder) == before
    assert [scan.name for scan in scans_of(folder, cases_of(folder))] == ["toy0", "toy1", "toy2", "toy3"]


def test_the_same_scan_of_one_patient_is_noted_and_not_refused(folder: Path) -> None:
    edit(folder, patients={"toy0": "p", "toy1": "p"})
    (folder / "splits_final.json").unlink()
    twin = (folder / "imagesTr/toy0_0000.nii.gz").read_bytes()
    (folder / "imagesTr" / "toy1_0000.nii.gz").write_bytes(twin)
    report = check_dataset(folder)
    assert report.usable and report.folds == 3
    assert texts(report, fatal=False) == ["case toy1: its image is that of case toy0"]


def test_the_command_prints_each_finding_and_its_exit_code_says_whether_to_train(folder: Path) -> None:
    lines: list[str] = []
    assert command.check([folder], say=lines.append) == 0
    assert lines[-1] == "nothing wrong was found"
    mask(folder, "toy0", lambda image: image * 0)
    lines.clear()
    assert command.check([folder], say=lines.append) == DataError.exit_code
    assert lines[1] == "error: case toy0: its mask is empty" and lines[2].startswith("  expected: ")
    lines.clear()
    command.check([folder], as_json=True, say=lines.append)
    report = json.loads(lines[0])
    assert report["usable"] is False and report["findings"][0]["case"] == "toy0"


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no folder"):
        check_dataset(tmp_path / "nowhere")
