"""From two folders of files to the tables, as ``verdiff evaluate`` does it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from verdiff.errors import DataError, OutputError
from verdiff.evaluate.evaluation import run
from verdiff.evaluate.stored import read_results

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
    table = run(folders / "poor", folders / "references", LABELS).table
    assert table.by_case("disc", "dice") == pytest.approx({"a": 0.75, "b": 0.5, "c": 0.25})
    assert table.by_case("disc", "hd95_mm") == pytest.approx({"a": 0.5, "b": 1.0, "c": 1.5})
    assert set(table.by_case("canal", "dice").values()) == {1.0}


def test_the_three_tables_are_written_without_leftovers(folders):
    evaluation = run(folders / "poor", folders / "references", LABELS, folders / "out")
    assert {path.name for path in (folders / "out").iterdir()} == {"scores.csv", "scores.json", "scores.md"}
    assert set(evaluation.written) == set((folders / "out").iterdir())
    stored = json.loads((folders / "out" / "scores.json").read_text("utf-8"))
    assert (stored["labels"], stored["policy"]) == (LABELS, "strict")
    assert stored["summary"]["disc"]["dice"]["mean"] == pytest.approx(0.5)
    mark, _, page = (folders / "out" / "scores.md").read_text("utf-8").partition("\n")
    assert mark.startswith("<!-- verdiff ") and page == evaluation.markdown
    assert str(folders) not in json.dumps(stored) + evaluation.markdown


def test_one_file_as_output_is_the_only_one_written(folders):
    evaluation = run(folders / "poor", folders / "references", "disc=1", folders / "disc.csv")
    assert evaluation.written == (folders / "disc.csv",)
    assert (folders / "disc.csv").read_text("utf-8").startswith("case,structure,dice")


def test_two_models_are_compared_on_the_same_cases(folders):
    evaluation = run(folders / "good", folders / "references", LABELS, compare_with=folders / "poor")
    disc = {metric: one.comparison for metric, one in evaluation.comparisons["masks"]["disc"].items()}
    assert (disc["dice"].better, disc["dice"].worse) == (3, 0)
    assert disc["dice"].difference.mean == pytest.approx(0.5)
    assert disc["dice"].p_value == pytest.approx(2 / 2**3)
    assert evaluation.comparisons["masks"]["canal"]["dice"].comparison.p_value == 1.0
    # A smaller distance is the better one, whatever the sign of the difference.
    assert disc["hd95_mm"].difference.mean < 0
    assert "| disc | HD95 (mm) | 3 | -1.0000 | -1.5000 to -0.5000 | 3 / 0 | 0.25 | 1 |" in evaluation.markdown


def test_of_one_structure_there_is_no_mean_and_each_test_is_counted_once(folders):
    evaluation = run(
        folders / "good", folders / "references", "disc=1", folders / "out",
        compare_with=folders / "poor", distances=False,
    )  # fmt: skip
    assert "mean" not in evaluation.markdown.replace("Mean", "")
    (row,) = evaluation.comparisons["masks"].values()
    # Dice, IoU and volume error: three tests, of which the smallest p is taken three times.
    assert len(row) == 3 and row["dice"].adjusted_p == pytest.approx(min(1, 3 * row["dice"].comparison.p_value))
    # Older versions wrote the mean of one structure beside it.
    path = folders / "out" / "scores.json"
    stored = json.loads(path.read_text("utf-8"))
    for rows in (*stored["cases"].values(), stored["summary"]):
        rows["mean"] = rows["disc"]
    path.write_text(json.dumps({**stored, "averaged": True}), "utf-8")
    assert read_results(path).masks.rows == ("disc",)


def test_the_other_model_may_be_an_earlier_evaluation(folders):
    run(folders / "poor", folders / "references", LABELS, folders / "earlier")
    now = run(folders / "good", folders / "references", LABELS, compare_with=folders / "poor")
    for stored in (folders / "earlier", folders / "earlier" / "scores.json"):
        again = run(folders / "good", folders / "references", LABELS, compare_with=stored)
        assert again.comparisons == now.comparisons
    assert "Difference to earlier " in again.markdown


def test_what_the_other_model_was_not_scored_with_is_named(folders):
    run(folders / "poor", folders / "references", LABELS, folders / "earlier", distances=False)
    report = run(folders / "good", folders / "references", LABELS, compare_with=folders / "earlier", instances="ids")
    assert set(report.comparisons["masks"]["disc"]) == {"dice", "iou", "volume_error"}
    assert "- HD95 (mm) was scored in one of the two alone and is not compared." in report.markdown
    assert "- Instances were scored in one of the two alone and are not compared." in report.markdown


def test_the_page_begins_with_the_papers_table(folders):
    page = run(folders / "poor", folders / "references", LABELS, compare_with=folders / "good").markdown.splitlines()
    assert page[0].startswith("| model | disc Dice | disc IoU | canal Dice |")
    assert page[2].startswith("| poor | 0.5000 ± 0.2500 |")
    assert page[3].startswith("| good | 1.0000 ± 0.0000 |")


def test_every_table_asked_for_is_written(folders):
    report = run(
        folders / "poor", folders / "references", LABELS, folders / "out", instances="disc=1,canal=2", plots=True,
    )  # fmt: skip
    assert {path.name for path in report.written} == {
        "scores.csv", "instances.csv", "scores.json", "scores.md", "boxes.png",
    }  # fmt: skip
    assert (folders / "out" / "boxes.png").read_bytes().startswith(b"\x89PNG")
    assert (folders / "out" / "instances.csv").read_text("utf-8").startswith("case,structure,identification_rate,")
    stored = read_results(folders / "out")
    assert stored.tables.keys() == {"masks", "instances"}
    assert stored.instances.by_case("disc", "panoptic_quality") == pytest.approx({"a": 0.6, "b": 0.0, "c": 0.0})


@pytest.mark.parametrize(
    ("output", "more"), [(None, {"plots": True}), ("one.json", {"plots": True}), ("one.csv", {"instances": "ids"})]
)
def test_an_output_without_room_for_what_is_asked_is_refused_before_scoring(folders, output, more):
    done: list[str] = []
    target = None if output is None else folders / output
    with pytest.raises(DataError, match="folder"):
        run(folders / "good", folders / "references", LABELS, target, on_case=lambda *_: done.append(""), **more)
    assert not done


def test_uncertainty_maps_beside_the_masks_are_set_against_the_errors(folders):
    for name, shift in (("a", 1), ("b", 2), ("c", 3)):
        wrong = (case(0) != case(shift)).astype(np.uint8)
        write(folders / "poor" / f"{name}_uncertainty.nii.gz", 200 * wrong)
    table = run(folders / "poor", folders / "references", LABELS, distances=False, uncertainty=True).results.uncertainty
    assert table.metrics == ("error_auroc",)
    assert set(table.by_case("all labels", "error_auroc").values()) == {1.0}
    # The canal is right everywhere, so there is nothing to find.
    assert table.summary("canal", "error_auroc").undefined == 3


@pytest.mark.parametrize("fault", ["missing", "other grid", "too large"])
def test_an_unusable_uncertainty_map_names_its_case(folders, fault):
    for name in ("a", "b", "c"):
        write(folders / "good" / f"{name}_uncertainty.nii.gz", case(0))
    path = folders / "good" / "b_uncertainty.nii.gz"
    path.unlink()
    if fault == "other grid":
        write(path, case(0)[:2])
    elif fault == "too large":
        write(path, case(0).astype(np.uint16) * 200)
    with pytest.raises(DataError, match=r"\bb\b"):
        run(folders / "good", folders / "references", LABELS, distances=False, uncertainty=True)


def test_a_data_set_as_reference_is_its_folder_of_labels(folders):
    (folders / "set").mkdir()
    (folders / "references").rename(folders / "set" / "labelsTr")
    (folders / "set" / "dataset.json").write_text(json.dumps({"labels": {"background": 0, **LABELS}}), "utf-8")
    assert run(folders / "good", folders / "set").table.cases == ("a", "b", "c")


def test_a_fold_scores_its_validation_cases_alone(folders):
    splits = folders / "splits_final.json"
    splits.write_text(json.dumps([{"train": ["a"], "val": ["b", "c"]}]), "utf-8")
    evaluation = run(folders / "good", folders / "references", LABELS, splits=splits, fold=0)
    assert evaluation.table.cases == ("b", "c")
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
    (folders / "file").write_text("", "utf-8")
    with pytest.raises(OutputError):
        run(folders / "good", folders / "references", LABELS, folders / "file")
