"""Tables of scores by case and structure, with summaries over cases and means over structures; CSV, JSON, Markdown."""

from __future__ import annotations

import csv
import io
import json
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from verdiff.evaluate.empty import METRICS, Presence
from verdiff.evaluate.metrics import CaseScores

MEAN = "mean"
"""The name of the row that averages the structures of a case."""


@dataclass(frozen=True)
class Summary:
    """One metric of one structure over the cases; undefined values are left out and counted.

    Attributes:
        mean: Mean over cases, NaN when every case is undefined.
        deviation: Standard deviation over cases (n - 1), 0 for one case.
        median: Median over cases.
        worst: The worst case's value.
        worst_case: The name of that case, ``""`` when every case is undefined.
        undefined: Cases left out.
    """

    mean: float
    deviation: float
    median: float
    worst: float
    worst_case: str
    undefined: int


@dataclass(frozen=True)
class Table:
    """The scores of several cases.

    Attributes:
        scores: Case -> structure -> scores, every case with the same structures.
        metrics: The metrics that were computed, names of :data:`verdiff.evaluate.empty.METRICS`.
        notes: What a reader must know, such as label ids in the files that were not scored.
    """

    scores: Mapping[str, Mapping[str, CaseScores]]
    metrics: tuple[str, ...] = tuple(METRICS)
    notes: tuple[str, ...] = field(default=())

    @property
    def structures(self) -> tuple[str, ...]:
        """Names of the scored structures, in the order of the labels."""
        return tuple(next(iter(self.scores.values()), {}))

    def value(self, case: str, structure: str, metric: str) -> float:
        """One value; for :data:`MEAN` the mean of the structures that are defined in this case (NaN if none is)."""
        if structure != MEAN:
            return float(getattr(self.scores[case][structure], metric))
        return _mean([self.value(case, name, metric) for name in self.structures])

    def by_case(self, structure: str, metric: str) -> dict[str, float]:
        """Case -> value of one structure, or of :data:`MEAN`."""
        return {case: self.value(case, structure, metric) for case in self.scores}

    def summary(self, structure: str, metric: str) -> Summary:
        """One metric over the cases, of one structure or of :data:`MEAN`."""
        values = self.by_case(structure, metric)
        defined = {case: value for case, value in values.items() if not math.isnan(value)}
        if not defined:
            return Summary(math.nan, math.nan, math.nan, math.nan, "", len(values))
        worst = (min if METRICS[metric].higher_is_better else max)(defined, key=lambda case: defined[case])
        numbers = list(defined.values())
        return Summary(
            mean=_mean(numbers),
            deviation=statistics.stdev(numbers) if len(numbers) > 1 else 0.0,
            median=statistics.median(numbers),
            worst=defined[worst],
            worst_case=worst,
            undefined=len(values) - len(defined),
        )

    def with_an_empty_mask(self) -> dict[str, dict[str, Presence]]:
        """Case -> structure -> presence, wherever one of the two masks (or both) lacks the structure."""
        found: dict[str, dict[str, Presence]] = {
            case: {name: score.presence for name, score in row.items() if score.presence is not Presence.BOTH}
            for case, row in self.scores.items()
        }
        return {case: row for case, row in found.items() if row}


def to_csv(table: Table) -> str:
    """A line a case and structure, full precision; an undefined value is an empty field."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case", "structure", *table.metrics, "reference_voxels", "predicted_voxels"])
    for case, row in table.scores.items():
        for name, score in row.items():
            values = [table.value(case, name, metric) for metric in table.metrics]
            cells = ["" if math.isnan(value) else repr(value) for value in values]
            writer.writerow([case, name, *cells, score.reference_voxels, score.predicted_voxels])
        means = [table.value(case, MEAN, metric) for metric in table.metrics]
        writer.writerow([case, MEAN, *("" if math.isnan(value) else repr(value) for value in means), "", ""])
    return text.getvalue()


def to_dict(table: Table) -> dict[str, Any]:
    """The table as plain JSON values (NaN becomes None): metrics, cases, summary, notes."""
    names = (*table.structures, MEAN)
    return {
        "metrics": {metric: {"title": METRICS[metric].title, "unit": METRICS[metric].unit} for metric in table.metrics},
        "cases": {
            case: {
                name: {metric: _plain(table.value(case, name, metric)) for metric in table.metrics} | _counts(row, name)
                for name in names
            }
            for case, row in table.scores.items()
        },
        "summary": {
            name: {
                metric: {key: _plain(value) for key, value in vars(table.summary(name, metric)).items()}
                for metric in table.metrics
            }
            for name in names
        },
        "notes": list(table.notes),
    }


def to_json(table: Table, **more: Any) -> str:
    """:func:`to_dict` as text, with further top-level entries such as labels and policy."""
    return json.dumps({**more, **to_dict(table)}, indent=2, allow_nan=False) + "\n"


def to_markdown(table: Table) -> str:
    """The summary first, then every case; Dice and IoU with four digits, distances with two."""
    names = (*table.structures, MEAN)
    lines = [f"Mean ± standard deviation over {len(table.scores)} case(s), worst case in brackets.", ""]
    lines += _heading("structure", [METRICS[metric].title for metric in table.metrics])
    for name in names:
        cells = []
        for metric in table.metrics:
            summary = table.summary(name, metric)
            mean, deviation, worst = (
                _format(value, metric) for value in (summary.mean, summary.deviation, summary.worst)
            )
            left_out = f", {summary.undefined} undefined" if summary.undefined else ""
            cells.append(f"{mean} ± {deviation} [{worst}{left_out}]")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    for metric in table.metrics:
        lines += ["", f"{METRICS[metric].title} by case:", "", *_heading("case", list(names))]
        for case in table.scores:
            cells = [_format(table.value(case, name, metric), metric) for name in names]
            lines.append(f"| {case} | " + " | ".join(cells) + " |")
    remarks = [
        f"{case}: {name} is {presence.value}."
        for case, row in table.with_an_empty_mask().items()
        for name, presence in row.items()
    ]
    remarks += table.notes
    return "\n".join([*lines, *([""] if remarks else []), *(f"- {remark}" for remark in remarks)]) + "\n"


def _heading(first: str, titles: list[str]) -> list[str]:
    return [f"| {first} | " + " | ".join(titles) + " |", "| --- |" + " ---: |" * len(titles)]


def _counts(row: Mapping[str, CaseScores], name: str) -> dict[str, Any]:
    if name == MEAN:
        return {}
    score = row[name]
    return {
        "reference_voxels": score.reference_voxels,
        "predicted_voxels": score.predicted_voxels,
        "presence": score.presence.value,
    }


def _format(value: float, metric: str) -> str:
    if math.isnan(value):
        return "undefined"
    return f"{value:.4f}" if METRICS[metric].higher_is_better else f"{value:.2f}"


def _mean(values: list[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return statistics.fmean(defined) if defined else math.nan


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
