"""Box plots of scores: every case as a dot over its structure's box, one model beside the other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from verdiff.errors import DataError
from verdiff.evaluate.empty import EVERY_METRIC
from verdiff.evaluate.metrics import optional_library
from verdiff.evaluate.tables import Table

COLOURS = ("#2563a8", "#d97706", "#0f766e", "#b91c1c", "#7c3aed", "#65a30d", "#0891b2", "#be185d", "#854d0e", "#475569")
INK = "#1b1f24"
ROW_INCHES = 2.6
GROUP = 0.8  # of the distance between two structures
# The golden ratio's steps never pile up, whatever the number of cases, and are the same at every drawing.
_STEP = (math.sqrt(5) - 1) / 2


def box_plots(tables: Mapping[str, Table], path: Path | BinaryIO, metrics: tuple[str, ...] = ()) -> None:
    """Write a PNG with a row of boxes for each metric: median, quartiles, whiskers to 1.5 times their distance.

    Every case is a dot, so that a box of four cases looks like four cases. Undefined values have no dot; how many there
    are stands below the structure.

    Args:
        tables: Model -> its scores; the structures of the first, in its order.
        path: The file, or what takes its bytes.
        metrics: The rows; all that every table has by default.

    Raises:
        DataError: The tables share no metric, or not the same structures.
        BackendError: matplotlib is not installed.
    """
    # The object interface, without pyplot: no global state and no display.
    figures, agg = optional_library("matplotlib.figure"), optional_library("matplotlib.backends.backend_agg")
    first = next(iter(tables.values()))
    rows = metrics or tuple(name for name in first.metrics if all(name in table.metrics for table in tables.values()))
    if not rows or any(set(table.rows) != set(first.rows) for table in tables.values()):
        raise DataError(
            f"tables of {', '.join(tables)} with other metrics or structures",
            "the same structures and a metric that all have",
            "score them with the same labels",
        )
    width = max(6.0, 1.2 + 0.5 * len(first.rows) * (1 + len(tables)))
    figure = figures.Figure(figsize=(width, 0.6 + ROW_INCHES * len(rows)), layout="constrained")
    agg.FigureCanvasAgg(figure)
    axes: Any = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    for axis, metric in zip(axes, rows, strict=True):
        draw_metric(axis, tables, metric)
    if len(tables) > 1:
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper left", ncols=4, frameon=False, fontsize="small")
    figure.savefig(path, dpi=150, format="png")


def draw_metric(axis: Any, tables: Mapping[str, Table], metric: str) -> None:
    """One metric: a group of boxes a structure, a box a model."""
    names = next(iter(tables.values())).rows
    size = GROUP / len(tables)
    undefined = dict.fromkeys(names, 0)
    for number, (model, table) in enumerate(tables.items()):
        colour = COLOURS[number % len(COLOURS)]
        for at, name in enumerate(names):
            values = list(table.by_case(name, metric).values())
            defined = [value for value in values if not math.isnan(value)]
            undefined[name] += len(values) - len(defined)
            if not defined:
                continue
            centre = at - GROUP / 2 + size * (number + 0.5)
            box = axis.boxplot(
                [defined],
                positions=[centre],
                widths=0.8 * size,
                showfliers=False,
                patch_artist=True,
                manage_ticks=False,
            )
            for patch in box["boxes"]:
                patch.set(facecolor=colour, alpha=0.25, edgecolor=colour)
            for line in (*box["whiskers"], *box["caps"]):
                line.set(color=colour)
            for line in box["medians"]:
                line.set(color=INK, linewidth=1.5)
            spread = [centre + 0.5 * size * (index * _STEP % 1 - 0.5) for index in range(len(defined))]
            axis.scatter(spread, defined, s=9, color=colour, linewidths=0, zorder=3)
        axis.scatter([], [], s=30, color=colour, label=model)
    labels = [f"{name}\n{undefined[name]} undefined" if undefined[name] else name for name in names]
    axis.set_xticks(range(len(names)), labels)
    axis.set_xlim(-0.5, len(names) - 0.5)
    axis.set_ylabel(EVERY_METRIC[metric].title)
    axis.spines[["top", "right"]].set_visible(False)
