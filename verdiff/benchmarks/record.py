"""A benchmark as a record that anyone can repeat: JSON with every duration, and a Markdown page to read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from verdiff import __version__
from verdiff.benchmarks.cases import Outcome
from verdiff.benchmarks.machine import Machine
from verdiff.benchmarks.timing import Ratio, speedup

SCHEMA = 1


@dataclass(frozen=True)
class Record:
    """One run of one case.

    Attributes:
        case: A key of :data:`verdiff.benchmarks.cases.CASES`.
        command: The command that repeats it, without the paths of the machine it ran on.
        date: Day of the run, ISO 8601.
        settings: Repeats, warm-up, seed.
        machine: Where it ran.
        versions: Library versions.
        outcome: What was found.
    """

    case: str
    command: str
    date: str
    settings: Mapping[str, Any]
    machine: Machine
    versions: Mapping[str, str]
    outcome: Outcome

    def speedups(self) -> dict[str, Ratio]:
        """Rival -> how many times faster than the baseline; without the baseline itself, empty without one."""
        timings, baseline = self.outcome.timings, self.outcome.baseline
        if baseline is None:
            return {}
        return {
            name: speedup(timings[baseline], timing, seed=int(self.settings["seed"]))
            for name, timing in timings.items()
            if name != baseline
        }

    def in_doubt(self, name: str) -> bool:
        """Whether there is a reason to distrust what is said of this rival, by itself or against the baseline."""
        involved = [self.outcome.timings[each] for each in (name, self.outcome.baseline) if each is not None]
        return bool(self.machine.doubts()) or any(timing.doubts() for timing in involved)

    def warnings(self) -> tuple[str, ...]:
        """Why a figure here may not be trusted; empty when there is no reason."""
        doubts = [f"{name}: {doubt}" for name, timing in self.outcome.timings.items() for doubt in timing.doubts()]
        return (*self.machine.doubts(), *doubts)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        outcome, speedups = self.outcome, self.speedups()
        return {
            "schema": SCHEMA,
            "case": self.case,
            "command": self.command,
            "date": self.date,
            "verdiff": __version__,
            "settings": dict(self.settings),
            "machine": self.machine.to_dict(),
            "versions": dict(self.versions),
            "subject": dict(outcome.subject),
            "baseline": outcome.baseline,
            "timings": {name: timing.to_dict() for name, timing in outcome.timings.items()},
            "speedups": {
                name: asdict(ratio)
                | {
                    "aim": outcome.aims.get(name),
                    "met": _met(ratio, outcome.aims.get(name)),
                    "in_doubt": self.in_doubt(name),
                }
                for name, ratio in speedups.items()
            },
            "stages": {
                name: {stage: timing.to_dict() for stage, timing in stages.items()}
                for name, stages in outcome.stages.items()
            },
            "figures": [asdict(figure) | {"met": figure.met} for figure in outcome.figures],
            "results": dict(outcome.results),
            "left_out": dict(outcome.left_out),
            "notes": list(outcome.notes),
            "warnings": list(self.warnings()),
        }

    def to_json(self) -> str:
        """The record as strict JSON; a value that is not finite is null."""
        return json.dumps(_finite(self.to_dict()), indent=1, allow_nan=False) + "\n"

    def to_markdown(self) -> str:
        """The record as a page: rivals, stages, figures and aims, what was left out, doubts, machine."""
        outcome = self.outcome
        lines = [f"# Benchmark: {self.case}", "", f"    {self.command}", ""]
        lines += [f"{key.replace('_', ' ')}: {value}  " for key, value in outcome.subject.items()]
        lines += ["", outcome.page] if outcome.page else []
        lines += ["", *self._rivals()]
        for name, stages in outcome.stages.items():
            lines += ["", f"Stages, {name}:", "", *_table(("stage", "median", "p90"))]
            lines += [
                f"| {stage} | {_duration(timing.median)} | {_duration(timing.percentile(90))} |"
                for stage, timing in stages.items()
            ]
        if outcome.figures:
            lines += ["", *_table(("figure", "value", "aim", "met"))]
        for figure in outcome.figures:
            value = "unknown" if figure.value is None else f"{figure.value:.3g} {figure.unit}".strip()
            aim = _aim(figure.at_most, "at most") or _aim(figure.at_least, "at least")
            lines.append(f"| {figure.name} | {value} | {aim} | {_yes(figure.met, bool(self.warnings()))} |")
        remarks = [f"Left out: {name}: {reason}" for name, reason in outcome.left_out.items()]
        remarks += [*outcome.notes, *(f"Warning: {warning}." for warning in self.warnings())]
        lines += ["", *(f"- {remark}" for remark in remarks)] if remarks else []
        machine = self.machine
        memory = "" if machine.memory_gb is None else f", {machine.memory_gb} GB"
        lines += [
            "",
            f"{self.date}; {machine.cpu}, {machine.cores} core(s){memory}, {machine.system}, "
            f"{' '.join(machine.flags) or 'no telling flags'}; Python {machine.python}, verdiff {__version__}, "
            + ", ".join(f"{name} {version}" for name, version in self.versions.items())
            + ".",
        ]
        return "\n".join(lines) + "\n"

    def _rivals(self) -> list[str]:
        outcome, speedups = self.outcome, self.speedups()
        compared = ("times faster", "95 % interval", "aim", "met") if speedups else ()
        lines = _table(("rival", "median", "p90", "p99", *compared))
        for name, timing in outcome.timings.items():
            cells = [_duration(timing.median), _duration(timing.percentile(90)), _duration(timing.percentile(99))]
            if name in speedups:
                ratio, aim = speedups[name], outcome.aims.get(name)
                cells += [f"{ratio.value:.2f}", f"{ratio.low:.2f} to {ratio.high:.2f}", _aim(aim, "at least")]
                cells.append(_yes(_met(ratio, aim), self.in_doubt(name)))
            elif speedups:
                cells += ["baseline", "", "", ""]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        first = next(iter(outcome.timings.values()))
        if first.upper_bound(99) is None:
            repeats = len(first.seconds)
            lines += ["", f"With {repeats} repeats the p99 lies close to the longest of them and is no bound."]
        return lines


def _table(titles: tuple[str, ...]) -> list[str]:
    return ["| " + " | ".join(titles) + " |", "| --- |" + " ---: |" * (len(titles) - 1)]


def _duration(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1e3:.1f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.1f} µs"


def _aim(value: float | None, word: str) -> str:
    return "" if value is None else f"{word} {value:g}"


def _met(ratio: Ratio, aim: float | None) -> bool | None:
    return None if aim is None else ratio.value >= aim


def _yes(met: bool | None, in_doubt: bool) -> str:
    return "" if met is None else ("yes" if met else "no") + (", in doubt" if in_doubt else "")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
