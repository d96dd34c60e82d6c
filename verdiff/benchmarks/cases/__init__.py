"""What is timed: one module a case, each with ``run(options) -> Findings``."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from verdiff.benchmarks.cost import RunCost
from verdiff.benchmarks.timing import Timing
from verdiff.choices import BENCH_NEEDS
from verdiff.errors import InputError

CASES: Mapping[str, str] = MappingProxyType(
    {
        "denoiser-step": "one denoiser step: the runtime's backends against PyTorch eager",
        "volume": "a whole scan from file to file: latency, first answer, stages, GFLOP/s, peak memory",
        "throughput": "many scans known in advance: scans and slices a second, one Segmenter against several",
        "deadline": "budgets on a fold's patients: kept or late, the setting they buy and its Dice",
        "gpu": "the whole loop on a GPU: PyTorch, ONNX Runtime and TensorRT on one generated scan",
        "startup": "from nothing: importing the runtime, the command line's help, and the first mask of a scan",
    }
)


@dataclass(frozen=True)
class Options:
    """What a case is run with.

    Attributes:
        bundle: A shipped model's name or a bundle's path; None is the default model.
        scan: The scan to segment, for the cases that take one; a folder of scans for ``throughput``.
        reference: The expert's mask of ``scan``, to put its Dice beside the times.
        data: An nnU-Net raw data set, for the cases that score.
        fold: The fold whose validation cases are taken from ``data``.
        training_run: Folder of the training run behind the bundle, whose weights PyTorch then computes with.
        repeats: Timed rounds.
        warmup: Rounds before them.
        threads: CPU threads of each rival.
        seed: Seed of whatever is drawn.
        size: Rows and columns of the network input, for the cases that have no scan.
        device: The GPU, for the case ``gpu``.
        say: Called with a line before whatever takes a while.
    """

    bundle: str | Path | None = None
    scan: Path | None = None
    reference: Path | None = None
    data: Path | None = None
    fold: int = 0
    training_run: Path | None = None
    repeats: int = 5
    warmup: int = 2
    threads: int = 1
    seed: int = 35
    size: tuple[int, int] = (320, 256)
    device: str = "cuda:0"
    say: Callable[[str], object] = lambda line: None

    def say_round(self, number: int) -> None:
        """Say which of the timed rounds is over."""
        self.say(f"round {number} of {self.repeats}")

    def inputs(self) -> dict[str, str | Path | None]:
        """What a case reads, which its record must not be written over."""
        return {
            "scan": self.scan,
            "reference": self.reference,
            "model": self.bundle,
            "run": self.training_run,
            "data set": self.data,
        }

    def settings(self) -> dict[str, int]:
        """What a record states of how its case was run."""
        return {"repeats": self.repeats, "warmup": self.warmup, "seed": self.seed, "threads": self.threads}


@dataclass(frozen=True)
class Figure:
    """One number beside the timings, and its aim where there is one."""

    name: str
    value: float | None
    unit: str
    at_most: float | None = None
    at_least: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the aim is met; None without an aim or a value."""
        if self.value is None or (self.at_most is None and self.at_least is None):
            return None
        return (self.at_most is None or self.value <= self.at_most) and (
            self.at_least is None or self.value >= self.at_least
        )


@dataclass(frozen=True)
class Findings:
    """What a case found.

    Attributes:
        timings: Rival -> its durations.
        baseline: The rival the others are compared with; None where there is nothing to compare.
        stages: Rival -> stage -> its durations; the stages of a repeat do not overlap.
        networks: Rival -> network -> seconds of each repeat in which it was at work, within the stages.
        work: Rival -> what it asked of the networks.
        figures: Numbers beside the timings.
        aims: Rival -> how many times faster than the baseline it should be.
        subject: What was run, in plain values: model, input size, threads.
        left_out: Rival -> why it could not take part.
        notes: What a reader must know.
        results: What was found beside durations, in plain values.
        page: What was found, as Markdown.
        draw: Draws the record's picture instead of bars of the timings.
    """

    timings: Mapping[str, Timing]
    baseline: str | None
    stages: Mapping[str, Mapping[str, Timing]] = field(default_factory=dict)
    networks: Mapping[str, Mapping[str, Timing]] = field(default_factory=dict)
    work: Mapping[str, RunCost] = field(default_factory=dict)
    figures: tuple[Figure, ...] = ()
    aims: Mapping[str, float] = field(default_factory=dict)
    subject: Mapping[str, Any] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    results: Mapping[str, Any] = field(default_factory=dict)
    page: str = ""
    draw: Callable[[Path], object] | None = None


def require_case(name: str, options: Options | None = None) -> None:
    """Refuse a case that is none, or options without what it runs on.

    Raises:
        InputError: There is no case of this name, or an option it needs is missing.
    """
    if name not in CASES:
        raise InputError(f"benchmark case {name!r}", "one of " + ", ".join(CASES), "choose one of them")
    needs = BENCH_NEEDS.get(name, ())
    if options is not None and needs and all(getattr(options, need) is None for need in needs):
        raise InputError(
            f"the case {name} and nothing to run it on", " or ".join(needs), f"name it with --{' or --'.join(needs)}"
        )


def run_case(name: str, options: Options) -> Findings:
    """Run one case.

    Raises:
        InputError: There is no case of this name, or an option it needs is missing.
    """
    require_case(name)
    outcome: Findings = importlib.import_module(f"{__name__}.{name.replace('-', '_')}").run(options)
    return outcome
