"""What the study ``rivals`` found: a table of time beside Dice, and a picture of one against the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from studies.library.slicewise import Scores, mean_dice
from studies.pages.bars import Bar, draw_bars
from verdiff.benchmarks.timing import Ratio, Timing
from verdiff.markdown import markdown_table


@dataclass(frozen=True)
class Scored:
    """Dice of a rival, and the default's on the same slices.

    Attributes:
        dice: Patient -> structure -> Dice.
        default: Dice of the default setting, patient -> structure -> Dice.
        slices: How many slices they are over.
    """

    dice: Scores
    default: Scores
    slices: int


@dataclass(frozen=True)
class RivalRow:
    """One rival.

    Attributes:
        name: Its name.
        extrapolated: Whether its time is; its Dice never is.
        timing: Seconds a slice, one value a round.
        faster: How many times faster the default is.
        scored: Its Dice, or None where it computes with other weights.
    """

    name: str
    extrapolated: bool
    timing: Timing
    faster: Ratio
    scored: Scored | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        found: dict[str, Any] = {
            "name": self.name,
            "extrapolated": self.extrapolated,
            "milliseconds": 1000 * self.timing.median,
            "default_times_faster": asdict(self.faster),
        }
        if self.scored is not None:
            found |= {
                "slices": self.scored.slices,
                "mean": mean_dice(self.scored.dice),
                "default_mean_on_these": mean_dice(self.scored.default),
                "patients": self.scored.dice,
                "default_patients_on_these": self.scored.default,
            }
        return found


def markdown_page(rows: Sequence[RivalRow], really_s: Mapping[str, float]) -> str:
    """A row a rival, then what the recipes took where they were really run."""
    titles = ("rival", "ms a slice", "default is faster", "95 % interval", "mean Dice", "slices")
    table = []
    for row in rows:
        cells = [row.name, f"{1000 * row.timing.median:.0f}"]
        cells += [f"{row.faster.value:.2f}", f"{row.faster.low:.2f} to {row.faster.high:.2f}"]
        scored = row.scored
        if scored is not None:
            cells += [f"{mean_dice(scored.dice):.4f}", f"{scored.slices}", f"{mean_dice(scored.default):.4f}"]
        table.append(cells)
    return "\n".join(
        [
            *markdown_table((*titles, "default's Dice on these"), table),
            "",
            *(
                f"Really run for its Dice, {name} took {seconds:.1f} s a slice in verdiff's runtime.  "
                for name, seconds in really_s.items()
            ),
        ]
    )


def draw_rivals(rows: Sequence[RivalRow], path: Path) -> None:
    """Bars of the seconds a slice, Dice beside each; the first is verdiff's default."""
    bars = []
    for place, row in enumerate(rows):
        scored = row.scored
        beside = [] if scored is None else [f"Dice {mean_dice(scored.dice):.4f} ({scored.slices} slices)"]
        bars.append(Bar(row.name, row.timing, place == 0, row.extrapolated, beside))
    draw_bars(bars, path, what="a slice", size_in=9, room=100)
