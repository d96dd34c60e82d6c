"""Tables of scores as files: CSV for spreadsheets, JSON that can be read again and compared with."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from verdiff.errors import DataError
from verdiff.evaluate.empty import EVERY_METRIC
from verdiff.evaluate.tables import MEAN, Results, Table

STORED = "scores.json"


def to_csv(table: Table) -> str:
    """A line a case and structure, full precision; an undefined value is an empty field."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    facts = list(
        dict.fromkeys(
            name
            for row in table.facts.values()
            for one in row.values()
            for name, value in one.items()
            if value is None or isinstance(value, int | float | str)
        )
    )
    writer.writerow(["case", "structure", *table.metrics, *facts])
    for case in table.cases:
        for name in table.rows:
            values = [table.value(case, name, metric) for metric in table.metrics]
            beside = table.facts.get(case, {}).get(name, {})
            cells = ["" if math.isnan(value) else repr(value) for value in values]
            writer.writerow([case, name, *cells, *(beside.get(fact, "") for fact in facts)])
    return text.getvalue()


def to_dict(table: Table) -> dict[str, Any]:
    """The table as plain JSON values (NaN becomes None): metrics, cases, summary, notes."""
    return {
        "metrics": {
            metric: {"title": EVERY_METRIC[metric].title, "unit": EVERY_METRIC[metric].unit} for metric in table.metrics
        },
        "averaged": table.averaged,
        "cases": {
            case: {
                name: {metric: _plain(table.value(case, name, metric)) for metric in table.metrics}
                | dict(table.facts.get(case, {}).get(name, {}))
                for name in table.rows
            }
            for case in table.cases
        },
        "summary": {
            name: {
                metric: {key: _plain(value) for key, value in vars(table.summary(name, metric)).items()}
                for metric in table.metrics
            }
            for name in table.rows
        },
        "notes": list(table.notes),
    }


def to_json(results: Results, **more: Any) -> str:
    """The results as text: the masks' table on top, the others under their names, and entries such as the labels."""
    others = {name: to_dict(table) for name, table in results.tables.items() if name != "masks"}
    about = {"made_by": {case: dict(one) for case, one in results.about.items()}} if results.about else {}
    more["policy"] = results.policy
    return json.dumps({**more, **about, **to_dict(results.masks), **others}, indent=2, allow_nan=False) + "\n"


def read_results(path: Path) -> Results:
    """Read back what :func:`to_json` wrote.

    Args:
        path: A ``scores.json``, or the folder that holds it.

    Raises:
        DataError: There is no such file, or it is not what ``verdiff evaluate`` writes.
    """
    path = path / STORED if path.is_dir() else path
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        tables = {name: _table(stored[name]) for name in ("instances", "uncertainty") if name in stored}
        return Results(_table(stored), **tables, about=dict(stored.get("made_by", {})), policy=stored["policy"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        missing = isinstance(error, FileNotFoundError)
        raise DataError(
            f"there is no file or folder {path}" if missing else f"{path}: {type(error).__name__}: {error}",
            f"the {STORED} of an evaluation",
            "score the masks with 'verdiff evaluate PREDICTIONS REFERENCES -o FOLDER', which writes it",
        ) from error


def _table(stored: Mapping[str, Any]) -> Table:
    metrics = tuple(stored["metrics"])
    unknown = [metric for metric in metrics if metric not in EVERY_METRIC]
    if unknown:
        raise ValueError(f"unknown metrics {', '.join(unknown)}")
    averaged = bool(stored.get("averaged", True))
    rows = {
        case: {name: one for name, one in row.items() if not (averaged and name == MEAN)}
        for case, row in stored["cases"].items()
    }
    if not rows or len({tuple(row) for row in rows.values()}) > 1:
        raise ValueError("no case, or cases of different structures")
    values = {
        case: {
            name: {metric: math.nan if one[metric] is None else float(one[metric]) for metric in metrics}
            for name, one in row.items()
        }
        for case, row in rows.items()
    }
    facts = {
        case: {name: {key: one[key] for key in one if key not in metrics} for name, one in row.items()}
        for case, row in rows.items()
    }
    # Older versions also wrote the mean of a single structure.
    several = len(next(iter(values.values()))) > 1
    return Table(values, metrics, facts, tuple(stored["notes"]), averaged and several)


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
