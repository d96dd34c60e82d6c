"""Several earlier evaluations side by side: the papers' table, the first model against each other one, box plots."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from verdiff.errors import DataError
from verdiff.evaluate.comparing import Comparisons, compare_results, comparison_dict, comparison_markdown, only_in_one
from verdiff.evaluate.empty import EVERY_METRIC
from verdiff.evaluate.markdown import PAPER_METRICS, papers_table
from verdiff.evaluate.metrics import optional_library
from verdiff.evaluate.page import boxes_png, compared_page
from verdiff.evaluate.report import LOOK, PLOT, Targets
from verdiff.evaluate.stored import STORED, read_results
from verdiff.evaluate.tables import Results, Table
from verdiff.evaluate.terminal import differences

PAGE, RECORD = "comparison.md", "comparison.json"

Models = dict[str, dict[str, Results]]


@dataclass(frozen=True)
class SideBySide:
    """What ``verdiff compare`` found.

    Attributes:
        models: Model -> set of cases (a data set or a fold; one set without a name) -> its results.
        comparisons: Other model -> set of cases -> table -> structure -> metric: the first model minus the other.
        markdown: The whole page, as in ``comparison.md``.
        written: The files that were written.
        summary: The lines to print: the papers' table, and the differences in its metrics.
    """

    models: Models
    comparisons: Mapping[str, Mapping[str, Mapping[str, Comparisons]]]
    markdown: str
    written: tuple[Path, ...]
    summary: tuple[str, ...] = ()


def run(
    sources: Sequence[str],
    output: str | Path | None = None,
    *,
    metrics: Sequence[str] = PAPER_METRICS,
    plots: bool = False,
    page: Path | None = None,
    overwrite: bool = False,
) -> SideBySide:
    """Set earlier evaluations side by side.

    Args:
        sources: ``MODEL=PATH`` of a ``scores.json`` or its folder, ``MODEL/SET=PATH`` where a model was scored on
            several data sets or folds, or the path alone, which names the model by its folder. The first model is the
            one that is compared with each other.
        output: A folder for ``comparison.md`` and ``comparison.json``; None: no file.
        metrics: The columns of the papers' table.
        plots: Draw ``boxes.png`` into the folder.
        page: An HTML page to look at; in the folder, above it or below it.
        overwrite: Whether files that are not verdiff's may be replaced.

    Raises:
        DataError: A source is no evaluation or named twice, a model lacks a set of cases, cases or structures differ,
            or a metric is unknown or was not scored.
        OutputError: The files cannot be written, or a place is taken by a file that is not verdiff's.
        BackendError: Plots are asked for, or a p-value is, and the extra ``[evaluate]`` is not installed.
    """
    if plots:
        optional_library("matplotlib.figure")
    models = read_models(sources)
    read = {source: Path(source.partition("=")[2] or source) for source in sources}
    names = (PAGE, RECORD, *([PLOT] if plots else []))
    targets = Targets.in_folder(output, names, page=page, inputs=read, overwrite=overwrite)
    _check_metrics(models, metrics)
    first, *others = models
    pooled = _poolable(models)
    sets = {model: {"all": _pooled(parts)} for model, parts in models.items()} if pooled else models
    plotted = _plotted(sets) if plots else {}
    comparisons = {
        other: {name: compare_results(results, sets[other][name]) for name, results in sets[first].items()}
        for other in others
    }
    masks = {model: {name: results.masks for name, results in parts.items()} for model, parts in models.items()}
    table = papers_table(masks, metrics, pooled=pooled)
    lines, short = list(table), list(table)
    remarks: list[str] = []
    for other, parts in comparisons.items():
        for name, found in parts.items():
            heading = ["", f"{first} minus {other}" + (f", {name}:" if name else ":")]
            lines += heading
            short += [*heading, *differences(found["masks"], metrics)]
            lacking = only_in_one(sets[first][name], sets[other][name])
            remarks += lacking
            lines += comparison_markdown(found, other, lacking).splitlines()
    markdown = "\n".join(lines) + "\n"
    record = {
        "models": list(models),
        "sets": [name for name in models[first] if name],
        "comparison": {
            other: {name: comparison_dict(found) for name, found in parts.items()}
            for other, parts in comparisons.items()
        },
    }
    written = targets.write(
        {
            PAGE: _as_text(markdown),
            RECORD: _as_text(json.dumps(record, indent=2, allow_nan=False) + "\n"),
            PLOT: partial(_draw, plotted, metrics),
            LOOK: lambda path: path.write_text(_look(sets, table, comparisons, remarks, metrics), "utf-8"),
        }
    )
    return SideBySide(models, comparisons, markdown, written, tuple(short))


def _look(
    sets: Models,
    table: Sequence[str],
    comparisons: Mapping[str, Mapping[str, Mapping[str, Comparisons]]],
    remarks: Sequence[str],
    metrics: Sequence[str],
) -> str:
    """The page to look at; sets of cases with other structures have no boxes."""
    masks = {model: {name: results.masks for name, results in parts.items()} for model, parts in sets.items()}
    of_models = [
        f"{model}: {remark}" for model, parts in masks.items() for one in parts.values() for remark in one.remarks()
    ]
    alike = len({one.rows for parts in masks.values() for one in parts.values()}) == 1
    png = boxes_png(_plotted(sets), tuple(metrics)) if alike else None
    return compared_page(masks, table, comparisons, remarks=[*remarks, *of_models], png=png)


def names_of(sources: Sequence[str]) -> dict[tuple[str, str], Path]:
    """Model and set of cases -> the file or folder, of every source; see :func:`run`.

    Raises:
        DataError: No source, or one that is named twice or not at all.
    """
    found: dict[tuple[str, str], Path] = {}
    for source in sources:
        named, separator, where = source.partition("=")
        path = Path(where if separator else source)
        if not separator:
            named = (path.parent if path.suffix == ".json" else path).absolute().name
        model, _, part = named.partition("/")
        if not model or (model, part) in found:
            raise DataError(
                f"{source!r}, which names {named!r} {'twice' if model else 'nothing'}",
                "MODEL=PATH, or MODEL/SET=PATH, each name once",
                f"name every {STORED} differently",
            )
        found[model, part] = path
    if not found:
        raise DataError("no evaluation", f"one {STORED} or more", f"give MODEL=PATH of every {STORED}")
    return found


def read_models(sources: Sequence[str]) -> Models:
    """The results that sources name, see :func:`run`.

    Raises:
        DataError: No source, one that is no evaluation or named twice, or a model that lacks a set of cases.
    """
    models: Models = {}
    for (model, part), path in names_of(sources).items():
        models.setdefault(model, {})[part] = read_results(path)
    wanted = list(next(iter(models.values())))
    for model, parts in models.items():
        if set(parts) != set(wanted):
            raise DataError(
                f"{model} on {_listed(parts)}, and {next(iter(models))} on {_listed(wanted)}",
                "every model scored on the same sets of cases",
                "score what is missing, or leave it out of the table",
            )
    return models


def _check_metrics(models: Models, metrics: Sequence[str]) -> None:
    scored = [results.masks.metrics for parts in models.values() for results in parts.values()]
    lacking = [metric for metric in metrics if any(metric not in names for names in scored)]
    if lacking or not metrics:
        raise DataError(
            f"no {', '.join(lacking) or 'metric'} in every evaluation",
            "metrics that all were scored with: " + ", ".join(m for m in EVERY_METRIC if all(m in s for s in scored)),
            "choose among them, or score again",
        )


def _poolable(models: Models) -> bool:
    """Whether the sets of cases may be taken together: scored alike everywhere, and no case in two sets."""
    for parts in models.values():
        cases = [case for results in parts.values() for case in results.masks.cases]
        if len(parts) < 2 or len(set(cases)) < len(cases) or len({_how(results) for results in parts.values()}) > 1:
            return False
    return True


def _how(results: Results) -> tuple[Any, ...]:
    """What was scored: the policy, tables, their rows and metrics."""
    return results.policy, *((name, table.rows, table.metrics) for name, table in results.tables.items())


def _pooled(parts: Mapping[str, Results]) -> Results:
    """The cases of several sets as one."""
    tables = [results.tables for results in parts.values()]
    policy = next(iter(parts.values())).policy
    joined = {name: _joined([each[name] for each in tables]) for name in tables[0]}
    return Results(joined["masks"], joined.get("instances"), joined.get("uncertainty"), policy=policy)


def _joined(tables: Sequence[Table]) -> Table:
    values = {case: row for table in tables for case, row in table.values.items()}
    facts = {case: row for table in tables for case, row in table.facts.items()}
    notes = tuple(note for table in tables for note in table.notes)
    return Table(values, tables[0].metrics, facts, notes, tables[0].averaged)


def _plotted(sets: Models) -> dict[str, Table]:
    """What the boxes of each colour are of: a model, or a model on one set of cases."""
    tables = {
        f"{model} {part}" if len(parts) > 1 else model: results.masks
        for model, parts in sets.items()
        for part, results in parts.items()
    }
    if len({table.rows for table in tables.values()}) > 1:
        raise DataError(
            "box plots of sets of cases with different structures", "the same structures", "plot the sets one by one"
        )
    return tables


def _as_text(content: str) -> Callable[[Path], Any]:
    return lambda path: path.write_text(content, encoding="utf-8")


def _draw(tables: Mapping[str, Table], metrics: Sequence[str], path: Path) -> None:
    from verdiff.evaluate.plots import box_plots

    box_plots(tables, path, tuple(metrics))


def _listed(parts: Sequence[str] | Mapping[str, Any]) -> str:
    return ", ".join(name or "one set without a name" for name in parts)
