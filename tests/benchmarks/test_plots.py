"""The picture shows every repeat, its percentiles, and stages that add up."""

from __future__ import annotations

from typing import Any

import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from verdiff.benchmarks.plots import QUIET, draw_distributions, draw_stages
from verdiff.benchmarks.timing import Timing


@pytest.fixture
def axes() -> Any:
    return Figure().add_subplot()


def test_every_repeat_is_a_dot_and_three_percentiles_are_lines(axes):
    timings = {"eager": Timing((2.0, 2.5, 3.0)), "runtime": Timing((1.0, 1.5, 9.0))}
    draw_distributions(axes, timings, baseline="eager")
    dots = [collection.get_offsets() for collection in axes.collections]
    assert [dot[:, 0].tolist() for dot in dots] == [[2.0, 2.5, 3.0], [1.0, 1.5, 9.0]]
    lines = [line.get_xdata()[0] for line in axes.lines]
    assert lines == pytest.approx([timing.percentile(p) for timing in timings.values() for p in (50, 90, 99)])
    assert axes.get_xlim()[1] > 9.0
    greys = [tuple(collection.get_facecolor()[0]) == to_rgba(QUIET) for collection in axes.collections]
    assert greys == [True, False]


def test_short_times_are_in_milliseconds(axes):
    draw_distributions(axes, {"a": Timing((0.002, 0.004, 0.003))}, baseline=None)
    assert axes.get_xlabel().startswith("ms")
    assert axes.collections[0].get_offsets()[:, 0].tolist() == pytest.approx([2.0, 4.0, 3.0])


def test_stages_lie_end_to_end_and_a_stage_of_one_rival_alone_shifts_no_other(axes):
    stages = {
        "whole": {"read": Timing((1.0,)), "prior": Timing((2.0,)), "write": Timing((0.5,))},
        "fast": {"read": Timing((1.0,)), "locate": Timing((0.25,)), "prior": Timing((1.0,)), "write": Timing((0.5,))},
    }
    draw_stages(axes, stages)
    spans = {}
    for container in axes.containers:
        for row, bar in enumerate(container):
            spans[container.get_label(), row] = (bar.get_x(), bar.get_x() + bar.get_width())
    assert spans["prior", 0] == (1.0, 3.0)
    assert spans["write", 0] == (3.0, 3.5)
    fast = sorted(span for (_, row), span in spans.items() if row == 1 and span[1] > span[0])
    assert [start for start, _ in fast] == [0.0, *(end for _, end in fast[:-1])]
    assert fast[-1][1] == pytest.approx(2.75)
    assert spans["locate", 1] == (1.0, 1.25)
