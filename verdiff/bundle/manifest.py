"""What a bundle says about its model: frozen, checked at construction, read from and written to plain JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from verdiff.bundle import checks
from verdiff.bundle.layout import MANIFEST, check_names
from verdiff.bundle.manifest_text import SCHEMA_VERSION, VOLUME_SCHEMA, check_schema, digest, parse_text
from verdiff.bundle.margins import check_margins
from verdiff.bundle.objects import (
    GateRecord,
    Setting,
    VolumeRule,
    ids_in_masks,
    intensity_rule,
    process_of,
    sampler_table,
    settings_of,
    volume_rule,
)
from verdiff.bundle.put_aside import put_aside_by_all, stated
from verdiff.choices import MODALITIES, MODEL_NAME, PREDICTIONS, VIEWS
from verdiff.diffusion.process import Process
from verdiff.diffusion.tables import SamplerTable
from verdiff.errors import BundleError
from verdiff.imaging.intensity import IntensityRule
from verdiff.options import ModelSampling
from verdiff.settings import LEFT_OPEN, Bounds, about, types_of

WEIGHTS = ("float32", "float16")

_CHECKSUM = "checksum"
_OBJECTS = ("training", "metrics", "files", "suitability", "frontier", "margins")
# Records that not every model has: an empty object in the text, None in Python.
_OPTIONAL = ("process", "table", "volume")
_RECORDS = (GateRecord, IntensityRule, Process, SamplerTable, VolumeRule)
# Added after bundles were published: left out where empty, so that an older manifest keeps its bytes.
_NEWER = ("margins",)
_SEMVER = r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?"


@dataclass(frozen=True)
class Label:
    """One foreground structure: the number it has in masks (1 to 255), its name, its SNOMED CT code if there is one."""

    id: int
    name: str
    snomed: str | None = None

    def __post_init__(self) -> None:
        checks.text("labels.name", self.name)
        checks.integer(f"labels.{self.name}.id", self.id, 1, 255)
        if self.snomed is not None:
            checks.text(f"labels.{self.name}.snomed", self.snomed, r"\d{6,18}", "a SNOMED CT code of digits, or null")


@dataclass(frozen=True)
class Feature:
    """One condition feature from prior to denoiser: [N, channels, H / stride, W / stride]."""

    name: str
    channels: int
    stride: int

    def __post_init__(self) -> None:
        checks.text("features.name", self.name, r"\w+", "a graph input's name")
        checks.integer(f"features.{self.name}.channels", self.channels, 1, 1 << 16)
        checks.integer(f"features.{self.name}.stride", self.stride, 1, 1 << 10)


@dataclass(frozen=True, kw_only=True)
class Defaults(ModelSampling):
    """What `segment` uses where the caller names nothing. A single-pass model has 0 steps and 0 samples."""

    def __post_init__(self) -> None:
        kinds = types_of(type(self))
        for each in fields(self):
            limits = about(each).limits
            if each.name in ("steps", "samples") and isinstance(limits, Bounds):
                limits = replace(limits, least=0)
            value = checks.within(f"defaults.{each.name}", getattr(self, each.name), limits, kinds[each.name])
            object.__setattr__(self, each.name, value)


@dataclass(frozen=True)
class Manifest:
    """Everything a host must know to use a bundle's graphs, and a reader to judge them.

    `labels` are the foreground structures in the order of the graphs' channels; `spacing_mm` is the in-plane pixel
    size the networks see; height and width of the network input are multiples of `multiple`, `max_pixels` at most in
    all. `intensity`, `process`, `table`, `volume` and those of `gates` are given as records or in their plain form, and
    held as records.
    `files` maps every other file of the bundle to its SHA-256. `gates` holds, for each reduced precision that was
    judged, the SHA-256 of the graphs that passed and what was measured (docs/precision.md). `frontier` holds settings
    with their Dice and time, from which a call with a deadline chooses (docs/runtime.md); empty where not measured.
    `margins` holds how far surfaces have to be moved to hold the true structure (docs/margins.md); empty where
    not measured. A single-pass model has no denoiser: `process` and `table` are None, `features` is empty. `volume` is
    None for a model that takes slices.

    Raises:
        BundleError: a value of the wrong type or out of range, with its key, what was found and what was expected.
    """

    model_id: str
    version: str
    labels: tuple[Label, ...]
    modality: str
    view: str
    spacing_mm: float
    intensity: IntensityRule
    multiple: int
    max_pixels: int
    process: Process | None
    table: SamplerTable | None
    defaults: Defaults
    features: tuple[Feature, ...]
    prediction: str
    weights_stored: str
    training: dict[str, Any]
    metrics: dict[str, Any]
    intended_use: str
    limits: tuple[str, ...]
    files: dict[str, str]
    suitability: dict[str, Any]
    gates: dict[str, GateRecord] = field(default_factory=dict)
    frontier: dict[str, Any] = field(default_factory=dict)
    margins: dict[str, Any] = field(default_factory=dict)
    volume: VolumeRule | None = None
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        checks.integer("schema_version", self.schema_version, SCHEMA_VERSION, VOLUME_SCHEMA)
        checks.text("model_id", self.model_id, MODEL_NAME, "lower-case letters, digits, '.', '_' and '-'")
        checks.text("version", self.version, _SEMVER, "a semantic version such as '1.0.0'")
        checks.choice("modality", self.modality, MODALITIES)
        checks.choice("view", self.view, VIEWS)
        spacing = checks.number("spacing_mm", self.spacing_mm, 1e-3, "millimetres, at least 0.001")
        checks.integer("multiple", self.multiple, 1, 1 << 10)
        checks.integer("max_pixels", self.max_pixels, 1, 1 << 30)
        checks.choice("prediction", self.prediction, PREDICTIONS)
        checks.choice("weights_stored", self.weights_stored, WEIGHTS)
        checks.text("intended_use", self.intended_use)
        limits = checks.sequence("limits", self.limits)
        self._set(spacing_mm=spacing, limits=tuple(checks.text(f"limits[{i}]", item) for i, item in enumerate(limits)))
        for key in _OBJECTS:
            self._set(**{key: checks.mapping(key, getattr(self, key))})
        self._set(labels=self._items("labels", Label), features=self._items("features", Feature))
        if not self.labels:
            raise checks.wrong("labels", [], "a list of at least one structure")
        for key in ("id", "name"):
            if len({getattr(label, key) for label in self.labels}) < len(self.labels):
                raise checks.wrong(f"labels.{key}", [getattr(label, key) for label in self.labels], "different values")
        if not isinstance(self.defaults, Defaults):
            raise checks.wrong("defaults", self.defaults, "an object of default settings")
        self._set(intensity=intensity_rule(_mapping("intensity", self.intensity)))
        table, process, volume = (_mapping(key, getattr(self, key)) for key in ("table", "process", "volume"))
        if table:
            steps = checks.integer("defaults.steps", self.defaults.steps, 1, 100_000)
            checks.integer("defaults.samples", self.defaults.samples, 1, 1000)
            self._set(table=sampler_table(table, steps), process=process_of(process))
        else:
            self._check_single_pass()
        self._set(volume=self._checked_volume(volume) if volume or self.schema_version == VOLUME_SCHEMA else None)
        settings_of(self.frontier)
        gates = checks.mapping("gates", _plain(self.gates))
        self._set(gates={name: GateRecord.of(f"gates.{name}", record) for name, record in gates.items()})
        check_margins(self.margins)
        for name, found in self.files.items():
            checks.text(f"files.{name}", found, r"[0-9a-f]{64}", "a SHA-256 of 64 lower-case hexadecimal digits")
        check_names([MANIFEST, *self.files])

    @property
    def aside(self) -> dict[str, tuple[str, ...]]:
        """The cases put aside of every data set that the model was trained on, be it as its first weights."""
        training, parts, origin = self.training, self.training.get("data_sets"), self.training.get("trained_from")
        own: dict[str, object] = {}
        if "data_set" in training:
            own[str(training["data_set"])] = training.get("validation_cases", ())
        if isinstance(parts, dict):
            own |= {name: part.get("validation_cases", ()) for name, part in parts.items() if isinstance(part, dict)}
        before = origin.get("put_aside") if isinstance(origin, dict) else None
        return put_aside_by_all([stated(own), stated(before)])

    def put_aside(self, data_set: str) -> tuple[str, ...] | None:
        """The cases of a data set that training put aside for validation; None for a data set it was not trained on."""
        return self.aside.get(data_set)

    def trained_on(self, data_set: str, cases: Sequence[str]) -> tuple[str, ...]:
        """Which of a data set's cases the model may have learned from: those that its training did not put aside."""
        aside = self.put_aside(data_set)
        return () if aside is None else tuple(case for case in cases if case not in aside)

    def _set(self, **values: object) -> None:
        for key, value in values.items():
            object.__setattr__(self, key, value)

    def _check_single_pass(self) -> None:
        """Without a sampler's table there is nothing to sample."""
        checks.integer("defaults.steps", self.defaults.steps, 0, 0)
        checks.integer("defaults.samples", self.defaults.samples, 0, 0)
        for key in ("process", "features"):
            if getattr(self, key):
                raise checks.wrong(key, getattr(self, key), "empty, as 'table' is: a single-pass model")
        denoisers = [name for name in self.files if name.startswith("graphs/denoiser.")]
        if denoisers:
            raise checks.wrong("files", denoisers[0], "graphs without a denoiser, as 'table' is empty")
        self._set(process=None, table=None)

    def _checked_volume(self, volume: dict[str, Any]) -> VolumeRule:
        if self.schema_version != VOLUME_SCHEMA:
            raise checks.wrong("schema_version", self.schema_version, f"{VOLUME_SCHEMA}, as 'volume' is not empty")
        if self.table:
            raise checks.wrong("table", self.table.to_dict(), "empty: a model that takes volumes has no denoiser")
        checks.choice("view", self.view, VIEWS[:3])
        return volume_rule(volume)

    def _items(self, key: str, kind: type) -> tuple[Any, ...]:
        items = checks.sequence(key, getattr(self, key))
        for index, item in enumerate(items):
            if not isinstance(item, kind):
                raise checks.wrong(f"{key}[{index}]", item, f"a {kind.__name__}")
        return items

    @property
    def settings(self) -> tuple[Setting, ...]:
        """The frontier's settings, best Dice first; empty for a model without a frontier."""
        return settings_of(self.frontier)

    @property
    def label_ids(self) -> dict[str, int]:
        """Name of each structure to its number in masks, in the order of the channels."""
        return {label.name: label.id for label in self.labels}

    @property
    def mask_ids(self) -> NDArray[np.uint8]:
        """The numbers in masks of the background and of each channel's structure, uint8 [K + 1]."""
        return ids_in_masks(self.label_ids.values())

    def to_json(self) -> str:
        """The manifest as the text of `manifest.json`, with a checksum over everything else in it."""
        values: dict[str, Any] = {"schema_version": self.schema_version}
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name not in _NEWER or value:
                values[each.name] = _plain(value)
        return json.dumps({**values, _CHECKSUM: digest(values)}, indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, data: str | bytes) -> Manifest:
        """Read a manifest; keys this version does not know are ignored, because a key that matters raises the schema.

        Raises:
            BundleError: not JSON, a newer schema, changed since it was written, a missing key, or a wrong value.
        """
        values = parse_text(data)
        check_schema(values.get("schema_version"))
        stated = values.pop(_CHECKSUM, None)
        if stated is not None and stated != digest(values):
            raise BundleError(
                f"manifest.json was changed after it was written (checksum {digest(values)[:12]}...)",
                f"the checksum it carries, {checks.describe(stated)}",
                checks.REMEDY,
            )
        for key in _OPTIONAL:
            checks.mapping(key, values.get(key, {}))
        for key, kind in (("labels", Label), ("features", Feature)):
            if key in values:
                items = checks.sequence(key, values[key])
                values[key] = tuple(_build(kind, f"{key}[{index}]", item) for index, item in enumerate(items))
        if "defaults" in values:
            values["defaults"] = _build(Defaults, "defaults", values["defaults"])
        return _build(cls, "", values)


_T = TypeVar("_T", bound=Label | Feature | Defaults | Manifest)


def _build(kind: type[_T], key: str, value: object) -> _T:
    if not isinstance(value, dict):
        raise checks.wrong(key, value, "an object")
    given = {each.name: value[each.name] for each in fields(kind) if each.name in value}
    needed = [each.name for each in fields(kind) if _is_needed(each)]
    missing = [name for name in needed if name not in given]
    if missing:
        place = f"the manifest's {key!r}" if key else "the manifest"
        raise BundleError(
            f"{place} has no {' and no '.join(repr(name) for name in missing)}",
            "the keys " + ", ".join(repr(name) for name in needed),
            checks.REMEDY,
        )
    return kind(**given)


def _is_needed(each: Field[Any]) -> bool:
    """Whether every manifest has this key: a model has a value of its own for it, or it has no default."""
    return about(each).model is not LEFT_OPEN or (each.default is MISSING and each.default_factory is MISSING)


def _mapping(key: str, given: object) -> dict[str, Any]:
    """A record, or its plain form, in its plain form: both are checked alike. None has an empty one."""
    return checks.mapping(key, _plain(given) if given is None or isinstance(given, _RECORDS) else given)


def _plain(value: Any) -> Any:
    """A field's value as JSON has it."""
    if value is None:
        return {}
    if isinstance(value, _RECORDS):
        return value.to_dict()
    if isinstance(value, Label | Feature):
        return asdict(value)
    if isinstance(value, Defaults):
        # An option that came after the first bundles is left out where it is open, so that those keep their bytes.
        open_ = {each.name for each in fields(value) if not _is_needed(each) and getattr(value, each.name) is None}
        return {name: stated for name, stated in asdict(value).items() if name not in open_}
    if isinstance(value, dict):
        return {name: item.to_dict() if isinstance(item, GateRecord) else item for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
