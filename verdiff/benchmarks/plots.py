"""The medians of a record as bars."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from verdiff.benchmarks.record import Record

INK, QUIET, ACCENT = "#1b1f24", "#9aa4af", "#2563a8"


def plot(record: Record, path: Path) -> None:
    """Write a PNG: one bar a rival for the median, a line from the 10th to the 90th percentile, the baseline in grey.

    Raises:
        ImportError: matplotlib is not installed.
    """
    # The object interface, without pyplot: no global state and no display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    timings, speedups = record.outcome.timings, record.speedups()
    names = list(timings)
    longest = max(timing.percentile(90) for timing in timings.values())
    scale, unit = (1.0, "s") if longest >= 1 else (1e3, "ms")
    figure = Figure(figsize=(8, 0.8 + 0.55 * len(names)), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.add_subplot()
    for row, name in enumerate(names):
        timing = timings[name]
        median, low, high = (scale * timing.percentile(percent) for percent in (50, 10, 90))
        axes.barh(row, median, height=0.6, color=QUIET if name == record.outcome.baseline else ACCENT)
        axes.plot([low, high], [row, row], color=INK, linewidth=1.5)
        faster = f"  ({speedups[name].value:.2f} x)" if name in speedups else ""
        axes.annotate(
            f"{median:.3g} {unit}{faster}",
            xy=(max(median, high), row),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
        )
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.3 * scale * longest)
    axes.set_xlabel(f"median of {len(timings[names[0]].seconds)} repeats, {unit}; line: 10th to 90th percentile")
    axes.set_title(f"{record.case}: {record.machine.cpu}, {record.machine.cores} core(s)", fontsize="medium")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150, format="png")
