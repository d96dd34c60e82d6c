"""What the study ``frontier`` found: tables, and a picture of Dice against time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from verdiff.markdown import markdown_table


def markdown_page(result: Mapping[str, Any]) -> str:
    """The settings, the checks against copying and Dice per patient, as Markdown tables."""
    names = list(result["structures"])
    rows = []
    for row in result["settings"]:
        cells = [f"{row['dice'][name]:.4f}" for name in names]
        cells += [f"{row['mean']:.4f}", f"{row['worst']:.4f}", f"{np.mean(list(row['window_share'].values())):.0%}"]
        there = "fast" if row["fast"] else "yes" if row["worth_choosing"] else ""
        rows.append([row["setting"], *cells, f"{row['milliseconds']:.0f}", there])
    titles = ("setting", *names, "mean Dice", "worst patient", "pixels", "median ms a slice", "on the frontier")
    given = [
        (row["given"], f"{row['dice_of_that_prior']:.4f}", f"{row['dice_of_the_result']:.4f}")
        for row in result["copy_checks"]
    ]
    patients = [
        (patient, row["setting"], *(f"{scores[name]:.4f}" for name in names))
        for row in result["settings"]
        for patient, scores in row["patients"].items()
    ]
    return "\n".join(
        [
            *markdown_table(titles, rows, words=("setting", "on the frontier")),
            "",
            *markdown_table(("the denoiser is given", "Dice of that prior", "Dice of the result"), given),
            "",
            *markdown_table(("patient", "setting", *names), patients, words=("patient", "setting")),
        ]
    )


def draw_frontier(result: Mapping[str, Any], path: Path) -> None:
    """Mean Dice against the time a slice takes; those worth choosing joined by a line, a mark for each policy."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    rows = sorted(result["settings"], key=lambda row: row["milliseconds"])
    line = [row for row in rows if row["worth_choosing"]]
    axes.step(
        [r["milliseconds"] for r in line], [r["mean"] for r in line], where="post", color="0.6", zorder=0, linewidth=1
    )
    policies = list(dict.fromkeys(row["policy"] for row in rows))
    for policy, marker in zip(policies, "osD^vP*X", strict=False):
        of = [row for row in rows if row["policy"] == policy]
        axes.plot([r["milliseconds"] for r in of], [r["mean"] for r in of], marker, label=policy, markersize=7)
    for row in line:
        what = f"{row['steps']} x {row['samples']}" if row["steps"] else "prior"
        note = f"{what} (fast)" if row["fast"] else what
        axes.annotate(note, (row["milliseconds"], row["mean"]), (5, -11), textcoords="offset points", fontsize=8)
    axes.set(xscale="log", xlabel="median ms a slice of the whole call", ylabel="mean Dice", title="Dice against time")
    axes.grid(alpha=0.3, which="both")
    axes.legend(title="policy")
    figure.savefig(path, dpi=120, format="png")
