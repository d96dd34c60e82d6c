"""Tables of scores as Markdown: a page for one set of predictions, and the papers' table for several."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from verdiff.evaluate.empty import EVERY_METRIC
from verdiff.evaluate.tables import MEAN, Results, Table, deviation_of
from verdiff.markdown import markdown_table

_TITLES = {"instances": "Instances", "uncertainty": "Uncertainty"}
_FIRST = {"masks": "structure", "instances": "group", "uncertainty": "structure"}

PAPER_METRICS = ("dice", "iou")


def to_markdown(results: Results) -> str:
    """The summary of every table first, then volumes and every case; shares with four digits, lengths with two."""
    cases = results.masks.cases
    over = f"Mean ± standard deviation over {len(cases)} cases" if len(cases) > 1 else "One case"
    lines = [f"{over}, worst case in brackets; shares from 0 to 1, lengths in mm.", ""]
    for name, table in results.tables.items():
        if name in _TITLES:
            lines += ["", f"{_TITLES[name]}:", ""]
        lines += summary_lines(table, _FIRST[name])
    lines += volume_lines(results.masks)
    for table in results.tables.values():
        for metric in table.metrics:
            rows = [
                [case, *(format_value(table.value(case, name, metric), metric) for name in table.rows)]
                for case in table.cases
            ]
            title = f"{EVERY_METRIC[metric].title} by case:"
            lines += ["", title, "", *markdown_table(["case", *table.rows], rows)]
    remarks = list(dict.fromkeys(remark for table in results.tables.values() for remark in table.remarks()))
    return "\n".join([*lines, *([""] if remarks else []), *(f"- {remark}" for remark in remarks)]) + "\n"


def summary_lines(table: Table, first: str = "structure") -> list[str]:
    """A line a structure: mean ± standard deviation [worst case, undefined cases] of every metric."""
    rows = []
    for name in table.rows:
        cells = []
        for metric in table.metrics:
            summary = table.summary(name, metric)
            worst = format_value(summary.worst, metric)
            left_out = f", {summary.undefined} undefined" if summary.undefined else ""
            cells.append(f"{with_deviation(summary.mean, summary.deviation, metric)} [{worst}{left_out}]")
        rows.append([name, *cells])
    return markdown_table([first, *(EVERY_METRIC[metric].title for metric in table.metrics)], rows)


def papers_table(
    models: Mapping[str, Mapping[str, Table]], metrics: Sequence[str] = PAPER_METRICS, *, pooled: bool = False
) -> list[str]:
    """The papers' table: a line a model, mean ± standard deviation over cases, shares from 0 to 1.

    With one set of cases a model, the columns are its structures and their mean (SpineSegDiff's table). With several,
    data sets or folds, the columns are those sets, each with the mean over structures (Verdiff-Net's and SAFNet's
    Table 1).

    Args:
        models: Model -> set of cases -> its scores; every model has the same sets.
        metrics: The columns under each structure or set.
        pooled: A further column over the cases of all sets together, as for the folds of a cross-validation.
    """
    first = next(iter(models.values()))
    if len(first) == 1:
        table = next(iter(first.values()))
        columns = {
            name: {model: [(next(iter(sets.values())), name)] for model, sets in models.items()} for name in table.rows
        }
    else:
        columns = {name: {model: [(sets[name], MEAN)] for model, sets in models.items()} for name in first}
        if pooled:
            columns["all"] = {model: [(table, MEAN) for table in sets.values()] for model, sets in models.items()}
    titles = [f"{name} {EVERY_METRIC[metric].title}" for name in columns for metric in metrics]
    rows = []
    for model in models:
        cells = [
            _mean_and_deviation(
                [value for table, row in columns[name][model] for value in table.by_case(row, metric).values()], metric
            )
            for name in columns
            for metric in metrics
        ]
        rows.append([model, *cells])
    return markdown_table(["model", *titles], rows)


def format_value(value: float, metric: str) -> str:
    """A value of a metric as it stands in a table."""
    return "undefined" if math.isnan(value) else f"{value:.{EVERY_METRIC[metric].digits}f}"


def with_deviation(mean: float, deviation: float, metric: str) -> str:
    """``mean ± deviation``; the mean alone where one case leaves no deviation."""
    return format_value(mean, metric) + ("" if math.isnan(deviation) else f" ± {format_value(deviation, metric)}")


def _mean_and_deviation(values: Sequence[float], metric: str) -> str:
    """``mean ± deviation``; undefined values are left out, and counted behind."""
    defined = [value for value in values if not math.isnan(value)]
    if not defined:
        return "undefined"
    left_out = f" ({len(values) - len(defined)} undefined)" if len(defined) < len(values) else ""
    return with_deviation(statistics.fmean(defined), deviation_of(defined), metric) + left_out


def volume_lines(table: Table) -> list[str]:
    """Volumes of the structures with the signed error, which a mean of absolute errors hides; none for films."""
    rows = []
    for name in table.structures:
        reference, predicted = table.fact(name, "reference_ml"), table.fact(name, "predicted_ml")
        if not reference:
            continue
        gaps = [predicted[case] - reference[case] for case in reference]
        deviation = deviation_of(gaps)
        spread = "" if math.isnan(deviation) else f" ± {deviation:.2f}"
        means = (statistics.fmean(reference.values()), statistics.fmean(predicted.values()))
        rows.append([name, *(f"{mean:.2f}" for mean in means), f"{statistics.fmean(gaps):+.2f}{spread}"])
    titles = ("structure", "reference (ml)", "prediction (ml)", "difference (ml)")
    return ["", "Volumes:", "", *markdown_table(titles, rows)] if rows else []
