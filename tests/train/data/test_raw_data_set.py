"""What every conversion shares: refusals that name the case, what an interruption leaves, records, the command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.train.data import downloads
from verdiff.commands import data_sets as command
from verdiff.commands.data import app
from verdiff.errors import DataError
from verdiff.imaging import read_labels
from verdiff.train.data import splits
from verdiff.train.data.convert import ConvertOptions, convert, raw_data_set
from verdiff.train.data.splits import FoldOptions

ROOT = Path(__file__).resolve().parents[3]
SPACING = (0.5, 0.5, 3.0)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three patients of SPIDER, one series each."""
    return downloads.write_spider(tmp_path / "download", ("1_t2", "2_t2", "3_t2"))


OPTIONS = ConvertOptions(contrasts=("t2",))


def rewrite(source: Path, change: Callable[[np.ndarray], np.ndarray], origin: tuple[float, ...] = (5, -7, 11)) -> None:
    path = source / "masks" / "2_t2.mha"
    mask = change(read_labels(path).array.astype(np.int16))
    downloads.write_image(path, mask, SPACING, downloads.SAGITTAL, origin)


DAMAGE: list[tuple[Callable[[Path], object], str]] = [
    (lambda s: rewrite(s, lambda m: np.where(m == 1, 77, m)), r"case spider002: label 77 \(\d+ voxels\)"),
    (lambda s: rewrite(s, lambda m: m * 0), "case spider002: its mask is empty"),
    (lambda s: rewrite(s, lambda m: m[1:]), "case spider002: image .* do not lie on one grid: they differ in size"),
    (lambda s: rewrite(s, lambda m: m, (6, -7, 11)), "case spider002: image .* they lie apart in space"),
    (lambda s: (s / "masks" / "2_t2.mha").unlink(), r"case spider002 has an image \(2_t2.mha\) and no mask"),
    (lambda s: (s / "images" / "2_t2.mha").unlink(), r"case spider002 has a mask \(2_t2.mha\) and no image"),
    (lambda s: (s / "images" / "2_t2.mha").write_bytes(b"no image"), "case spider002: .*2_t2.mha is truncated"),
]


@pytest.mark.parametrize("labels", ["structures", "levels"])
@pytest.mark.parametrize(("damage", "message"), DAMAGE)
def test_a_bad_case_is_named_and_no_data_set_is_left(
    source: Path, tmp_path: Path, damage: Callable[[Path], object], message: str, labels: str
) -> None:
    damage(source)
    with pytest.raises(DataError, match=message):
        convert("spider", source, tmp_path / "out", ConvertOptions(labels=labels, contrasts=("t2",)))  # type: ignore[arg-type]
    assert not (tmp_path / "out" / "dataset.json").exists()


@pytest.mark.parametrize("labels", ["structures", "levels"])
@pytest.mark.parametrize(("damage", "message"), DAMAGE)
def test_bad_cases_are_left_out_by_name_where_that_is_asked_for(
    source: Path, tmp_path: Path, damage: Callable[[Path], object], message: str, labels: str
) -> None:
    damage(source)
    options = ConvertOptions(labels=labels, contrasts=("t2",))  # type: ignore[arg-type]
    written = convert("spider", source, tmp_path / "out", options, leave_out_bad=True)
    assert list(written.left_out) == ["spider002"] and written.cases == 2
    record = json.loads((tmp_path / "out" / "conversion.json").read_text("utf-8"))
    assert record["left_out"] == written.left_out and "spider002" not in record["cases"]
    assert {path.name for path in (tmp_path / "out" / "labelsTr").iterdir()} == {"spider001.nii.gz", "spider003.nii.gz"}


def test_what_only_a_case_that_is_left_out_has_is_left_out_with_it(source: Path, tmp_path: Path) -> None:
    whole = convert("spider", source, tmp_path / "whole", ConvertOptions(labels="levels", contrasts=("t2",)))
    rewrite(source, lambda m: np.where(m == m[m > 0].min(), 9, m)[1:])
    options, folds = ConvertOptions(labels="levels", contrasts=("t2",)), FoldOptions(folds=2, first=("spider002",))
    written = convert("spider", source, tmp_path / "out", options, folds, leave_out_bad=True)
    assert list(written.left_out) == ["spider002"]
    assert written.labels == whole.labels and json.loads((tmp_path / "out" / "splits_final.json").read_text("utf-8"))


def test_an_interrupted_conversion_leaves_nothing_and_can_be_run_again(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(line: str) -> None:
        raise KeyboardInterrupt(line)

    with pytest.raises(KeyboardInterrupt):
        convert("spider", source, tmp_path / "out", OPTIONS, progress=interrupted)
    assert not (tmp_path / "out").exists()
    assert convert("spider", source, tmp_path / "out", OPTIONS).cases == 3
    with pytest.raises(DataError, match="out is a data set already"):
        convert("spider", source, tmp_path / "out", OPTIONS)


def test_a_folder_with_other_cases_is_refused(source: Path, tmp_path: Path) -> None:
    for name in ("other.nii.gz", "spider001.nii.gz"):
        place = tmp_path / name / "labelsTr" / name
        place.parent.mkdir(parents=True)
        place.write_bytes(b"an expert's")
        with pytest.raises(DataError, match=f"{name}/labelsTr holds {name}"):
            convert("spider", source, tmp_path / name, OPTIONS)
        assert place.read_bytes() == b"an expert's"


def test_folds_that_somebody_put_into_the_folder_are_not_replaced(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "splits_final.json").write_text("mine", "utf-8")
    with pytest.raises(DataError, match=r"out holds splits_final\.json"):
        convert("spider", source, tmp_path / "out", OPTIONS)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["splits_final.json"]


def test_the_record_says_where_each_file_came_from(source: Path, tmp_path: Path) -> None:
    convert("spider", source, tmp_path / "out", OPTIONS, FoldOptions(folds=3, seed=1, first=("spider002",)))
    record = json.loads((tmp_path / "out" / "conversion.json").read_text("utf-8"))
    assert record["licence"] == "CC BY 4.0" and record["options"]["contrasts"] == ["t2"]
    assert record["cases"]["spider003"] == {
        "patient": "spider003",
        "image": "images/3_t2.mha",
        "mask": "masks/3_t2.mha",
    }
    assert str(tmp_path) not in json.dumps(record)
    folds = json.loads((tmp_path / "out" / "splits_final.json").read_text("utf-8"))
    assert len(folds) == 3 and folds[0]["val"] == ["spider002"]


def test_a_patient_for_the_first_fold_who_is_not_there_ends_it_before_anything_is_written(
    source: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="patient 'spider099'"):
        convert("spider", source, tmp_path / "out", OPTIONS, FoldOptions(first=("spider099",)))
    assert not (tmp_path / "out").exists()


def test_a_structure_that_no_case_has_ends_it(source: Path, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        path = source / "masks" / f"{number}_t2.mha"
        mask = read_labels(path).array.astype(np.int16)
        downloads.write_image(path, np.where(mask == 100, 0, mask), SPACING, downloads.SAGITTAL)
    with pytest.raises(DataError, match=r"structure 'canal' \(label 3\) is in none of the 3 masks"):
        convert("spider", source, tmp_path / "out", OPTIONS)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("spyder", ConvertOptions(), "a data set 'spyder'"),
        ("spider", ConvertOptions(subset="a"), "spider with --subset"),
        ("aasce", ConvertOptions(midline=True), "aasce with --midline"),
        ("spider", ConvertOptions(contrasts=("t3",)), "the contrast 't3'"),
        ("spider", ConvertOptions(labels="all"), "labels 'all'"),  # type: ignore[arg-type]
        ("verse", ConvertOptions(), "download holds no case"),
        ("ctspine1k", ConvertOptions(), "download holds no case"),
        ("mrspineseg", ConvertOptions(), "download holds no case"),
        ("aasce", ConvertOptions(), "download holds no case"),
    ],
)
def test_what_a_data_set_does_not_have_is_refused(
    source: Path, tmp_path: Path, name: str, options: ConvertOptions, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        convert(name, source, tmp_path / "out", options)


def test_a_file_of_another_name_in_spider_is_refused(source: Path, tmp_path: Path) -> None:
    (source / "images" / "4_t2_copy.mha").write_bytes(b"")
    with pytest.raises(DataError, match=r"images/4_t2_copy.mha"):
        convert("spider", source, tmp_path / "out", OPTIONS)


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    source = downloads.write_ctspine1k(tmp_path / "download")
    twin = source / "rawdata" / "volumes" / "again" / "HN_P001.nii.gz"
    twin.parent.mkdir()
    twin.write_bytes((source / "rawdata/volumes/HNSCC-3DCT-RT/HN_P001.nii.gz").read_bytes())
    with pytest.raises(DataError, match=r"HN_P001.nii.gz lies in HNSCC-3DCT-RT and in again"):
        convert("ctspine1k", source, tmp_path / "out")


def test_the_command_says_what_was_made_and_what_was_left_out(source: Path, tmp_path: Path) -> None:
    DAMAGE[1][0](source)
    lines: list[str] = []
    command.convert("spider", source, tmp_path / "out", OPTIONS, FoldOptions(), leave_out_bad=True, say=lines.append)
    text = "\n".join(lines)
    assert "2 cases in 2 folds by patient" in text and "labels: vertebra 1, disc 2, canal 3" in text
    assert "left out: case spider002: its mask is empty" in text and "CC BY 4.0" in text


def test_the_words_of_the_command_line_reach_the_converter(source: Path, tmp_path: Path) -> None:
    words = ["convert", "spider", str(source), str(tmp_path / "out"), "--contrasts", "t2, t1", "--labels", "levels"]
    done = CliRunner().invoke(app, [*words, "--folds", "3", "--seed", "4", "--first", "spider002"])
    assert done.exit_code == 0, done.output
    record = json.loads((tmp_path / "out" / "conversion.json").read_text("utf-8"))
    assert record["options"] == {"labels": "levels", "contrasts": ["t2", "t1"], "midline": False, "subset": None}
    assert record["folds"] == {"folds": 3, "seed": 4, "first": ["spider002"]}
    assert CliRunner().invoke(app, ["check", str(tmp_path / "out")]).exit_code == 0
    assert CliRunner().invoke(app, ["split", str(tmp_path / "out"), "--replace", "--folds", "2"]).exit_code == 0
    (tmp_path / "out" / "labelsTr" / "spider001_t2.nii.gz").unlink()
    assert CliRunner().invoke(app, ["check", str(tmp_path / "out")]).exit_code == DataError.exit_code
    assert "aasce" in CliRunner().invoke(app, ["list"]).output


def test_folds_are_written_for_a_data_set_and_not_over_those_it_has(source: Path, tmp_path: Path) -> None:
    convert("spider", source, tmp_path / "out", OPTIONS)
    path, lines = tmp_path / "out" / "splits_final.json", []
    before = path.read_bytes()
    with pytest.raises(DataError, match=r"has a splits_final\.json"):
        command.split(tmp_path / "out", FoldOptions(folds=2))
    assert path.read_bytes() == before
    command.split(tmp_path / "out", FoldOptions(folds=2, first=("spider003",)), replace=True, say=lines.append)
    folds = json.loads(path.read_text("utf-8"))
    assert len(folds) == len(lines) == 2 and "spider003" in folds[0]["val"]
    with pytest.raises(DataError, match="7 folds of 3 cases"):
        command.split(tmp_path / "out", FoldOptions(folds=7), replace=True)


def test_the_list_names_every_data_set_with_its_licence() -> None:
    lines = command.listing()
    assert [line.split()[0] for line in lines] == ["spider", "ctspine1k", "verse", "mrspineseg", "aasce"]
    assert "CC BY-SA 4.0" in lines[2] and "--midline" in lines[0] and "--midline" not in lines[1]


def test_converting_and_checking_load_no_torch() -> None:
    import subprocess
    import sys

    code = (
        "import sys; import verdiff.train.data.convert, verdiff.train.data.check, verdiff.commands.data_sets\n"
        "print(sorted({'torch', 'scipy', 'SimpleITK'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_records_are_written_last(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    real = raw_data_set.atomic_path
    for module in (raw_data_set, splits):
        monkeypatch.setattr(module, "atomic_path", lambda path: (order.append(path.name), real(path))[1])
    convert("spider", source, tmp_path / "out", OPTIONS)
    assert order == ["splits_final.json", "conversion.json", "dataset.json"]
