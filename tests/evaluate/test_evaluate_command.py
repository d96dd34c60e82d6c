"""From two folders of files to the tables, as ``verdiff evaluate`` does it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from verdiff.errors import DataError, OutputError
from verdiff.evaluate.command import evaluate_folders, run

LABELS = {"disc": 1, "canal": 2}


def write(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.5, 0.5, 2.0))
    sitk.WriteImage(image, str(path))


def case(shift: int) -> np.ndarray:
    array = np.zeros((3, 12, 12), dtype=np.uint8)
    array[:, 2:6, 2 + shift : 6 + shift] = 1
    array[:, 8:11, 2:6] = 2
    return array


@pytest.fixture
def folders(tmp_path) -> Path:
    for index, name in enumerate(("a", "b", "c")):
        write(tmp_path / "references" / f"{name}.nii.gz", case(0))
        write(tmp_path / "good" / f"{name}_seg.nii.gz", case(0))
        write(tmp_path / "poor" / f"{name}_seg.nii.gz", case(1 + index))
    return tmp_path


def test_every_case_of_the_folders_is_scored_in_its_own_spacing(folders):
    table = evaluate_folders(folders / "poor", folders / "references", LABELS)
    assert table.by_case("disc", "dice") == pytest.approx({"a": 0.75, "b": 0.5, "c": 0.25})
    assert table.by_case("disc", "hd95_mm") == pytest.approx({"a": 0.5, "b": 1.0, "c": 1.5})
    assert set(table.by_case("canal", "dice").values()) == {1.0}


def test_the_three_tables_are_written_without_leftovers(folders):
    evaluation = run(folders / "poor", folders / "references", LABELS, folders / "out")
    assert {path.name for path in (folders / "out").iterdir()} == {"scores.csv", "scores.json", "scores.md"}
    assert set(evaluation.written) == set((folders / "out").iterdir())
    stored = json.loads((folders / "out" / "scores.json").read_text())
    assert (stored["labels"], stored["policy"]) == (LABELS, "strict")
    assert stored["summary"]["disc"]["dice"]["mean"] == pytest.approx(0.5)
    assert (folders / "out" / "scores.md").read_text() == evaluation.markdown
    assert str(folders) not in json.dumps(stored) + evaluation.markdown


def test_one_file_as_output_is_the_only_one_written(folders):
    evaluation = run(folders / "poor", folders / "references", "disc=1", folders / "disc.csv")
    assert evaluation.written == (folders / "disc.csv",)
    assert (folders / "disc.csv").read_text().startswith("case,structure,dice")


def test_two_models_are_compared_on_the_same_cases(folders):
    evaluation = run(folders / "good", folders / "references", LABELS, compare_with=folders / "poor")
    disc = evaluation.comparisons["disc"]
    assert (disc["dice"].better, disc["dice"].worse) == (3, 0)
    assert disc["dice"].difference.mean == pytest.approx(0.5)
    assert disc["dice"].p_value == pytest.approx(2 / 2**3)
    assert evaluation.comparisons["canal"]["dice"].p_value == 1.0
    # A smaller distance is the better one, whatever the sign of the difference.
    assert disc["hd95_mm"].difference.mean < 0
    assert "| disc | HD95 (mm) | -1.0000 | -1.5000 to -0.5000 | 3 / 0 | 0.25 |" in evaluation.markdown


def test_a_fold_scores_its_validation_cases_alone(folders):
    splits = folders / "splits_final.json"
    splits.write_text(json.dumps([{"train": ["a"], "val": ["b", "c"]}]))
    evaluation = run(folders / "good", folders / "references", LABELS, splits=splits, fold=0)
    assert list(evaluation.table.scores) == ["b", "c"]
    with pytest.raises(DataError):
        run(folders / "good", folders / "references", LABELS, splits=splits, cases=["a"])


def test_label_ids_that_nobody_asked_for_are_named_in_the_report(folders):
    evaluation = run(folders / "good", folders / "references", {"disc": 1}, cases=["a"], distances=False)
    assert evaluation.table.notes == (
        "a: the prediction also holds label ids [2], which were not scored.",
        "a: the reference also holds label ids [2], which were not scored.",
    )
    assert all(note in evaluation.markdown for note in evaluation.table.notes)


def test_each_case_is_reported_as_it_is_done(folders):
    done: list[str] = []
    run(folders / "good", folders / "references", LABELS, distances=False, on_case=lambda name, _: done.append(name))
    assert done == ["a", "b", "c"]


def test_an_unknown_policy_lists_those_there_are(folders):
    with pytest.raises(DataError, match="strict, leave-absent-out"):
        run(folders / "good", folders / "references", LABELS, policy="kind")


def test_an_output_that_cannot_be_a_folder_is_an_output_error(folders):
    (folders / "file").write_text("")
    with pytest.raises(OutputError):
        run(folders / "good", folders / "references", LABELS, folders / "file")
