"""A training run's configuration: frozen dataclasses read from one TOML file a model."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from verdiff.errors import DataError
from verdiff.settings import COUNT, OneOf, check_limits, setting, table_of
from verdiff.systems import SYSTEMS, system_named
from verdiff.train.config_tables import (
    MOST_STUDENT_STEPS,
    AugmentConfig,
    DataConfig,
    DistillationConfig,
    ProcessConfig,
    SamplingConfig,
    TrainingConfig,
)
from verdiff.train.network_classes import settings_class

__all__ = [
    "MOST_STUDENT_STEPS",
    "AugmentConfig",
    "DataConfig",
    "DistillationConfig",
    "ProcessConfig",
    "RunConfig",
    "SamplingConfig",
    "TrainingConfig",
    "changed_config",
    "load_config",
    "parse_setting",
    "shipped_configs",
]


@dataclass(frozen=True)
class RunConfig:
    """Everything that defines a training run, apart from the data set, the fold and the machine.

    ``system`` is one of :data:`verdiff.systems.SYSTEMS` and decides what ``network`` is: the settings that system has,
    a :class:`~verdiff.train.networks.NetworkSettings`; by default its own defaults.
    """

    model_id: str = setting("verdiff-net", "Name of the configuration; a bundle has the name of its run's folder.")
    system: str = setting("verdiff-net", "Which system is trained; `verdiff models` lists them.", OneOf(tuple(SYSTEMS)))
    data: DataConfig = field(default_factory=DataConfig)
    network: Any = None
    process: ProcessConfig = field(default_factory=ProcessConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)

    def __post_init__(self) -> None:
        if self.network is None:
            object.__setattr__(self, "network", settings_class(self.system)())
        check_limits(type(self.network), vars(self.network), "[network]", numbers=COUNT)
        if self.dimensions == 2 and self.training.crop is not None:
            multiple = self.network.multiple
            _check_crop(self.training.crop, getattr(self.network, "multiples", (multiple, multiple)))

    @property
    def diffusion(self) -> bool:
        """Whether the system has a denoiser."""
        return system_named(self.system).diffusion

    @property
    def dimensions(self) -> int:
        """2 or 3."""
        return system_named(self.system).dimensions

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as they would stand in the TOML file."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any], origin: str = "the configuration") -> RunConfig:
        """The inverse of :meth:`to_dict`. Raises DataError on an unknown key or a value of the wrong type."""
        names = {key: str(values.get(key, getattr(cls, key))) for key in ("model_id", "system")}
        sections: dict[str, Any] = {
            f.name: settings_class(names["system"]) if f.name == "network" else f.default_factory
            for f in dataclasses.fields(cls)
            if f.name not in names
        }
        unknown = sorted(set(values) - set(sections) - set(names))
        if unknown:
            raise DataError(
                f"{origin} has the table or key {unknown[0]!r}",
                f"{', '.join(names)}, {', '.join(sections)}",
                "remove it or correct its spelling",
            )
        built: dict[str, Any] = {
            name: table_of(
                kind,
                dict(values.get(name) or {}),
                f"{origin} [{name}]",
                numbers=COUNT if name == "network" else None,
            )
            for name, kind in sections.items()
        }
        return cls(names["model_id"], names["system"], **built)


def _check_crop(crop: tuple[int, ...], multiples: tuple[int, int]) -> None:
    fits = len(crop) == 2 and all(
        side % each == 0 and side >= 2 * each for side, each in zip(crop, multiples, strict=True)
    )
    if not fits:
        of = " and ".join(str(each) for each in dict.fromkeys(multiples))
        raise DataError(
            f"crop = {list(crop)}",
            f"rows and columns, multiples of {of} with this network, and at least twice that",
            "correct [training]",
        )


def shipped_configs() -> dict[str, Path]:
    """The configurations that ship with verdiff, by name."""
    folder = Path(str(resources.files("verdiff.train") / "configs"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load_config(name_or_path: str | Path, settings: Sequence[str] = ()) -> RunConfig:
    """A shipped configuration by name, or a TOML file.

    Args:
        name_or_path: Name of a shipped configuration, or the path of a TOML file.
        settings: ``TABLE.KEY=VALUE`` each, the value as TOML has it, in place of what stands there.

    Raises:
        DataError: There is no such configuration, or it or a setting is not usable.
    """
    shipped = shipped_configs()
    path = shipped.get(str(name_or_path), Path(name_or_path))
    if not path.is_file():
        raise DataError(
            f"no configuration named {str(name_or_path)!r}",
            f"one of {', '.join(shipped)}, or the path of a TOML file",
            "check the name",
        )
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{path.name} is not TOML: {error}", "a TOML file", "correct the line it names") from error
    return RunConfig.from_dict(_with_settings(values, settings), path.name)


def changed_config(config: RunConfig, settings: Sequence[str]) -> RunConfig:
    """A configuration with settings, ``TABLE.KEY=VALUE`` each. Raises DataError when one is not usable."""
    return RunConfig.from_dict(_with_settings(config.to_dict(), settings)) if settings else config


def _with_settings(values: dict[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    for given in settings:
        table, key, value = parse_setting(given)
        values.setdefault(table, {})[key] = value
    return values


def parse_setting(given: str) -> tuple[str, str, Any]:
    """``training.batch=2`` -> ("training", "batch", 2); what is no TOML value is taken as a word."""
    name, equals, text = given.partition("=")
    table, dot, key = name.strip().partition(".")
    if not (equals and dot and table and key):
        raise DataError(f"the setting {given!r}", "TABLE.KEY=VALUE, as training.batch=2", "correct it")
    try:
        return table, key, tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return table, key, text.strip()
