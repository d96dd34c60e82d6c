"""Box plots draw every case that has a value, and say how many have none."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure

from verdiff.errors import BackendError, DataError
from verdiff.evaluate.plots import box_plots, draw_metric
from verdiff.evaluate.tables import Table


def table(*values: float, structures=("disc", "canal")) -> Table:
    cases = {f"case{index}": {name: {"dice": value} for name in structures} for index, value in enumerate(values)}
    return Table(cases, ("dice",))


def test_every_case_is_a_dot_over_its_structure_and_its_model():
    axes = Figure().subplots()
    draw_metric(axes, {"ours": table(0.9, 0.8, 0.7), "theirs": table(0.5, 0.4)}, "dice")
    dots = [collection.get_offsets() for collection in axes.collections if len(collection.get_offsets())]
    assert [len(each) for each in dots] == [3, 3, 3, 2, 2, 2]  # disc, canal and mean of each model
    assert dots[0][:, 1].tolist() == [0.9, 0.8, 0.7]
    middles = [np.asarray(each)[:, 0] for each in dots]
    assert [round(float(at.mean())) for at in middles] == [0, 1, 2, 0, 1, 2]
    assert middles[0].max() < middles[3].min()
    assert axes.get_ylabel() == "Dice"


def test_undefined_values_are_counted_below_their_structure():
    axes = Figure().subplots()
    draw_metric(axes, {"ours": table(0.9, math.nan, math.nan)}, "dice")
    assert axes.get_xticklabels()[0].get_text() == "disc\n2 undefined"


def test_a_picture_is_written(tmp_path):
    box_plots({"ours": table(0.9, 0.8), "theirs": table(0.5)}, tmp_path / "boxes.png")
    assert (tmp_path / "boxes.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "other", [table(0.5, structures=("vertebra",)), Table({"a": {"disc": {"iou": 1.0}}}, ("iou",))]
)
def test_tables_that_do_not_belong_in_one_picture_are_refused(tmp_path, other):
    with pytest.raises(DataError):
        box_plots({"ours": table(0.9), "theirs": other}, tmp_path / "boxes.png")


def test_without_matplotlib_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(BackendError, match=r"\.\[evaluate\]"):
        box_plots({"ours": table(0.9)}, tmp_path / "boxes.png")
