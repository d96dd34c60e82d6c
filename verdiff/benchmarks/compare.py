"""Two records of one case: how the medians changed, and whether anything got slower beyond doubt."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from verdiff.benchmarks.record import READABLE
from verdiff.benchmarks.timing import Ratio, Timing
from verdiff.errors import InputError
from verdiff.markdown import markdown_table

# Two runs at different times compare the times of day too; less than this is not called a regression.
TOLERANCE = 0.05
_SEED = 35
RESAMPLES = 2000
SAME_MACHINE = ("cpu", "cores", "flags", "system")


@dataclass(frozen=True)
class Change:
    """One rival in both records.

    Attributes:
        name: The rival.
        before: Its durations in the first record.
        after: Its durations in the second record.
        ratio: Median after over median before, with a 95 % bootstrap interval; above 1 is slower.
    """

    name: str
    before: Timing
    after: Timing
    ratio: Ratio

    @property
    def regressed(self) -> bool:
        """Slower by more than :data:`TOLERANCE`, with an interval that lies above 1."""
        return self.ratio.value > 1 + TOLERANCE and self.ratio.low > 1

    @property
    def improved(self) -> bool:
        """Faster by more than :data:`TOLERANCE`, with an interval that lies below 1."""
        return self.ratio.value < 1 - TOLERANCE and self.ratio.high < 1

    @property
    def saved_s(self) -> float:
        """Seconds by which the median fell."""
        return self.before.median - self.after.median


@dataclass(frozen=True)
class RecordComparison:
    """What changed between two records of one case.

    Attributes:
        case: The case.
        changes: The rivals that both have.
        stages: Stages of the same rivals, a name being ``"rival: stage"``, that both have and that took time.
        missing: Rivals of the first that the second has not.
        missed: Figures and speed-ups that met their aim in the first record and do not in the second, also where they
            have no value there any more.
        cautions: Why the two may not be comparable.
    """

    case: str
    changes: tuple[Change, ...]
    stages: tuple[Change, ...]
    missing: tuple[str, ...]
    missed: tuple[str, ...]
    cautions: tuple[str, ...]

    def regressions(self) -> list[str]:
        """What got worse, in words; empty when nothing did."""
        found = [
            f"{change.name} takes {change.ratio.value:.2f} times as long ({change.ratio.low:.2f} to "
            f"{change.ratio.high:.2f})"
            for change in self.changes
            if change.regressed
        ]
        found += [f"{name} is no longer there" for name in self.missing]
        return found + [f"{name} no longer meets its aim" for name in self.missed]

    def to_markdown(self) -> str:
        """A table of the rivals, one of the stages that changed beyond doubt, then what to be careful about."""
        lines = [f"# {self.case}: before and after", "", *_table("rival", self.changes)]
        moved = [change for change in self.stages if change.regressed or change.improved]
        if moved:
            moved.sort(key=lambda change: -abs(change.saved_s))
            lines += ["", "Stages that changed, the most time first:", "", *_table("stage", moved)]
        remarks = [*(f"Caution: {each}." for each in self.cautions), *(f"Worse: {r}." for r in self.regressions())]
        return "\n".join([*lines, *(["", *(f"- {remark}" for remark in remarks)] if remarks else [])]) + "\n"


def compare_records(before: Path, after: Path) -> RecordComparison:
    """Compare two records that ``verdiff bench`` wrote.

    Raises:
        InputError: A file is no record, or they are of different cases.
    """
    first, second = read_record(before), read_record(after)
    if first["case"] != second["case"]:
        raise InputError(
            f"records of the cases {first['case']} and {second['case']}", "two of one case", "compare like with like"
        )
    timings = [{name: Timing(tuple(each["seconds"])) for name, each in r["timings"].items()} for r in (first, second)]
    common = [name for name in timings[0] if name in timings[1]]
    met = [_met(record) for record in (first, second)]
    return RecordComparison(
        case=first["case"],
        changes=tuple(_change(name, timings[0][name], timings[1][name]) for name in common),
        stages=_stage_changes(first, second, common),
        missing=tuple(name for name in timings[0] if name not in timings[1]),
        missed=tuple(name for name, was in met[0].items() if was is True and met[1].get(name) is not True),
        cautions=_cautions(first, second),
    )


def read_record(path: Path) -> dict[str, Any]:
    """A record's JSON.

    Raises:
        InputError: It cannot be read, or is none.
    """
    try:
        record = json.loads(path.read_text("utf-8"))
        if record["schema"] not in READABLE or not all(
            record["timings"][name]["seconds"] for name in record["timings"]
        ):
            raise ValueError(f"schema {record['schema']}")
        _ = record["case"], record["figures"], record["machine"], record["settings"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(
            f"{path} is no record of 'verdiff bench' ({error})", "a JSON record that it wrote", "check the path"
        ) from error
    return dict(record)


def _met(record: Mapping[str, Any]) -> dict[str, bool | None]:
    """Whether each figure and each speed-up meets its aim; None where there is no aim or no value."""
    speedups = record.get("speedups", {})
    return {each["name"]: each["met"] for each in record["figures"]} | {
        f"the speed-up of {name}": each.get("met") for name, each in speedups.items()
    }


def _table(what: str, changes: Iterable[Change]) -> list[str]:
    rows = []
    for change in changes:
        ratio = change.ratio
        medians = (f"{1e3 * timing.median:.4g} ms" for timing in (change.before, change.after))
        rows.append([change.name, *medians, f"{ratio.value:.3f}", f"{ratio.low:.3f} to {ratio.high:.3f}"])
    return markdown_table((what, "before", "after", "after / before", "95 % interval"), rows)


def _stage_changes(first: Mapping[str, Any], second: Mapping[str, Any], rivals: Iterable[str]) -> tuple[Change, ...]:
    found = []
    for rival in rivals:
        before, after = (record.get("stages", {}).get(rival, {}) for record in (first, second))
        for stage in before:
            if stage in after:
                was, now = (Timing(tuple(each[stage]["seconds"])) for each in (before, after))
                # A repeat in which a stage took no time at all has no ratio.
                if min(was.seconds) > 0 and min(now.seconds) > 0:
                    found.append(_change(f"{rival}: {stage}", was, now))
    return tuple(found)


def _change(name: str, before: Timing, after: Timing) -> Change:
    """The two runs were not interleaved, so each is resampled by itself."""
    rng = np.random.default_rng(_SEED)
    medians = []
    for timing in (before, after):
        seconds = np.asarray(timing.seconds)
        medians.append(np.median(seconds[rng.integers(0, seconds.size, (RESAMPLES, seconds.size))], axis=1))
    low, high = np.quantile(medians[1] / medians[0], [0.025, 0.975])
    return Change(name, before, after, Ratio(after.median / before.median, float(low), float(high)))


def _cautions(first: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[str, ...]:
    found = [
        f"{key}: {first['machine'].get(key)} before, {second['machine'].get(key)} after"
        for key in SAME_MACHINE
        if first["machine"].get(key) != second["machine"].get(key)
    ]
    threads = [record["settings"].get("threads") for record in (first, second)]
    if threads[0] != threads[1]:
        found.append(f"threads: {threads[0]} before, {threads[1]} after")
    for which, record in (("first", first), ("second", second)):
        warnings = record.get("warnings", [])
        if warnings:
            found.append(f"the {which} record has {len(warnings)} warning(s), such as: {warnings[0]}")
    return tuple(found)
