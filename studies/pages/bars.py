"""Seconds of several entrants as bars on a logarithmic scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from verdiff.benchmarks.timing import Timing

_OWN, _OTHER = "#2563a8", "#9aa4af"


@dataclass(frozen=True)
class Bar:
    """One entrant.

    Attributes:
        name: Its name.
        timing: What it took, in seconds.
        own: Whether it is verdiff.
        extrapolated: Whether its time is; its bar is hatched.
        beside: What is written behind the seconds.
    """

    name: str
    timing: Timing
    own: bool
    extrapolated: bool
    beside: Sequence[str] = ()


def draw_bars(bars: Sequence[Bar], path: Path, *, what: str, size_in: float, room: float) -> None:
    """Draw a PNG of the median seconds.

    Args:
        bars: The entrants, from the top.
        path: The PNG.
        what: What the seconds are of, such as ``a scan``.
        size_in: Width of the picture in inches.
        room: How many times the longest bar the axis goes on, for the words behind it.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(size_in, 0.9 + 0.5 * len(bars)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for place, bar in enumerate(bars):
        seconds = bar.timing.median
        axes.barh(
            place,
            seconds,
            height=0.6,
            color=_OWN if bar.own else _OTHER,
            hatch="///" if bar.extrapolated else None,
            edgecolor="white",
        )
        said = ", ".join([f"{seconds:.3g} s" if seconds < 100 else f"{seconds:.0f} s", *bar.beside])
        axes.annotate(said, (seconds, place), (6, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(bars)), [bar.name for bar in bars])
    axes.invert_yaxis()
    axes.set_xscale("log")
    medians = [bar.timing.median for bar in bars]
    axes.set_xlim(min(medians) / 10, max(medians) * room)
    axes.set_xlabel(f"median seconds {what}, logarithmic; hatched: extrapolated")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120, format="png")
