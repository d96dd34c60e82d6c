"""What the study ``samplers`` found: a table, and a picture of Dice against denoiser passes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from verdiff.markdown import markdown_table

COLOURS = ("#1b1f24", "#2563a8", "#3a8f5c", "#c07a1e", "#b03a48")
MARKERS = ("o", "s", "^", "D")


def markdown_page(result: Mapping[str, Any]) -> str:
    """A row a setting, and the best one by passes."""
    names = list(result["structures"])
    table = []
    rows = sorted(result["settings"], key=lambda row: (row["passes"], -(row["start"] or 10**6)))
    for row in rows:
        difference = row["difference"]
        table.append(
            (
                str(row["passes"]),
                start_name(row["start"]),
                " = ".join(row["samplers"]),
                *(f"{row['dice'][name]:.4f}" for name in names),
                f"{row['mean']:.4f}",
                f"{difference['mean']:+.4f}",
                f"{difference['low']:+.4f} to {difference['high']:+.4f}",
                f"{difference['p_value']:.3f}",
                f"{row['milliseconds']:.0f}",
            )
        )
    titles = ("passes", "start", "sampler", *names, "mean Dice", "difference", "95 % interval", "p", "ms a slice")
    lines = markdown_table(titles, table, words=("passes", "start", "sampler"))
    lines += ["", f"The prior alone: {result['prior']:.4f}."]
    for passes in sorted({row["passes"] for row in rows}):
        best = max((row for row in rows if row["passes"] == passes), key=lambda row: float(row["mean"]))
        what = f"{' = '.join(best['samplers'])} from {start_name(best['start'])}"
        lines.append(f"Best with {passes}: {what}, {best['mean']:.4f}.  ")
    return "\n".join(lines)


def draw_samplers(result: Mapping[str, Any], path: Path) -> None:
    """Mean Dice against denoiser passes: a colour a start, a marker a sampler; the prior as a dotted line."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    rows = result["settings"]
    starts = list(dict.fromkeys(row["start"] for row in rows))
    samplers = list(dict.fromkeys(name for row in rows for name in row["samplers"]))
    for colour, start in zip(COLOURS, starts, strict=False):
        for marker, sampler in zip(MARKERS, samplers, strict=False):
            line = [row for row in rows if row["start"] == start and sampler in row["samplers"]]
            axes.plot(
                [row["passes"] for row in line],
                [row["mean"] for row in line],
                color=colour,
                marker=marker,
                linewidth=1,
                label=f"{sampler}, from {start_name(start)}",
            )
    axes.axhline(result["prior"], color="k", linewidth=0.8, linestyle=":", label="prior alone")
    passes = sorted({row["passes"] for row in rows})
    axes.set_xscale("log", base=2)
    axes.set_xticks(passes, [str(count) for count in passes])
    axes.set(xlabel="denoiser passes a slice, one sample", ylabel="mean Dice", title="Samplers at equal passes")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="x-small", loc="center left", bbox_to_anchor=(1.01, 0.5))
    figure.savefig(path, dpi=120, format="png")


def start_name(start: int | None) -> str:
    """``noise``, or the timestep of a warm start."""
    return "noise" if start is None else f"the prior at {start}"
