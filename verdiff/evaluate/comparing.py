"""One model against another on the same cases: paired differences, intervals, Wilcoxon's test."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from verdiff.errors import DataError
from verdiff.evaluate.empty import EVERY_METRIC
from verdiff.evaluate.statistics import Comparison, compare, holm
from verdiff.evaluate.tables import Results, Table
from verdiff.markdown import markdown_table


@dataclass(frozen=True)
class Compared:
    """One metric of one structure, first model minus second.

    Attributes:
        comparison: Comparison over the cases where both are defined; None where there is no such case.
        adjusted_p: Wilcoxon's p after Holm's correction for every row of the same table.
        left_out: Cases where either is undefined.
    """

    comparison: Comparison | None
    adjusted_p: float
    left_out: tuple[str, ...]


Comparisons = dict[str, dict[str, Compared]]


def compare_tables(first: Table, second: Table) -> Comparisons:
    """Compare two models case by case: structure (and the mean) -> metric -> what was found.

    Metrics that only one of them has are left out; :func:`comparison_markdown` names them.

    Raises:
        DataError: The tables are not of the same cases and structures, or share no metric.
    """
    gaps = [
        f"{kind} {', '.join(sorted(only))} in the {which} alone"
        for kind, here, there in (
            ("cases", set(first.cases), set(second.cases)),
            ("structures", set(first.structures), set(second.structures)),
        )
        for which, only in (("first", here - there), ("second", there - here))
        if only
    ]
    metrics = [metric for metric in first.metrics if metric in second.metrics]
    if gaps or not metrics:
        raise DataError(
            "; ".join(gaps) or f"{', '.join(first.metrics)} against {', '.join(second.metrics)}",
            "the same cases and structures from both models, and a metric that both have",
            "score both models on the same cases with the same labels",
        )
    found: dict[tuple[str, str], tuple[Comparison | None, tuple[str, ...]]] = {}
    for name in first.rows:
        for metric in metrics:
            left, right = first.by_case(name, metric), second.by_case(name, metric)
            shared = [case for case in left if not math.isnan(left[case] + right[case])]
            pairs = [left[case] for case in shared], [right[case] for case in shared]
            found[name, metric] = compare(*pairs) if shared else None, tuple(left.keys() - set(shared))
    tested = {key: comparison.p_value for key, (comparison, _) in found.items() if comparison is not None}
    adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))
    comparisons: Comparisons = {name: {} for name in first.rows}
    for (name, metric), (comparison, left_out) in found.items():
        p_value = adjusted.get((name, metric), math.nan)
        comparisons[name][metric] = Compared(comparison, p_value, tuple(sorted(left_out)))
    return comparisons


def compare_results(first: Results, second: Results) -> dict[str, Comparisons]:
    """The tables that both sets of results have, compared: table -> structure -> metric -> what was found.

    Raises:
        DataError: See :func:`compare_tables`; or they were scored under two policies on empty masks.
    """
    if first.policy != second.policy:
        raise DataError(
            f"one scored with policy {first.policy!r}, the other with {second.policy!r}",
            "one policy on empty masks for both",
            "score one of them again with the other's --on-empty",
        )
    theirs = second.tables
    return {name: compare_tables(table, theirs[name]) for name, table in first.tables.items() if name in theirs}


def only_in_one(first: Results, second: Results) -> tuple[str, ...]:
    """Tables and metrics that one of two results lacks, as sentences: they cannot be compared, and a reader is told."""
    ours, theirs = first.tables, second.tables
    lines = [
        f"{name} were scored in one of the two alone and are not compared." for name in ours.keys() ^ theirs.keys()
    ]
    for name in ours.keys() & theirs.keys():
        lines += [
            f"{EVERY_METRIC[metric].title} was scored in one of the two alone and is not compared."
            for metric in EVERY_METRIC
            if (metric in ours[name].metrics) != (metric in theirs[name].metrics)
        ]
    return tuple(sorted(line[0].upper() + line[1:] for line in lines))


def comparison_markdown(
    comparisons: Mapping[str, Comparisons], other: str = "the other model", remarks: tuple[str, ...] = ()
) -> str:
    """The comparison as Markdown tables; empty for no comparison.

    Args:
        comparisons: What :func:`compare_results` gives.
        other: What the second model is called.
        remarks: What :func:`only_in_one` gives.
    """
    lines: list[str] = []
    for table in comparisons.values():
        lines += [
            "",
            f"Difference to {other} (95 % bootstrap interval over cases), cases better or worse, Wilcoxon's p, and the "
            "same after Holm's correction for the rows of this table:",
            "",
            *markdown_table(
                ("structure", "metric", "cases", "difference", "interval", "better / worse", "p", "p (Holm)"),
                [_cells(name, metric, one) for name, row in table.items() for metric, one in row.items()],
                words=("structure", "metric"),
            ),
        ]
        left_out = [
            f"- {name}, {EVERY_METRIC[metric].title}: undefined for either model in {', '.join(one.left_out)}."
            for name, row in table.items()
            for metric, one in row.items()
            if one.left_out
        ]
        lines += ["", *left_out] if left_out else []
    lines += ["", *(f"- {remark}" for remark in remarks)] if lines and remarks else []
    return "\n".join(lines) + "\n" if lines else ""


def comparison_dict(comparisons: Mapping[str, Comparisons]) -> dict[str, Any]:
    """The comparison as plain JSON values: table -> structure -> metric -> numbers, null where nothing was shared."""
    return {
        table: {name: {metric: _plain(one) for metric, one in row.items()} for name, row in rows.items()}
        for table, rows in comparisons.items()
    }


def _cells(name: str, metric: str, one: Compared) -> list[str]:
    title = EVERY_METRIC[metric].title
    if one.comparison is None:
        return [name, title, "0", *["undefined"] * 5]
    gap, comparison = one.comparison.difference, one.comparison
    sides = (comparison.better, comparison.worse)
    better, worse = sides if EVERY_METRIC[metric].higher_is_better else sides[::-1]
    interval = "of one case" if math.isnan(gap.low) else f"{gap.low:+.4f} to {gap.high:+.4f}"
    figures = [
        f"{gap.mean:+.4f}",
        interval,
        f"{better} / {worse}",
        f"{comparison.p_value:.3g}",
        f"{one.adjusted_p:.3g}",
    ]
    return [name, title, str(gap.cases), *figures]


def _plain(one: Compared) -> dict[str, Any] | None:
    if one.comparison is None:
        return None
    plain = {**asdict(one.comparison), "adjusted_p": one.adjusted_p, "left_out": list(one.left_out)}
    gap = plain["difference"]
    plain["difference"] = {
        key: None if isinstance(value, float) and math.isnan(value) else value for key, value in gap.items()
    }
    return plain
