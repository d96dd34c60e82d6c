"""What ``verdiff evaluate`` prints: a short table of what matters, and where all of it stands."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from verdiff.evaluate.comparing import Comparisons
from verdiff.evaluate.decision import decisions
from verdiff.evaluate.empty import EVERY_METRIC
from verdiff.evaluate.markdown import format_value, with_deviation
from verdiff.evaluate.tables import MEAN, Results, Table
from verdiff.evaluate.temperature import temperatures

# The columns of each table, of those that were scored; the files have the others.
SHOWN = {
    "masks": ("dice", "hd95_mm", "surface_dice_1mm", "volume_error"),
    "instances": ("identification_rate", "panoptic_quality", "centroid_distance_mm"),
    "uncertainty": ("ece", "error_auroc"),
}
FIRST = {"masks": "structure", "instances": "instances", "uncertainty": "uncertainty"}
MOST_ROWS, MOST_REMARKS = 12, 3


def summary(
    results: Results, comparisons: Mapping[str, Comparisons], other: str | None, remarks: Sequence[str]
) -> tuple[str, ...]:
    """The lines to print.

    Args:
        results: The scores.
        comparisons: Comparisons with the other model, by table; empty without one.
        other: What the other model is called.
        remarks: All there are; the first few are printed.
    """
    cases = results.masks.cases
    count = f"{len(cases)} case{'s' * (len(cases) != 1)}"
    deviation = ", mean ± standard deviation" if len(cases) > 1 else ""
    lines = [f"{count}{deviation}; shares from 0 to 1, distances in mm", ""]
    for name, table in results.tables.items():
        lines += [*_table(table, FIRST[name], SHOWN[name]), ""]
    if results.uncertainty is not None:
        lines += decided(results.uncertainty)
        lines += scaled(results.uncertainty)
    lines += _worst(results.masks)
    if other is not None and "masks" in comparisons:
        lines += [f"difference to {other}:", *differences(comparisons["masks"], ("dice",))]
    lines += [f"note: {remark}" for remark in remarks[:MOST_REMARKS]]
    if len(remarks) > MOST_REMARKS:
        lines.append(f"note: {len(remarks) - MOST_REMARKS} more remarks are in the files")
    return tuple(lines)


def _table(table: Table, first: str, shown: Sequence[str]) -> list[str]:
    metrics = [metric for metric in shown if metric in table.metrics]
    left_out = max(0, len(table.rows) - MOST_ROWS)
    # The mean is the last row, and is shown however many structures there are.
    rows = [*table.rows[: MOST_ROWS - 1], table.rows[-1]] if left_out else list(table.rows)
    cells = [[first, *(EVERY_METRIC[metric].title for metric in metrics)]]
    for name in rows:
        found = [table.summary(name, metric) for metric in metrics]
        cells.append(
            [name, *(with_deviation(s.mean, s.deviation, metric) for s, metric in zip(found, metrics, strict=True))]
        )
    # A Markdown table, as in the files: what scripts look for in either is the same.
    cells.insert(1, ["---", *["---:"] * len(metrics)])
    lines = [f"| {' | '.join(row)} |" for row in cells]
    return [*lines, *([f"... and {left_out} more, in the files"] if left_out else [])]


def decided(table: Table) -> Iterator[str]:
    """A line a structure for which another probability than one half would give a better Dice."""
    for name, best in decisions(table).items():
        if best.dice > best.dice_half:
            yield (
                f"{name} is best counted from a probability of {best.probability:.2f} on: Dice {best.dice:.4f}, "
                f"{best.dice_half:.4f} from one half on ({best.cases} cases; export --decide)"
            )


def scaled(table: Table) -> Iterator[str]:
    """A line a structure whose probabilities a temperature would bring closer to what comes true."""
    for name, found in temperatures(table).items():
        if found.error_scaled < found.error:
            yield (
                f"{name} has a calibration error of {found.error_scaled:.4f} with a temperature of {found.value:.2f}, "
                f"{found.error:.4f} as it is ({found.cases} cases, each with that of the others)"
            )


def _worst(table: Table) -> Iterator[str]:
    """The case that a reader should look at first."""
    if len(table.cases) < 2 or "dice" not in table.metrics:
        return
    found = table.summary(MEAN if table.averaged else table.structures[0], "dice")
    if not math.isnan(found.worst):
        yield f"worst case: {found.worst_case}, Dice {format_value(found.worst, 'dice')}"


def differences(found: Comparisons, metrics: Sequence[str]) -> Iterator[str]:
    """A line a structure and metric: the mean difference, on how many cases the first is better, Holm's p."""
    for name, row in found.items():
        for metric in metrics:
            one = row.get(metric)
            if one is None or one.comparison is None:
                continue
            gap, sides = one.comparison.difference, (one.comparison.better, one.comparison.worse)
            better, worse = sides if EVERY_METRIC[metric].higher_is_better else sides[::-1]
            yield (
                f"  {name} {EVERY_METRIC[metric].title} {gap.mean:+.4f}: better in {better} and worse in {worse} of "
                f"{gap.cases}, p {one.adjusted_p:.2g} after Holm's correction"
            )
