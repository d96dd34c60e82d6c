"""What the study ``side-by-side`` found: a table of seconds a scan, memory and Dice, and bars of the seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from studies.library.slicewise import mean_dice
from studies.pages.bars import Bar, draw_bars
from verdiff.benchmarks.timing import Ratio, Timing
from verdiff.markdown import markdown_table


@dataclass(frozen=True)
class VolumeRow:
    """One entrant.

    Attributes:
        name: Its name.
        weights: What its networks have: trained weights or random ones.
        extrapolated: Whether its time is.
        timing: Seconds a scan, one value a round.
        slower: How many times the seconds of verdiff's default it takes; None without that.
        peak_bytes: The most memory its process held; None where the system does not tell.
        scores: Case -> structure -> Dice; empty where its masks say nothing.
    """

    name: str
    weights: str
    extrapolated: bool
    timing: Timing
    slower: Ratio | None
    peak_bytes: int | None
    scores: Mapping[str, Mapping[str, float]]

    @property
    def dice(self) -> float | None:
        """Mean over structures, then over scans."""
        return mean_dice({case: dict(row) for case, row in self.scores.items()}) if self.scores else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "name": self.name,
            "weights": self.weights,
            "extrapolated": self.extrapolated,
            "seconds_a_scan": self.timing.median,
            "times_the_default": None if self.slower is None else asdict(self.slower),
            "peak_bytes": self.peak_bytes,
            "mean_dice": self.dice,
            "dice": {case: dict(row) for case, row in self.scores.items()},
        }


def markdown_page(rows: Sequence[VolumeRow]) -> str:
    """A row an entrant."""
    titles = ("entrant", "weights", "seconds a scan", "times the default", "peak memory (GB)", "mean Dice")
    table = []
    for row in rows:
        seconds = f"{row.timing.median:.1f}" + (" (extrapolated)" if row.extrapolated else "")
        slower = "" if row.slower is None else f"{row.slower.value:.2f}"
        peak = "" if row.peak_bytes is None else f"{row.peak_bytes / 1e9:.2f}"
        table.append([row.name, row.weights, seconds, slower, peak, "" if row.dice is None else f"{row.dice:.4f}"])
    return "\n".join(markdown_table(titles, table, words=titles[:2]))


def draw_side_by_side(rows: Sequence[VolumeRow], path: Path) -> None:
    """Bars of the seconds a scan, memory and Dice beside each; an extrapolated run has no mask to score."""
    bars = []
    for row in rows:
        beside = [] if row.peak_bytes is None else [f"{row.peak_bytes / 1e9:.2f} GB"]
        if not row.extrapolated:
            beside.append(row.weights if row.dice is None else f"Dice {row.dice:.4f}")
        bars.append(Bar(row.name, row.timing, row.name.startswith("verdiff"), row.extrapolated, beside))
    draw_bars(bars, path, what="a scan, file to file", size_in=11, room=1000)
