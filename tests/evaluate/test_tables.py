"""Summaries, the three ways a table is written, and reading one back."""

from __future__ import annotations

import csv
import io
import json
import math

import pytest

from verdiff.errors import DataError
from verdiff.evaluate.empty import METRICS
from verdiff.evaluate.markdown import papers_table, to_markdown
from verdiff.evaluate.metrics import CaseScores
from verdiff.evaluate.stored import read_results, to_csv, to_json
from verdiff.evaluate.tables import MEAN, Results, Table

NAN = math.nan


def scores(dice: float, iou: float, hd95: float, assd: float, reference: int, predicted: int) -> CaseScores:
    return CaseScores(dice, iou, hd95, assd, iou, iou, 1 - dice, reference, predicted, 0.5)


@pytest.fixture
def table() -> Table:
    return Table.of(
        {
            "a": {"disc": scores(0.8, 0.7, 2.0, 0.5, 10, 12), "canal": scores(0.6, 0.5, 4.0, 1.5, 5, 5)},
            "b": {"disc": scores(0.9, 0.8, 1.0, 0.25, 10, 9), "canal": scores(NAN, NAN, NAN, NAN, 0, 0)},
        },
        tuple(METRICS),
        ("b: the reference also holds label ids [9], which were not scored.",),
    )


def test_the_summary_of_a_structure_over_its_cases(table):
    dice, distance = table.summary("disc", "dice"), table.summary("disc", "hd95_mm")
    assert (dice.mean, dice.median, dice.worst, dice.worst_case) == pytest.approx((0.85, 0.85, 0.8, "a"))
    assert dice.deviation == pytest.approx(math.sqrt(2 * 0.05**2))
    assert (distance.worst, distance.worst_case) == (2.0, "a")


def test_undefined_values_are_left_out_and_counted(table):
    summary = table.summary("canal", "dice")
    assert (summary.mean, summary.undefined) == (0.6, 1)
    assert math.isnan(summary.deviation), "one case has no deviation"


def test_the_mean_of_a_case_is_over_its_structures(table):
    assert table.by_case(MEAN, "dice") == pytest.approx({"a": 0.7, "b": 0.9})


def test_a_structure_undefined_in_every_case_has_no_mean():
    table = Table({"b": {"canal": {"dice": NAN}}}, ("dice",))
    assert math.isnan(table.summary("canal", "dice").mean)
    assert "undefined" in to_markdown(Results(table))


def test_csv_keeps_every_digit_and_leaves_undefined_fields_empty(table):
    rows = list(csv.DictReader(io.StringIO(to_csv(table))))
    assert [(row["case"], row["structure"]) for row in rows] == [
        ("a", "disc"), ("a", "canal"), ("a", "mean"), ("b", "disc"), ("b", "canal"), ("b", "mean"),
    ]  # fmt: skip
    assert float(rows[2]["dice"]) == table.value("a", MEAN, "dice")
    assert (rows[4]["dice"], rows[4]["reference_voxels"]) == ("", "0")


def test_json_is_strict_json_with_null_for_undefined(table):
    found = json.loads(to_json(Results(table), labels={"disc": 1}), parse_constant=pytest.fail)
    assert (found["policy"], found["labels"]) == ("strict", {"disc": 1})
    assert found["cases"]["b"]["canal"]["dice"] is None
    assert found["cases"]["b"]["canal"]["presence"] == "in neither"
    assert found["summary"]["disc"]["dice"]["worst_case"] == "a"
    assert found["metrics"]["hd95_mm"]["unit"] == "mm"


def test_markdown_shows_every_case_and_names_what_was_empty_or_not_scored(table):
    text = to_markdown(Results(table))
    assert "| disc | 0.8500 ± 0.0707 [0.8000] |" in text
    assert "| canal | 0.6000 [0.6000, 1 undefined] |" in text
    assert "| a | 2.00 | 4.00 | 3.00 |" in text
    assert "- b: canal is in neither." in text
    assert "label ids [9]" in text


def test_markdown_gives_volumes_with_the_sign_that_absolute_errors_lose(table):
    assert "| disc | 5.00 | 5.25 | +0.25 ± 1.06 |" in to_markdown(Results(table))


def test_a_film_has_no_volumes(table):
    values = {case: {"disc": row["disc"]} for case, row in table.values.items()}
    assert "Volumes" not in to_markdown(Results(Table(values, table.metrics)))


def test_a_table_of_overlaps_alone_has_no_columns_of_distances(table):
    overlaps = Table(table.values, ("dice", "iou"), table.facts)
    assert "HD95" not in to_markdown(Results(overlaps))
    assert to_csv(overlaps).startswith("case,structure,dice,iou,reference_voxels,predicted_voxels,reference_ml,")


def test_what_is_stored_is_read_back_whole(table, tmp_path):
    groups = Table({"a": {"instances": {"panoptic_quality": 0.5}}}, ("panoptic_quality",), averaged=False)
    (tmp_path / "scores.json").write_text(
        to_json(Results(table, groups, about={"a": {"seconds": 2.5}}, policy="leave-absent-out")),
        "utf-8",
    )
    found = read_results(tmp_path)
    assert found.tables.keys() == {"masks", "instances"}
    assert to_json(found) == (tmp_path / "scores.json").read_text("utf-8")
    assert found.about == {"a": {"seconds": 2.5}}


@pytest.mark.parametrize(
    "content",
    [
        None,
        "{",
        "[]",
        "{}",
        '{"metrics": {"beauty": {}}, "cases": {"a": {"disc": {"beauty": 1}}}, "notes": [], "policy": "strict"}',
        '{"metrics": {"dice": {}}, "cases": {}, "notes": [], "policy": "strict"}',
        '{"metrics": {"dice": {}}, "cases": {"a": {"disc": {}}}, "notes": [], "policy": "strict"}',
        '{"metrics": {"dice": {}}, "cases": {"a": {"disc": {"dice": 1}}, "b": {"canal": {"dice": 1}}}, "notes": [], '
        '"policy": "strict"}',
    ],
)
def test_a_file_that_is_no_evaluation_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "scores.json").write_text(content, "utf-8")
    with pytest.raises(DataError, match=r"scores\.json"):
        read_results(tmp_path)


def test_the_papers_table_has_a_line_a_model_in_the_unit_of_all_other_tables(table):
    lines = papers_table({"ours": {"": table}, "theirs": {"": table}}, ("dice", "hd95_mm"))
    assert lines[0] == (
        "| model | disc Dice | disc HD95 (mm) | canal Dice | canal HD95 (mm) | mean Dice | mean HD95 (mm) |"
    )
    assert lines[2].startswith("| ours | 0.8500 ± 0.0707 | 1.50 ± 0.71 | 0.6000 (1 undefined) |")
    assert lines[3].split("|")[2:] == lines[2].split("|")[2:]


def test_the_papers_table_over_folds_has_a_column_a_fold_and_one_of_all_cases_together(table):
    folds = {
        name: Table({name: {"disc": {"dice": value}}}, ("dice",)) for name, value in (("fold 0", 0.8), ("fold 1", 0.9))
    }
    lines = papers_table({"ours": folds}, ("dice",), pooled=True)
    assert lines[0] == "| model | fold 0 Dice | fold 1 Dice | all Dice |"
    assert lines[2] == "| ours | 0.8000 | 0.9000 | 0.8500 ± 0.0707 |"
