"""What the study ``rivals`` found: a table of time beside Dice, and a picture of one against the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from studies.library.slicewise import Scores, mean_dice
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
    """Seconds a slice as bars on a logarithmic scale, Dice beside each; extrapolated ones are hatched."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 0.9 + 0.5 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    shortest, longest = (pick(row.timing.median for row in rows) for pick in (min, max))
    for place, row in enumerate(rows):
        seconds = row.timing.median
        axes.barh(
            place,
            seconds,
            height=0.6,
            color="#2563a8" if place == 0 else "#9aa4af",
            hatch="///" if row.extrapolated else None,
            edgecolor="white",
        )
        took = f"{seconds:.3g} s" if seconds < 100 else f"{seconds:.0f} s"
        dice = "" if row.scored is None else f", Dice {mean_dice(row.scored.dice):.4f} ({row.scored.slices} slices)"
        axes.annotate(took + dice, (seconds, place), (6, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(shortest / 10, longest * 100)
    axes.set_xlabel("median seconds a slice, logarithmic; hatched: extrapolated")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120, format="png")
