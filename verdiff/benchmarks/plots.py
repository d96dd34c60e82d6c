"""A record as a picture: every repeat of every rival with its percentiles, and what a repeat spends its time on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from verdiff.benchmarks.record import Record
from verdiff.benchmarks.timing import Timing

INK, QUIET, ACCENT = "#1b1f24", "#9aa4af", "#2563a8"
STAGE_COLOURS = (
    "#2563a8", "#d97706", "#0f766e", "#b91c1c", "#7c3aed", "#65a30d", "#0891b2", "#be185d", "#854d0e", "#475569",
)  # fmt: skip
ROW_INCHES = 0.62
# Where a label would cover more than its bar.
SMALLEST_LABELLED = 0.06


def plot(record: Record, path: Path) -> None:
    """Write a PNG: the latency distribution of each rival above, the medians of its stages below where it has any.

    A dot is a repeat, in the order they were measured from top to bottom of its row, so that a drift is seen; the lines
    are p50, p90 and p99, and the bar is where p50 lies with 99 % confidence from either side.

    Raises:
        ImportError: matplotlib is not installed.
    """
    # The object interface, without pyplot: no global state and no display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    outcome = record.outcome
    rows = [len(outcome.timings), *([len(outcome.stages)] if outcome.stages else [])]
    heights = [1.0 + ROW_INCHES * count for count in rows]
    figure = Figure(figsize=(9, 0.5 + sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots(len(rows), 1, height_ratios=heights, squeeze=False)[:, 0]
    title = f"{record.case}: {record.machine.cpu}, {record.machine.cores} core(s)"
    figure.suptitle(title + (" (in doubt: see the warnings)" if record.warnings() else ""), fontsize="medium")
    draw_distributions(axes[0], outcome.timings, outcome.baseline)
    if outcome.stages:
        draw_stages(axes[1], outcome.stages)
    figure.savefig(path, dpi=150, format="png")


def draw_distributions(axes: Any, timings: Mapping[str, Timing], baseline: str | None) -> None:
    """Every repeat as a dot, p50, p90 and p99 as lines; the baseline in grey."""
    scale, unit = _unit(max(max(timing.seconds) for timing in timings.values()))
    for row, (name, timing) in enumerate(timings.items()):
        colour = QUIET if name == baseline else ACCENT
        count = len(timing.seconds)
        low, high = (timing.median if bound is None else bound for bound in timing.bounds(50))
        axes.barh(row, scale * (high - low), left=scale * low, height=0.7, color=colour, alpha=0.25)
        heights = row + np.linspace(-0.28, 0.28, count) if count > 1 else [row]
        axes.scatter(scale * np.asarray(timing.seconds), heights, s=9, color=colour, linewidths=0)
        for percent, half in ((50, 0.38), (90, 0.3), (99, 0.22)):
            value = scale * timing.percentile(percent)
            axes.plot([value, value], [row - half, row + half], color=INK, linewidth=2 if percent == 50 else 1)
        axes.annotate(
            f"{scale * timing.median:.3g} {unit}",
            xy=(scale * max(timing.seconds), row),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
        )
    axes.set_yticks(range(len(timings)), list(timings))
    axes.invert_yaxis()
    longest = scale * max(max(timing.seconds) for timing in timings.values())
    axes.set_xlim(0, 1.15 * longest)
    axes.set_xlabel(f"{unit}; a dot a repeat, first at the top; lines p50 (thick), p90, p99")
    axes.spines[["top", "right"]].set_visible(False)


def draw_stages(axes: Any, stages: Mapping[str, Mapping[str, Timing]]) -> None:
    """The medians of each rival's stages end to end, in the order they are run."""
    # The rival with most stages first, so that one which others leave out stands where it is run.
    names = list(dict.fromkeys(name for each in sorted(stages.values(), key=len, reverse=True) for name in each))
    totals = {rival: sum(timing.median for timing in each.values()) for rival, each in stages.items()}
    scale, unit = _unit(max(totals.values()))
    for number, name in enumerate(names):
        starts = [sum(each[n].median for n in names[:number] if n in each) for each in stages.values()]
        widths = [each[name].median if name in each else 0.0 for each in stages.values()]
        colour = STAGE_COLOURS[number % len(STAGE_COLOURS)]
        axes.barh(range(len(stages)), scale * np.array(widths), left=scale * np.array(starts), color=colour, label=name)
        for row, (start, width) in enumerate(zip(starts, widths, strict=True)):
            if width > SMALLEST_LABELLED * max(totals.values()):
                said, middle = f"{scale * width:.3g}", scale * (start + width / 2)
                axes.text(middle, row, said, color="white", ha="center", va="center", fontsize="small")
    axes.set_yticks(range(len(stages)), list(stages))
    axes.invert_yaxis()
    axes.set_xlabel(f"{unit}; medians of the stages")
    axes.legend(ncols=min(len(names), 6), fontsize="small", frameon=False, loc="lower left", bbox_to_anchor=(0, 1))
    axes.spines[["top", "right"]].set_visible(False)


def _unit(longest: float) -> tuple[float, str]:
    return (1.0, "s") if longest >= 1 else (1e3, "ms")
