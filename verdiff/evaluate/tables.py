"""Scores by case and structure, with summaries over cases and means over structures."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from verdiff.evaluate.empty import EVERY_METRIC, Presence

MEAN = "mean"
"""The name of the row that averages the structures of a case."""

Value = TypeVar("Value")
ByCase = Mapping[str, Mapping[str, Value]]


class Scores(Protocol):
    """What scores one structure of one case: a field for every metric, and facts that are not averaged."""

    @property
    def facts(self) -> dict[str, Any]:
        """Counts and the like, as plain JSON values."""


@dataclass(frozen=True)
class Summary:
    """One metric of one structure over the cases; undefined values are left out and counted.

    Attributes:
        mean: Mean over cases, NaN when every case is undefined.
        deviation: Standard deviation over cases (n - 1), NaN for one case.
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
        values: Case -> structure -> metric -> value, NaN where undefined; every case has the same structures.
        metrics: The metrics that were computed, names of :data:`verdiff.evaluate.empty.EVERY_METRIC`.
        facts: Case -> structure -> what stands beside the metrics: counts, volumes, presence.
        notes: What a reader must know, such as label ids in the files that were not scored.
        averaged: Whether a mean over the structures of a case says anything: of a single one it says the same again.
    """

    values: ByCase[Mapping[str, float]]
    metrics: tuple[str, ...]
    facts: ByCase[Mapping[str, Any]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    averaged: bool = True

    @classmethod
    def of(
        cls, scores: ByCase[Scores], metrics: Sequence[str], notes: Sequence[str] = (), *, averaged: bool = True
    ) -> Table:
        """The table of scores: case -> structure -> an object with the metrics as its fields."""
        values = {
            case: {name: {metric: float(getattr(one, metric)) for metric in metrics} for name, one in row.items()}
            for case, row in scores.items()
        }
        facts = {case: {name: one.facts for name, one in row.items()} for case, row in scores.items()}
        return cls(values, tuple(metrics), facts, tuple(notes), averaged)

    @property
    def cases(self) -> tuple[str, ...]:
        """Names of the cases, in the order they were scored."""
        return tuple(self.values)

    @property
    def structures(self) -> tuple[str, ...]:
        """Names of the scored structures, in the order of the labels."""
        return tuple(next(iter(self.values.values()), {}))

    @property
    def rows(self) -> tuple[str, ...]:
        """The structures, and :data:`MEAN` where it says anything."""
        return (*self.structures, MEAN) if self.averaged else self.structures

    def value(self, case: str, structure: str, metric: str) -> float:
        """One value; for :data:`MEAN` the mean of the structures that are defined in this case (NaN if none is)."""
        if structure != MEAN:
            return self.values[case][structure][metric]
        return _mean([self.values[case][name][metric] for name in self.structures])

    def by_case(self, structure: str, metric: str) -> dict[str, float]:
        """Case -> value of one structure, or of :data:`MEAN`."""
        return {case: self.value(case, structure, metric) for case in self.values}

    def fact(self, structure: str, name: str) -> dict[str, Any]:
        """Case -> one fact of one structure, of the cases that have it."""
        rows = {case: row.get(structure, {}) for case, row in self.facts.items()}
        return {case: row[name] for case, row in rows.items() if name in row}

    def summary(self, structure: str, metric: str) -> Summary:
        """One metric over the cases, of one structure or of :data:`MEAN`."""
        values = self.by_case(structure, metric)
        defined = {case: value for case, value in values.items() if not math.isnan(value)}
        if not defined:
            return Summary(math.nan, math.nan, math.nan, math.nan, "", len(values))
        worst = (min if EVERY_METRIC[metric].higher_is_better else max)(defined, key=lambda case: defined[case])
        numbers = list(defined.values())
        return Summary(
            mean=_mean(numbers),
            deviation=deviation_of(numbers),
            median=statistics.median(numbers),
            worst=defined[worst],
            worst_case=worst,
            undefined=len(values) - len(defined),
        )

    def remarks(self) -> tuple[str, ...]:
        """What a reader must know: where one of the two masks (or both) lacks a structure, then the notes."""
        lacking = [
            f"{case}: {name} is {facts['presence']}."
            for case, row in self.facts.items()
            for name, facts in row.items()
            if facts.get("presence", Presence.BOTH.value) != Presence.BOTH.value
        ]
        return (*lacking, *self.notes)


@dataclass(frozen=True)
class Results:
    """Everything that was scored of one set of predictions.

    Attributes:
        masks: Overlap, distance and volume of every structure.
        instances: Scores of every group of instances; None where they were not asked for.
        uncertainty: Calibration and error detection; None where they were not asked for.
        about: Case -> how its prediction was made, where that is known.
        policy: What metrics meant on empty masks, a key of :data:`verdiff.evaluate.empty.POLICIES`.
    """

    masks: Table
    instances: Table | None = None
    uncertainty: Table | None = None
    about: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    policy: str = "strict"

    @property
    def tables(self) -> dict[str, Table]:
        """The tables there are, by name."""
        every = {"masks": self.masks, "instances": self.instances, "uncertainty": self.uncertainty}
        return {name: table for name, table in every.items() if table is not None}


def deviation_of(values: Sequence[float]) -> float:
    """Standard deviation of some values; NaN of fewer than two, which say nothing about it."""
    return statistics.stdev(values) if len(values) > 1 else math.nan


def _mean(values: list[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return statistics.fmean(defined) if defined else math.nan
