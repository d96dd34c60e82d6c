"""The manifest's objects as the records they describe; what is no such record is a BundleError that names the key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from verdiff.bundle import checks
from verdiff.choices import WHOLE
from verdiff.diffusion.process import Process
from verdiff.diffusion.tables import SamplerTable
from verdiff.errors import VerdiffError
from verdiff.imaging.intensity import IntensityRule

_R = TypeVar("_R")

LONGEST = 4096
MOST_OVERLAP = 0.9


@dataclass(frozen=True)
class VolumeRule:
    """How a model that takes volumes looks at one: in overlapping windows of one size.

    Attributes:
        patch: Slices, rows and columns of the prior graph's input [N, 1, D, H, W], fixed in the graph.
        spacing_mm: Millimetres from slice to slice, row to row and column to column that it sees.
        overlap: The share of a window that it has in common with the next.
        crop: The share of a slice's columns that is looked at, around the middle; 1 is all.
        window_mb: MiB that the network holds while it runs one window; None is not known.
    """

    patch: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    overlap: float
    crop: float = 1.0
    window_mb: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The rule as plain JSON."""
        return {
            "patch": list(self.patch),
            "spacing_mm": list(self.spacing_mm),
            "overlap": self.overlap,
            "crop": self.crop,
            "window_mb": self.window_mb,
        }


@dataclass(frozen=True)
class Effort:
    """One way to sample.

    Attributes:
        steps: Denoiser passes a sample; 0 is the prior's answer.
        samples: Ensemble members; 0 with 0 steps.
        policy: See :mod:`verdiff.runtime.policy`.
    """

    steps: int
    samples: int
    policy: str

    @property
    def title(self) -> str:
        """Readable name."""
        what = "prior alone" if not self.steps else f"{self.steps} steps x {self.samples}"
        return what if self.policy == WHOLE else f"{what}, {self.policy}"


@dataclass(frozen=True)
class Setting(Effort):
    """An effort on a model's record, and what it was found to be worth.

    Attributes:
        dice: Mean over structures and patients.
        name: What it is asked for by, or None.
    """

    dice: float
    name: str | None = None


def stated(record: _R | None, key: str) -> _R:
    """A record that not every manifest has, of one that must.

    Raises:
        BundleError: The manifest has none.
    """
    if record is None:
        raise checks.wrong(key, {}, f"an object: this is asked of a model that has its {key!r} alone")
    return record


def ids_in_masks(label_ids: Iterable[int]) -> NDArray[np.uint8]:
    """The numbers in masks of the background and of each channel's structure, uint8 [K + 1]."""
    return np.array([0, *label_ids], np.uint8)


def intensity_rule(rule: Mapping[str, Any]) -> IntensityRule:
    """`intensity`: a kind of rule with its range."""
    checks.choice("intensity.kind", rule.get("kind"), ("percentile", "window", "zscore"))
    low = checks.number("intensity.low", rule.get("low"))
    high = checks.number("intensity.high", rule.get("high"))
    if not low < high:
        raise checks.wrong("intensity.high", high, f"more than 'intensity.low', {low}")
    if rule["kind"] == "percentile" and not (low >= 0 and high <= 100):
        raise checks.wrong("intensity", f"{low} to {high}", "percentiles from 0 to 100")
    # The numbers as they are stored, so that a manifest that is written again has the same bytes.
    return IntensityRule(rule["kind"], rule["low"], rule["high"])


def process_of(values: Mapping[str, Any]) -> Process:
    """`process`: name, schedule and signal scale."""
    try:
        return Process.from_dict(dict(values))
    except VerdiffError as error:
        raise checks.wrong("process", values, f"a process: {error.expected} ({error.found})") from error


def sampler_table(table: Mapping[str, Any], steps: int) -> SamplerTable:
    """`table`: falling timesteps, a row of five coefficients for each, and two coefficients for the start."""
    timesteps = checks.sequence("table.timesteps", table.get("timesteps"))
    rows = checks.sequence("table.coefficients", table.get("coefficients"))
    start = checks.sequence("table.start", table.get("start"))
    limit = 100_000
    for index, step in enumerate(timesteps):
        limit = checks.integer(f"table.timesteps[{index}]", step, 1, limit) - 1
    for index, row in enumerate([*rows, start]):
        key, width = (f"table.coefficients[{index}]", 5) if index < len(rows) else ("table.start", 2)
        if len(checks.sequence(key, row)) != width:
            raise checks.wrong(key, row, f"a list of {width} numbers, not {len(row)}")
        for column, value in enumerate(row):
            checks.number(f"{key}[{column}]", value)
    if not len(timesteps) == len(rows) == steps:
        counts = f"not {len(timesteps)} timesteps and {len(rows)} rows of coefficients"
        raise checks.wrong("table.timesteps", timesteps, f"{steps} steps as in 'defaults.steps', {counts}")
    if list(rows[-1]) != [0, 1, 0, 0, 0]:
        raise checks.wrong("table.coefficients", rows, "rows that end in (0, 1, 0, 0, 0): the result is the last x0hat")
    try:
        return SamplerTable.from_dict(dict(table))
    except VerdiffError as error:
        raise checks.wrong("table", table, error.expected) from error


def settings_of(frontier: Mapping[str, Any]) -> tuple[Setting, ...]:
    """`frontier`: settings with steps, samples, policy and Dice, the best Dice first."""
    found = []
    for index, row in enumerate(checks.sequence("frontier.settings", frontier.get("settings", []))):
        key = f"frontier.settings[{index}]"
        setting = checks.mapping(key, row)
        prior_alone = checks.integer(f"{key}.steps", setting.get("steps"), 0, 100_000) == 0
        least, most = (0, 0) if prior_alone else (1, 1000)
        samples = checks.integer(f"{key}.samples", setting.get("samples"), least, most)
        checks.text(f"{key}.policy", setting.get("policy"), r"[a-z]+(\+[a-z]+)*", "names of policies joined by '+'")
        checks.number(f"{key}.dice", setting.get("dice"), 0, "a mean Dice of at least 0")
        if setting.get("name") is not None:
            checks.text(f"{key}.name", setting["name"], r"[a-z]+", "a word of lower-case letters")
        found.append(Setting(setting["steps"], samples, setting["policy"], setting["dice"], setting.get("name")))
    return tuple(sorted(found, key=lambda setting: -setting.dice))


@dataclass(frozen=True)
class JudgedBackend:
    """What the gate ran on one backend.

    Attributes:
        graphs: SHA-256 of each role's graph.
        instructions: Instruction set of the processor it ran on; None where the record does not say.
    """

    graphs: Mapping[str, str]
    instructions: str | None


@dataclass(frozen=True)
class GateRecord(Mapping[str, Any]):
    """What the gate measured of one precision. What a runtime reads has a type; by its key, every figure is there.

    Attributes:
        backends: What was judged on each backend of the processors.
        drift: Mean difference of each stage from FP32 as a probability: the prior, then x0hat after each step.
        saturation_free: Whether the integers cannot saturate, so that the graphs give the same on every processor.
        plain: The record as it stands in the manifest.
    """

    backends: Mapping[str, JudgedBackend]
    drift: tuple[float, ...]
    saturation_free: bool
    plain: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, key: str, record: object) -> GateRecord:
        """A record from its plain form, checked; ``key`` is its place in the manifest."""
        plain = record.to_dict() if isinstance(record, GateRecord) else checks.mapping(key, record)
        backends = {}
        for backend, judged in checks.mapping(f"{key}.backends", plain.get("backends", {})).items():
            found = checks.mapping(f"{key}.backends.{backend}", judged)
            graphs = checks.mapping(f"{key}.backends.{backend}.graphs", found.get("graphs", {}))
            backends[backend] = JudgedBackend(graphs, found.get("instructions"))
        drift = []
        for index, stage in enumerate(checks.sequence(f"{key}.drift", plain.get("drift", []))):
            place, reason = f"{key}.drift[{index}]", "a probability of at least 0"
            drift.append(checks.number(f"{place}.mean", checks.mapping(place, stage).get("mean"), 0, reason))
        return cls(backends, tuple(drift), bool(plain.get("saturation_free", False)), plain)

    def to_dict(self) -> dict[str, Any]:
        """The record as plain JSON."""
        return dict(self.plain)

    def __getitem__(self, key: str) -> Any:
        return self.plain[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.plain)

    def __len__(self) -> int:
        return len(self.plain)


def volume_rule(volume: Mapping[str, Any]) -> VolumeRule:
    """`volume`, whose `crop` and `window_mb` are optional.

    Raises:
        BundleError: A key is missing or of the wrong type or range.
    """
    patch = _three("volume.patch", volume.get("patch"))
    spacing = _three("volume.spacing_mm", volume.get("spacing_mm"))
    overlap = checks.number("volume.overlap", volume.get("overlap"), 0, f"a share from 0 to {MOST_OVERLAP}")
    crop = checks.number("volume.crop", volume.get("crop", 1.0), 0.01, "a share from 0.01 to 1")
    window_mb = volume.get("window_mb")
    if overlap > MOST_OVERLAP:
        raise checks.wrong("volume.overlap", overlap, f"a share from 0 to {MOST_OVERLAP}")
    if crop > 1:
        raise checks.wrong("volume.crop", crop, "a share from 0.01 to 1")
    slices, rows, cols = (checks.integer(f"volume.patch[{i}]", n, 1, LONGEST) for i, n in enumerate(patch))
    between, along, across = (
        checks.number(f"volume.spacing_mm[{i}]", pitch, 1e-3, "millimetres, at least 0.001")
        for i, pitch in enumerate(spacing)
    )
    held = None if window_mb is None else checks.number("volume.window_mb", window_mb, 0, "MiB, or null")
    return VolumeRule((slices, rows, cols), (between, along, across), overlap, crop, held)


def _three(key: str, value: object) -> tuple[Any, ...]:
    items = checks.sequence(key, value)
    if len(items) != 3:
        raise checks.wrong(key, items, f"a list of 3 numbers (slices, rows, columns), not {len(items)}")
    return items
