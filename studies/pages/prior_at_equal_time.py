"""What the study ``prior-at-equal-time`` found: tables, and the differences patient by patient as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from verdiff.markdown import markdown_table

TITLES = (
    *("setting", "ms a slice", "mean Dice"),
    *("its prior with", "views", "ms a slice", "mean Dice"),
    *("difference", "95 % interval", "p", "patients ahead"),
)
ACCENT, QUIET = "#2563a8", "#9aa4af"


def markdown_page(result: Mapping[str, Any]) -> str:
    """Each setting against the prior in as long, then Dice per patient, then the views."""
    rows = []
    for row in result["settings"]:
        for each in row["against"]:
            difference = each["difference"]
            took = f"{row['prior_milliseconds']:.0f}" if each["views"] == row["views_that_fill_it"] else "less"
            compared = (
                f"{difference['mean']:+.4f}",
                f"{difference['low']:+.4f} to {difference['high']:+.4f}",
                f"{each['p_value']:.3f}",
                f"{each['better']} of {difference['cases']}",
            )
            ours = (row["name"], f"{row['milliseconds']:.0f}", f"{row['mean']:.4f}")
            rows.append((*ours, each["prior"], str(each["views"]), took, f"{each['mean']:.4f}", *compared))
    prior = result["prior"]
    lines = markdown_table(TITLES, rows, words=("setting", "its prior with"))
    lines += ["", f"The prior alone: {prior['mean']:.4f} in {prior['milliseconds']:.0f} ms a slice.", ""]
    columns = {"prior alone": prior["patients"]}
    for row in result["settings"]:
        columns[f"prior, {row['views_that_fill_it']} views"] = row["against"][0]["patients"]
        columns[row["name"]] = row["patients"]
    means = [
        (patient, *(f"{np.mean(list(scores[patient].values())):.4f}" for scores in columns.values()))
        for patient in prior["patients"]
    ]
    lines += markdown_table(("patient", *columns), means)
    for series in result["views"]:
        joined = "; ".join(
            f"{name} ({dice:.4f})" for name, dice in zip(series["order"], series["mean_dice_there"], strict=True)
        )
        lines += ["", f"Views chosen on {series['chosen_on']}, with the mean Dice there of all so far: {joined}."]
    return "\n".join(lines)


def draw_equal_time(result: Mapping[str, Any], path: Path) -> None:
    """A dot a patient: Dice of each setting minus that of the prior in as long; the mean with its interval."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    pairs = [(row, each) for row in result["settings"] for each in row["against"]]
    figure = Figure(figsize=(10, 1.2 + 0.45 * len(pairs)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for place, (row, each) in enumerate(pairs):
        differences = [
            np.mean(list(row["patients"][patient].values())) - np.mean(list(scores.values()))
            for patient, scores in each["patients"].items()
        ]
        axes.scatter(differences, [place] * len(differences), color=QUIET, s=18, zorder=2)
        difference = each["difference"]
        axes.plot([difference["low"], difference["high"]], [place, place], color=ACCENT, linewidth=2, zorder=3)
        axes.plot(difference["mean"], place, "D", color=ACCENT, markersize=6, zorder=4)
    axes.axvline(0, color="k", linewidth=0.8)
    axes.set_yticks(
        range(len(pairs)), [f"{row['name']}: {each['views']} {each['prior']}" for row, each in pairs], fontsize="small"
    )
    axes.invert_yaxis()
    axes.set_xlabel("Dice ahead of the prior in as long: a dot a patient, the mean with its 95 % interval")
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=120, format="png")
