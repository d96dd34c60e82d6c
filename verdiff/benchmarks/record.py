"""A benchmark as a record that anyone can repeat: JSON and CSV with every duration."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from verdiff import __version__
from verdiff.benchmarks.cases import Findings
from verdiff.benchmarks.environment import Environment
from verdiff.benchmarks.timing import Ratio, speedup

SCHEMA = 2
# What a comparison needs has been there from the first.
READABLE = (1, SCHEMA)


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
    machine: Environment
    versions: Mapping[str, str]
    outcome: Findings

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
                    "met": met(ratio, outcome.aims.get(name)),
                    "in_doubt": self.in_doubt(name),
                }
                for name, ratio in speedups.items()
            },
            "stages": {
                name: {stage: timing.to_dict() for stage, timing in stages.items()}
                for name, stages in outcome.stages.items()
            },
            "networks": {
                name: {network: timing.to_dict() for network, timing in networks.items()}
                for name, networks in outcome.networks.items()
            },
            "work": {name: work.to_dict() for name, work in outcome.work.items()},
            "figures": [asdict(figure) | {"met": figure.met} for figure in outcome.figures],
            "results": dict(outcome.results),
            "left_out": dict(outcome.left_out),
            "notes": list(outcome.notes),
            "warnings": list(self.warnings()),
        }

    def to_json(self) -> str:
        """The record as strict JSON; a value that is not finite is null."""
        return json.dumps(_finite(self.to_dict()), indent=1, allow_nan=False) + "\n"

    def to_csv(self) -> str:
        """Every duration as a row ``rival,stage,repeat,seconds``; the stage of a whole repeat is ``total``.

        The stages of one repeat do not overlap; a network's time (``prior network``) lies within them.
        """
        outcome, text = self.outcome, io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("rival", "stage", "repeat", "seconds"))
        for name, timing in outcome.timings.items():
            networks = {f"{each} network": busy for each, busy in outcome.networks.get(name, {}).items()}
            for stage, durations in {"total": timing, **outcome.stages.get(name, {}), **networks}.items():
                writer.writerows((name, stage, repeat, s) for repeat, s in enumerate(durations.seconds, 1))
        return text.getvalue()


def met(ratio: Ratio, aim: float | None) -> bool | None:
    """Whether a rival is as many times faster as it should be; None without an aim."""
    return None if aim is None else ratio.value >= aim


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
