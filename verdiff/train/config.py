"""A training run's configuration: frozen dataclasses read from one TOML file a model."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from verdiff.diffusion.process import Process
from verdiff.diffusion.schedules import Schedule
from verdiff.diffusion.tables import SamplerTable, make_table
from verdiff.errors import DataError, InputError
from verdiff.imaging.orientation import parse_orientation
from verdiff.settings import COUNT, bounded, check_bounds, table_of
from verdiff.systems import system_named
from verdiff.train.network_classes import settings_class


@dataclass(frozen=True)
class DataConfig:
    """What the model sees: modality, view, in-plane spacing in mm (``None``: pixels as they are) and intensities.

    A 3D system also has ``slice_spacing_mm``, which makes of every scan one volume on its grid, and ``crop``, the share
    of a slice's columns that it looks at, around the middle. ``middle_slices`` is how many slices around the middle of
    each scan are used; ``None`` uses all. With ``soft_masks`` the truth of a pixel is the share of it that a structure
    covers, from masks on the scan's own or a finer grid; without, it is the structure that covers half of it.
    ``orientation`` is taken where a file leaves its own open, as :func:`verdiff.imaging.read_volume` has it.
    """

    modality: str = "MR"
    view: str = "sagittal"
    spacing_mm: float | None = bounded(None, 0, above=True)
    slice_spacing_mm: float | None = bounded(None, 0, above=True)
    crop: float = bounded(1.0, 0, 1, above=True)
    intensity_kind: str = "percentile"
    intensity_low: float = 0.5
    intensity_high: float = 99.5
    middle_slices: int | None = bounded(None, 1)
    soft_masks: bool = False
    orientation: str | None = None

    def __post_init__(self) -> None:
        check_bounds(type(self), vars(self), "[data]")
        try:
            object.__setattr__(self, "orientation", parse_orientation(self.orientation))
        except InputError as error:
            raise DataError(error.found, error.expected, error.remedy) from error

    def preparation(self) -> dict[str, Any]:
        """The settings that a prepared cache depends on: all but ``middle_slices``, which choose among its slices."""
        return {key: value for key, value in dataclasses.asdict(self).items() if key != "middle_slices"}


@dataclass(frozen=True)
class ProcessConfig:
    """The diffusion process and what the network predicts (``x0``, ``epsilon`` or ``v``)."""

    name: str = "verdiff"
    schedule: str = "linear"
    timesteps: int = bounded(1000, 1)
    signal_scale: float = bounded(1.0, 0, 1, above=True)
    prediction: str = "x0"

    def __post_init__(self) -> None:
        check_bounds(type(self), vars(self), "[process]")

    def build(self) -> Process:
        """The process itself, from :mod:`verdiff.diffusion`."""
        schedule = Schedule(self.schedule, self.timesteps)  # type: ignore[arg-type]
        return Process(self.name, schedule, self.signal_scale)  # type: ignore[arg-type]


@dataclass(frozen=True)
class SamplingConfig:
    """How masks are drawn in validation, and the defaults an exported bundle starts from."""

    sampler: str = "ddim"
    steps: int = bounded(3, 1)
    samples: int = bounded(1, 1)
    eta: float = bounded(0.0, 0, 1)
    start: str = "noise"
    start_step: int | None = bounded(None, 1)
    fusion: str = "mean"
    seed: int = bounded(35, 0)

    def __post_init__(self) -> None:
        check_bounds(type(self), vars(self), "[sampling]")

    def table(self, process: Process) -> SamplerTable:
        """The sampler table these settings stand for."""
        return make_table(
            process,
            sampler=self.sampler,  # type: ignore[arg-type]
            steps=self.steps,
            eta=self.eta,
            start=self.start,  # type: ignore[arg-type]
            start_step=self.start_step,
        )


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes to training slices. The first four are the paper's (section 2.3.2 of its experiments).

    ``rotation_deg``, ``shift`` (fraction of the crop) and ``elastic_px`` bound the geometry, ``contrast`` the factor
    around the mean. The others stand for other scanners: ``zoom`` (a factor up or down), ``gamma``, ``bias_field``
    (amplitude of a smooth multiplicative field), ``blur_px``, ``noise`` (standard deviation on the [-1, 1] scale),
    ``low_resolution`` (largest factor of in-plane undersampling, of both axes or of one), ``field_of_view`` (chance
    that bands at one to three edges are outside the image, each at most ``field_of_view_depth`` of it deep, and with
    them what the mask has there), ``small_field`` (chance that a batch is cut to a few centimetres around the spine,
    its intensities scaled anew, as those of a scan of such a small field would be), ``wide_field`` (chance that a batch
    sees a third more), ``mirror`` (each in-plane axis flipped with even odds, nnU-Net's).

    The chances of what sets sequences and vendors apart, each a share of the samples: ``intensity_map`` (a random
    shallow network of the image, after Ouyang et al. 2022), ``invert`` (bright and dark exchanged), ``rescale``
    (scaled by the crop's own percentiles), ``grey_levels`` (few of them, as in 8-bit and coarser exports), ``ghost``
    (a weak copy along one axis, as motion makes), ``metal`` (voids around screws and cages).
    """

    rotation_deg: float = bounded(30.0, 0, 180)
    shift: float = bounded(0.05, 0, 1)
    elastic_px: float = bounded(4.0, 0)
    contrast: float = bounded(0.25, 0, 1)
    zoom: float = bounded(1.0, 1)
    gamma: float = bounded(0.0, 0)
    bias_field: float = bounded(0.0, 0)
    blur_px: float = bounded(0.0, 0)
    noise: float = bounded(0.0, 0)
    low_resolution: float = bounded(1.0, 1)
    field_of_view: float = bounded(0.0, 0, 1)
    field_of_view_depth: float = bounded(0.3, 0, 1)
    small_field: float = bounded(0.0, 0, 1)
    wide_field: float = bounded(0.0, 0, 1)
    intensity_map: float = bounded(0.0, 0, 1)
    invert: float = bounded(0.0, 0, 1)
    rescale: float = bounded(0.0, 0, 1)
    grey_levels: float = bounded(0.0, 0, 1)
    ghost: float = bounded(0.0, 0, 1)
    metal: float = bounded(0.0, 0, 1)
    mirror: bool = False

    def __post_init__(self) -> None:
        check_bounds(type(self), vars(self), "[augment]")


@dataclass(frozen=True)
class TrainingConfig:
    """The optimisation. ``crop`` (rows, columns) of ``None`` trains on whole slices, padded, never squared.

    ``optimizer`` is ``adam``, ``adamw`` or ``sgd`` (Nesterov, with ``momentum``); ``decay`` is ``none``, ``cosine``,
    ``poly`` ((1 - progress)^0.9, nnU-Net's) or ``plateau``: times ``plateau_factor`` after ``plateau_patience``
    validations without a better one.

    ``prior_first`` is the share of the run in which the prior network is trained alone: the denoiser, which costs more
    than half of an iteration, then starts with a prior that is worth correcting.

    ``keep_first`` is for a run that goes on from other weights (``--from``): when it ends, weights that lie this share
    of the way back to the first ones are kept as ``blended.pt`` beside the last ones.

    ``recycle`` is the share of samples whose x_t is made from the model's own prediction instead of the true mask;
    ``from_prior`` the share whose x_t is made from the prior mask, for chains that start there (SpineSegDiff's released
    code makes all of them so); ``corrupt`` the share whose prior is damaged before the denoiser sees it;
    ``timestep_power`` p draws t = T u^(1/p), so that p > 1 leans towards high noise. Loss weights follow the paper's
    Eq. 10 and SpineSegDiff: mean square error on the prediction's target, binary cross-entropy and soft Dice on x0hat.

    A validation comes after every ``validate_every`` iterations, on every ``validate_slices``-th slice of each case.
    """

    iterations: int = bounded(9000, 1)
    minutes: float | None = bounded(None, 0)
    batch: int = bounded(1, 1)
    crop: tuple[int, int] | None = bounded(None, 1)
    optimizer: str = "adam"
    learning_rate: float = bounded(1e-4, 0)
    momentum: float = bounded(0.99, 0, 1)
    weight_decay: float = bounded(0.0, 0)
    warmup: int = bounded(0, 0)
    decay: str = "none"
    plateau_factor: float = bounded(0.5, 0, 1, above=True)
    plateau_patience: int = bounded(10, 0)
    clip: float = bounded(1.0, 0, above=True)
    ema: float = bounded(0.999, 0, 1)
    seed: int = bounded(35, 0)
    prior_first: float = bounded(0.0, 0, 1)
    keep_first: float = bounded(0.0, 0, 1)
    recycle: float = bounded(0.0, 0, 1)
    from_prior: float = bounded(0.0, 0, 1)
    corrupt: float = bounded(0.0, 0, 1)
    timestep_power: float = bounded(1.0, 0, above=True)
    loss_mse: float = bounded(1.0, 0)
    loss_bce: float = bounded(1.0, 0)
    loss_dice: float = bounded(0.0, 0)
    loss_prior: float = bounded(1.0, 0)
    validate_every: int = bounded(250, 1)
    validate_slices: int = bounded(3, 1)
    patience: int | None = bounded(None, 1)

    def __post_init__(self) -> None:
        for key, value, known in (
            ("optimizer", self.optimizer, ("adam", "adamw", "sgd")),
            ("decay", self.decay, ("none", "cosine", "poly", "plateau")),
        ):
            if value not in known:
                raise DataError(f"{key} = {value!r}", f"one of {', '.join(known)}", "correct [training]")
        check_bounds(type(self), vars(self), "[training]")


MOST_STUDENT_STEPS = 4


@dataclass(frozen=True)
class DistillationConfig:
    """How ``verdiff distill`` makes a denoiser of ``steps`` steps (1 to 4) from a run of this configuration.

    The teacher is the run itself, sampled with ``teacher_steps`` steps and the mean of ``teacher_samples`` samples.
    ``truth_weight`` is the share of the loss that the true mask has, beside the teacher's. The other keys replace
    those of ``[training]``; the optimiser is Adam with a cosine decay.
    """

    steps: int = 1
    teacher_steps: int = 5
    teacher_samples: int = bounded(2, 1)
    truth_weight: float = bounded(0.5, 0, 1)
    iterations: int = bounded(2000, 1)
    minutes: float | None = bounded(None, 0)
    learning_rate: float = bounded(3e-4, 0)
    warmup: int = bounded(20, 0)
    ema: float = bounded(0.99, 0, 1)
    validate_every: int = bounded(100, 1)

    def __post_init__(self) -> None:
        check_bounds(type(self), vars(self), "[distillation]")
        if not 1 <= self.steps <= MOST_STUDENT_STEPS or self.teacher_steps < self.steps:
            raise DataError(
                f"a student of {self.steps} steps and a teacher of {self.teacher_steps}",
                f"1 to {MOST_STUDENT_STEPS} steps, and a teacher of no fewer",
                "correct --steps or --teacher-steps",
            )


@dataclass(frozen=True)
class RunConfig:
    """Everything that defines a training run, apart from the data set, the fold and the machine.

    ``system`` is one of :data:`verdiff.systems.SYSTEMS` and decides what ``network`` is: the settings that system has,
    a :class:`~verdiff.train.networks.NetworkSettings`; by default its own defaults.
    """

    model_id: str = "verdiff-net"
    system: str = "verdiff-net"
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
        check_bounds(type(self.network), vars(self.network), "[network]", numbers=COUNT)
        if self.dimensions == 2 and self.training.crop is not None:
            _check_crop(self.training.crop, self.network.multiple)

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


def _check_crop(crop: tuple[int, ...], multiple: int) -> None:
    if len(crop) != 2 or any(side % multiple or side < 2 * multiple for side in crop):
        raise DataError(
            f"crop = {list(crop)}",
            f"rows and columns, each a multiple of {multiple} with this network, and {2 * multiple} or more",
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
    for setting in settings:
        table, key, value = _parsed(setting)
        values.setdefault(table, {})[key] = value
    return values


def _parsed(setting: str) -> tuple[str, str, Any]:
    """``training.batch=2`` -> ("training", "batch", 2); what is no TOML value is taken as a word."""
    name, equals, text = setting.partition("=")
    table, dot, key = name.strip().partition(".")
    if not (equals and dot and table and key):
        raise DataError(f"the setting {setting!r}", "TABLE.KEY=VALUE, as training.batch=2", "correct it")
    try:
        return table, key, tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return table, key, text.strip()
