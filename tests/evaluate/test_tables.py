"""Summaries, and the three ways a table is written."""

from __future__ import annotations

import csv
import io
import json
import math

import pytest

from verdiff.evaluate.metrics import CaseScores
from verdiff.evaluate.tables import MEAN, Table, to_csv, to_json, to_markdown

NAN = math.nan


@pytest.fixture
def table() -> Table:
    return Table(
        {
            "a": {"disc": CaseScores(0.8, 0.7, 2.0, 0.5, 10, 12), "canal": CaseScores(0.6, 0.5, 4.0, 1.5, 5, 5)},
            "b": {"disc": CaseScores(0.9, 0.8, 1.0, 0.25, 10, 9), "canal": CaseScores(NAN, NAN, NAN, NAN, 0, 0)},
        },
        notes=("b: the reference also holds label ids [9], which were not scored.",),
    )


def test_the_summary_of_a_structure_over_its_cases(table):
    dice, distance = table.summary("disc", "dice"), table.summary("disc", "hd95_mm")
    assert (dice.mean, dice.median, dice.worst, dice.worst_case) == pytest.approx((0.85, 0.85, 0.8, "a"))
    assert dice.deviation == pytest.approx(math.sqrt(2 * 0.05**2))
    assert (distance.worst, distance.worst_case) == (2.0, "a")


def test_undefined_values_are_left_out_and_counted(table):
    summary = table.summary("canal", "dice")
    assert (summary.mean, summary.deviation, summary.undefined) == (0.6, 0.0, 1)


def test_the_mean_of_a_case_is_over_its_structures(table):
    assert table.by_case(MEAN, "dice") == pytest.approx({"a": 0.7, "b": 0.9})


def test_a_structure_undefined_in_every_case_has_no_mean():
    table = Table({"b": {"canal": CaseScores(NAN, NAN, NAN, NAN, 0, 0)}})
    assert math.isnan(table.summary("canal", "dice").mean)
    assert "undefined" in to_markdown(table)


def test_csv_keeps_every_digit_and_leaves_undefined_fields_empty(table):
    rows = list(csv.DictReader(io.StringIO(to_csv(table))))
    assert [(row["case"], row["structure"]) for row in rows] == [
        ("a", "disc"), ("a", "canal"), ("a", "mean"), ("b", "disc"), ("b", "canal"), ("b", "mean"),
    ]  # fmt: skip
    assert float(rows[2]["dice"]) == table.value("a", MEAN, "dice")
    assert (rows[4]["dice"], rows[4]["reference_voxels"]) == ("", "0")


def test_json_is_strict_json_with_null_for_undefined(table):
    found = json.loads(to_json(table, policy="strict"), parse_constant=pytest.fail)
    assert found["policy"] == "strict"
    assert found["cases"]["b"]["canal"]["dice"] is None
    assert found["cases"]["b"]["canal"]["presence"] == "in neither"
    assert found["summary"]["disc"]["dice"]["worst_case"] == "a"
    assert found["metrics"]["hd95_mm"]["unit"] == "mm"


def test_markdown_shows_every_case_and_names_what_was_empty_or_not_scored(table):
    text = to_markdown(table)
    assert "| disc | 0.8500 ± 0.0707 [0.8000] |" in text
    assert "| canal | 0.6000 ± 0.0000 [0.6000, 1 undefined] |" in text
    assert "| a | 2.00 | 4.00 | 3.00 |" in text
    assert "- b: canal is in neither." in text
    assert "label ids [9]" in text


def test_a_table_of_overlaps_alone_has_no_columns_of_distances(table):
    overlaps = Table(table.scores, ("dice", "iou"))
    assert "HD95" not in to_markdown(overlaps)
    assert to_csv(overlaps).startswith("case,structure,dice,iou,reference_voxels,predicted_voxels\n")
