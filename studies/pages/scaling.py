"""What the study ``scaling`` found: a table, and a picture of time and memory against size."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from verdiff.markdown import markdown_table

TITLES = (
    "scan",
    "slices",
    "pixels a slice",
    "time",
    "s a megapixel",
    "beside the networks",
    "GFLOP",
    "GFLOP/s",
    "peak",
)


def markdown_page(results: Mapping[str, Any]) -> str:
    """One row a size; pixels are the model's, padding included."""
    rows = []
    for name, row in results["sizes"].items():
        cells = [name, str(row["slices"]), str(row["pixels_a_slice"]), f"{row['seconds']:.2f} s"]
        cells += [f"{row['seconds_a_megapixel']:.2f}", f"{row['outside_share']:.0%}"]
        cells += [_or_unknown(row["gflop"], "{:.0f}"), _or_unknown(row["gflops"], "{:.0f}")]
        rows.append([*cells, _or_unknown(row["peak_gb"], "{:.2f} GB")])
    lines = [
        *markdown_table(TITLES, rows),
        "",
        f"The machine reaches {results['limit_gflops']:.0f} GFLOP/s in a large matrix product.",
    ]
    return "\n".join(lines)


def draw_scaling(results: Mapping[str, Any], path: Path) -> None:
    """Time and peak memory against voxels on logarithmic axes, with what would be in proportion to the largest scan."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = sorted(results["sizes"].values(), key=lambda row: row["voxels"])
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, key, label in zip(
        figure.subplots(1, 2), ("seconds", "peak_gb"), ("seconds, file to file", "peak GB of the process"), strict=True
    ):
        known = [row for row in rows if row[key] is not None]
        voxels = np.array([row["voxels"] for row in known], float)
        axes.plot(voxels, [row[key] for row in known], "o", color="#2563a8")
        if known:
            axes.plot(voxels, known[-1][key] * voxels / voxels[-1], color="0.7", zorder=0, label="in proportion")
        axes.set(xscale="log", yscale="log", xlabel="voxels of the scan", ylabel=label)
        axes.grid(alpha=0.3, which="both")
        axes.legend()
    figure.savefig(path, dpi=150, format="png")


def _or_unknown(value: float | None, form: str) -> str:
    return "unknown" if value is None else form.format(value)
