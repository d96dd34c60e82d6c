"""What the frontier case found, as Markdown tables and as a picture of Dice against time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def markdown_page(result: Mapping[str, Any]) -> str:
    """The frontier, the checks against copying and Dice per patient, as Markdown tables."""
    names = list(result["structures"])
    lines = [
        _row("setting", *names, "mean Dice", "worst patient", "median ms a slice"),
        "|---" * (len(names) + 4) + "|",
    ]
    for row in result["settings"]:
        cells = [f"{row['dice'][name]:.4f}" for name in names]
        lines.append(
            _row(setting_name(row), *cells, f"{row['mean']:.4f}", f"{row['worst']:.4f}", f"{row['milliseconds']:.0f}")
        )
    lines += ["", _row("the denoiser is given", "Dice of that prior", "Dice of the result"), "|---|---|---|"]
    for row in result["copy_checks"]:
        lines.append(_row(row["given"], f"{row['dice_of_that_prior']:.4f}", f"{row['dice_of_the_result']:.4f}"))
    lines += ["", _row("patient", "setting", *names), "|---" * (len(names) + 2) + "|"]
    for row in result["settings"]:
        for patient, scores in row["patients"].items():
            lines.append(_row(patient, setting_name(row), *(f"{scores[name]:.4f}" for name in names)))
    return "\n".join(lines)


def draw_frontier(result: Mapping[str, Any], path: Path) -> None:
    """Mean Dice against the time a slice takes, a line for each number of samples."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    rows = result["settings"]
    for samples in sorted({row["samples"] for row in rows if row["steps"]}):
        line = [row for row in rows if row["samples"] == samples]
        axes.plot(
            [r["milliseconds"] for r in line], [r["mean"] for r in line], marker="o", label=f"{samples} sample(s)"
        )
        for row in line:
            axes.annotate(f"{row['steps']}", (row["milliseconds"], row["mean"]), (3, 4), textcoords="offset points")
    prior = next(row for row in rows if not row["steps"])
    axes.plot(prior["milliseconds"], prior["mean"], "k*", markersize=12, label="prior alone")
    axes.axhline(prior["mean"], color="k", linewidth=0.6, linestyle=":")
    axes.set(xscale="log", xlabel="median ms a slice (numbers: steps)", ylabel="mean Dice", title="Dice against time")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120, format="png")


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def setting_name(row: Mapping[str, Any]) -> str:
    return "prior alone" if not row["steps"] else f"{row['steps']} steps x {row['samples']}"
