"""The figures of a table: each model over its seeds, and the reference against each other model, paired by case."""

from __future__ import annotations

import csv
import io
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from studies.training.folder import QueueEntry
from verdiff.errors import DataError
from verdiff.evaluate.comparing import Comparisons, compare_tables
from verdiff.evaluate.stored import STORED, read_results
from verdiff.evaluate.tables import MEAN, Table

METRICS = ("dice", "iou", "hd95_mm")


@dataclass(frozen=True)
class TrainedRun:
    """One training that is scored.

    Attributes:
        seed: Its seed.
        table: Its scores.
        facts: What ``scores.json`` says of the training.
        seconds: Seconds of each case, from the prepared slices to the mask.
    """

    seed: int
    table: Table
    facts: Mapping[str, Any]
    seconds: tuple[float, ...]


@dataclass(frozen=True)
class TableLine:
    """A model of the table.

    Attributes:
        name: What it is called.
        runs: Its trainings, by seed.
        table: Its scores, each the mean over the seeds.
    """

    name: str
    runs: tuple[TrainedRun, ...]
    table: Table

    @property
    def row(self) -> str:
        """The row that stands for all structures."""
        return MEAN if self.table.averaged else self.table.structures[0]

    @property
    def seed_means(self) -> tuple[float, ...]:
        """Mean Dice of each seed."""
        return tuple(run.table.summary(self.row, "dice").mean for run in self.runs)

    @property
    def spread(self) -> float:
        """Largest less smallest mean Dice of its seeds; NaN of one seed, which says nothing of it."""
        return max(self.seed_means) - min(self.seed_means) if len(self.runs) > 1 else math.nan


def lines_of(entries: Sequence[QueueEntry]) -> tuple[TableLine, ...]:
    """The models that are scored, in the order of the queue; each over the seeds that are done.

    Raises:
        DataError: A ``scores.json`` is damaged, or two are not of the same cases.
    """
    runs: dict[str, list[TrainedRun]] = {}
    for entry in entries:
        if entry.is_scored():
            runs.setdefault(entry.model.name, []).append(_read(entry))
    found = tuple(TableLine(name, tuple(mine), over_seeds([run.table for run in mine])) for name, mine in runs.items())
    if len({line.table.cases for line in found}) > 1:
        raise DataError("runs that were scored on other cases", "the same cases for all", "remove their scores.json")
    return found


def over_seeds(tables: Sequence[Table]) -> Table:
    """Each case's scores, the mean over the seeds of a model."""
    first = tables[0]
    values = {
        case: {
            name: {metric: statistics.fmean(table.values[case][name][metric] for table in tables) for metric in METRICS}
            for name in first.structures
        }
        for case in first.cases
    }
    return Table(values, METRICS, averaged=first.averaged)


def against(lines: Sequence[TableLine], reference: str) -> dict[str, Comparisons]:
    """Other model -> the reference minus it, structure by structure, in Dice and IoU; empty without the reference."""
    by_name = {line.name: line.table for line in lines}
    ours = by_name.get(reference)
    if ours is None:
        return {}
    metrics = METRICS[:2]
    return {
        name: compare_tables(replace(ours, metrics=metrics), replace(table, metrics=metrics))
        for name, table in by_name.items()
        if name != reference
    }


def part(table: Table, cases: Sequence[str]) -> Table:
    """Some cases of a table."""
    return replace(table, values={case: table.values[case] for case in table.cases if case in set(cases)})


def read_groups(path: Path) -> dict[str, list[str]]:
    """Group -> its cases, from a CSV file with the columns ``case`` and ``group``.

    Raises:
        DataError: It is no such file.
    """
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text("utf-8"))))
        found: dict[str, list[str]] = {}
        for row in rows:
            found.setdefault(row["group"], []).append(row["case"])
    except (OSError, UnicodeDecodeError, KeyError) as error:
        raise DataError(
            f"{path.name}: {type(error).__name__} {error}", "a CSV file with the columns case and group", "correct it"
        ) from error
    if not found:
        raise DataError(f"no case in {path.name}", "a CSV file with the columns case and group", "correct it")
    return found


def to_csv(lines: Sequence[TableLine]) -> str:
    """A row a model, seed, case and structure, with every digit."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("model", "seed", "case", "structure", *METRICS))
    for line in lines:
        for run in line.runs:
            for case in run.table.cases:
                for name in run.table.structures:
                    values = (run.table.values[case][name][metric] for metric in METRICS)
                    writer.writerow((line.name, run.seed, case, name, *("" if math.isnan(v) else v for v in values)))
    return text.getvalue()


def _read(entry: QueueEntry) -> TrainedRun:
    results = read_results(entry.run)
    stored = json.loads((entry.run / STORED).read_text("utf-8"))
    seconds = tuple(float(about["seconds"]) for about in results.about.values())
    return TrainedRun(entry.seed, results.masks, stored["training"], seconds)
