"""The tables of a training configuration: every key with its type, limits, default and help.

``docs/configuration.md`` is made from these fields (``make reference``). The ``[network]`` table is the system's own,
in its module of ``verdiff/train/networks/``; :mod:`verdiff.train.config` puts them together.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace
from typing import Any, get_args

from numpy.random import Generator

from verdiff.choices import DECAYS, MODALITIES, OPTIMIZERS, PREDICTIONS, VIEWS
from verdiff.diffusion.process import Process, ProcessName
from verdiff.diffusion.schedules import Schedule, ScheduleKind
from verdiff.diffusion.tables import SamplerTable, make_table
from verdiff.errors import DataError, InputError
from verdiff.imaging.intensity import INTENSITY_KINDS
from verdiff.imaging.orientation import parse_orientation
from verdiff.options import ModelSampling
from verdiff.settings import COUNT, LEFT_OPEN, Bounds, OneOf, about, check_limits, setting

SHARE = Bounds(0, 1)
ABOVE_ZERO = Bounds(0, above=True)
NOT_NEGATIVE = Bounds(0)


@dataclass(frozen=True)
class DataConfig:
    """What the model sees of a scan. A prepared cache remembers these settings."""

    modality: str = setting("MR", "Kind of scan: MR, CT, or XR for a film.", OneOf(MODALITIES))
    view: str = setting("sagittal", "Direction in which the model looks at a scan.", OneOf(VIEWS))
    spacing_mm: float | None = setting(
        None, "Pixel spacing in mm that slices are resampled to. Left out: pixels stay as they are.", ABOVE_ZERO
    )
    slice_spacing_mm: float | None = setting(
        None, "3D systems: distance of slices in mm, so that every scan becomes one volume on one grid.", ABOVE_ZERO
    )
    crop: float = setting(
        1.0, "3D systems: share of a slice's columns that is used, around the middle.", Bounds(0, 1, above=True)
    )
    intensity_kind: str = setting(
        "percentile",
        "What `intensity_low` and `intensity_high` are: percentiles of the scan, standard deviations from its mean "
        "(zscore), or Hounsfield units (window).",
        OneOf(INTENSITY_KINDS),
    )
    intensity_low: float = setting(0.5, "Intensity that becomes -1; whatever is lower does too.")
    intensity_high: float = setting(99.5, "Intensity that becomes 1; whatever is higher does too.")
    middle_slices: int | None = setting(
        None, "Slices around the middle of each scan that are trained on. Left out: all slices.", COUNT
    )
    soft_masks: bool = setting(
        False, "Truth of a pixel as the share of it that a structure covers. Else a structure covers it or does not."
    )
    orientation: str | None = setting(
        None, "Orientation of files that state none, as three letters such as RAS, or qform or sform."
    )

    def __post_init__(self) -> None:
        check_limits(type(self), vars(self), "[data]")
        try:
            object.__setattr__(self, "orientation", parse_orientation(self.orientation))
        except InputError as error:
            raise DataError(error.found, error.expected, error.remedy) from error

    def preparation(self) -> dict[str, Any]:
        """The settings that a prepared cache depends on: all but ``middle_slices``, which choose among its slices."""
        return {key: value for key, value in dataclasses.asdict(self).items() if key != "middle_slices"}


@dataclass(frozen=True)
class ProcessConfig:
    """The diffusion process: how noise and prior are mixed into a mask."""

    name: str = setting(
        "verdiff",
        "Share of the prior in the mixture: that of Verdiff-Net, that of CARD, or none (ddpm).",
        OneOf(get_args(ProcessName)),
    )
    schedule: str = setting("linear", "How noise grows with the timestep.", OneOf(get_args(ScheduleKind)))
    timesteps: int = setting(1000, "Number of timesteps, T.", COUNT)
    signal_scale: float = setting(
        1.0,
        "Factor on mask and prior before noise is added. A smaller one hides the mask at earlier timesteps.",
        Bounds(0, 1, above=True),
    )
    prediction: str = setting("x0", "What the denoiser predicts: the mask, the noise, or v.", OneOf(PREDICTIONS))

    def __post_init__(self) -> None:
        check_limits(type(self), vars(self), "[process]")

    def build(self) -> Process:
        """The process itself, from :mod:`verdiff.diffusion`."""
        schedule = Schedule(self.schedule, self.timesteps)  # type: ignore[arg-type]
        return Process(self.name, schedule, self.signal_scale)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class SamplingConfig(ModelSampling):
    """How masks are drawn in validation. An exported bundle has these settings as its defaults."""

    def __post_init__(self) -> None:
        for each in dataclasses.fields(self):
            if getattr(self, each.name) is None and about(each).model is not LEFT_OPEN:
                object.__setattr__(self, each.name, about(each).model)
        check_limits(type(self), vars(self), "[sampling]")

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
    """Random changes to training slices. The first four are those of the Verdiff-Net paper, the others stand for other
    scanners and sequences. A chance is a share of the samples."""

    rotation_deg: float = setting(30.0, "Largest rotation in degrees.", Bounds(0, 180))
    shift: float = setting(0.05, "Largest shift, as a share of the crop.", SHARE)
    elastic_px: float = setting(4.0, "Largest elastic displacement in pixels.", NOT_NEGATIVE)
    contrast: float = setting(0.25, "Largest change of the factor on intensities around their mean.", SHARE)
    zoom: float = setting(1.0, "Largest factor of size, up or down.", Bounds(1))
    gamma: float = setting(0.0, "Largest change of the gamma curve's exponent, as a logarithm.", NOT_NEGATIVE)
    bias_field: float = setting(0.0, "Amplitude of a smooth field that multiplies intensities.", NOT_NEGATIVE)
    blur_px: float = setting(0.0, "Largest standard deviation of a blur in pixels.", NOT_NEGATIVE)
    noise: float = setting(0.0, "Largest standard deviation of noise; intensities run from -1 to 1.", NOT_NEGATIVE)
    low_resolution: float = setting(1.0, "Largest factor of undersampling, of both axes or of one.", Bounds(1))
    field_of_view: float = setting(0.0, "Chance of black bands at one to three edges.", SHARE)
    field_of_view_depth: float = setting(0.3, "Largest depth of such a band, as a share of the image.", SHARE)
    small_field: float = setting(
        0.0, "Chance of a cut to a few centimetres around the spine, with intensities scaled anew.", SHARE
    )
    wide_field: float = setting(0.0, "Chance of a field of view that is a third wider.", SHARE)
    intensity_map: float = setting(
        0.0, "Chance of another contrast, made by a random shallow network (Ouyang et al. 2022).", SHARE
    )
    invert: float = setting(0.0, "Chance that bright and dark are exchanged.", SHARE)
    rescale: float = setting(0.0, "Chance that intensities are scaled by the crop's own percentiles.", SHARE)
    grey_levels: float = setting(0.0, "Chance of few grey levels, as in 8-bit exports and coarser ones.", SHARE)
    ghost: float = setting(0.0, "Chance of a weak copy along one axis, as motion makes.", SHARE)
    metal: float = setting(0.0, "Chance of voids, as screws and cages make.", SHARE)
    mirror: bool = setting(False, "Flips of each in-plane axis, with even odds (nnU-Net's).")
    plain: float = setting(
        0.0,
        "Share of the samples that keep the look of their own scanner: of this table they have rotation, shift, "
        "elastic displacement, contrast, zoom, gamma, bias field, noise and flips alone.",
        SHARE,
    )

    def __post_init__(self) -> None:
        check_limits(type(self), vars(self), "[augment]")

    def of_sample(self, rng: Generator) -> AugmentConfig:
        """What one sample may have done to it: all of this, or what leaves it the look of its scanner."""
        if not self.plain or rng.random() >= self.plain:
            return self
        return replace(
            self, blur_px=0.0, low_resolution=1.0, field_of_view=0.0, intensity_map=0.0, invert=0.0, rescale=0.0,
            grey_levels=0.0, ghost=0.0, metal=0.0,
        )  # fmt: skip


@dataclass(frozen=True)
class TrainingConfig:
    """The optimisation. Loss weights are those of the Verdiff-Net paper's equation 10 and of SpineSegDiff."""

    iterations: int = setting(9000, "Iterations of the run.", COUNT)
    minutes: float | None = setting(
        None,
        "Time of the run in minutes. It ends when this time or `iterations` is reached; 0 learns nothing.",
        NOT_NEGATIVE,
    )
    batch: int = setting(1, "Samples of an iteration.", COUNT)
    crop: tuple[int, int] | None = setting(
        None,
        "2D systems: rows and columns of a training sample, multiples of what the network halves. "
        "Left out: whole slices, padded.",
        COUNT,
    )
    optimizer: str = setting("adam", "Optimiser; sgd is Nesterov's.", OneOf(OPTIMIZERS))
    learning_rate: float = setting(1e-4, "Learning rate after the warm-up.", NOT_NEGATIVE)
    momentum: float = setting(0.99, "Momentum of sgd.", SHARE)
    weight_decay: float = setting(0.0, "Weight decay.", NOT_NEGATIVE)
    warmup: int = setting(0, "Iterations in which the learning rate rises from 0.", NOT_NEGATIVE)
    decay: str = setting(
        "none",
        "How the learning rate falls: poly is (1 - progress)^0.9 (nnU-Net's), plateau falls when validation stands "
        "still.",
        OneOf(DECAYS),
    )
    plateau_factor: float = setting(0.5, "Factor on the learning rate at a plateau.", Bounds(0, 1, above=True))
    plateau_patience: int = setting(10, "Validations without a better one that make a plateau.", NOT_NEGATIVE)
    clip: float = setting(1.0, "Largest norm of the gradients; longer ones are shortened to it.", ABOVE_ZERO)
    ema: float = setting(
        0.999, "Share that the averaged weights keep at each iteration. They are validated and exported.", SHARE
    )
    seed: int = setting(35, "Seed of weights, data and augmentation.", NOT_NEGATIVE)
    prior_first: float = setting(
        0.0, "Share of the run that trains the prior network alone, so that the denoiser has one worth mending.", SHARE
    )
    keep_first: float = setting(
        0.0,
        "With `--from`: how far `blended.pt` lies on the way from the last weights back to the first. 0 keeps none.",
        SHARE,
    )
    recycle: float = setting(0.0, "Share of noisy masks made from the model's own prediction, not the truth.", SHARE)
    from_prior: float = setting(
        0.0, "Share of noisy masks made from the prior, for sampling that starts there (SpineSegDiff).", SHARE
    )
    corrupt: float = setting(0.0, "Share of priors that are damaged before the denoiser sees them.", SHARE)
    timestep_power: float = setting(
        1.0, "p in t = T u^(1/p), which draws timesteps. Above 1 it draws noisy ones more often.", ABOVE_ZERO
    )
    loss_mse: float = setting(1.0, "Weight of the mean square error of what the denoiser predicts.", NOT_NEGATIVE)
    loss_bce: float = setting(1.0, "Weight of the mask's binary cross-entropy.", NOT_NEGATIVE)
    loss_dice: float = setting(0.0, "Weight of the mask's soft Dice loss.", NOT_NEGATIVE)
    loss_prior: float = setting(1.0, "Weight of the prior's own loss.", NOT_NEGATIVE)
    validate_every: int = setting(250, "Iterations between validations.", COUNT)
    validate_slices: int = setting(3, "n: every n-th slice of a case is validated.", COUNT)
    validate_cases: int = setting(1, "n: every n-th of the cases put aside is validated.", COUNT)
    patience: int | None = setting(None, "Validations without a better one that end the run. Left out: none do.", COUNT)

    def __post_init__(self) -> None:
        check_limits(type(self), vars(self), "[training]")


MOST_STUDENT_STEPS = 4


@dataclass(frozen=True)
class DistillationConfig:
    """How ``verdiff distill`` makes a denoiser of few steps, the student, from a run, its teacher.

    Keys that ``[training]`` has too replace those. The optimiser is Adam with a cosine decay.
    """

    steps: int = setting(1, "Steps of the student.", Bounds(1, MOST_STUDENT_STEPS))
    teacher_steps: int = setting(5, "Steps of the teacher, no fewer than the student's.", COUNT)
    teacher_samples: int = setting(2, "Samples of the teacher, whose mean is learnt.", COUNT)
    truth_weight: float = setting(0.5, "Share of the loss that the true mask has, beside the teacher's.", SHARE)
    iterations: int = setting(2000, "Iterations of the run.", COUNT)
    minutes: float | None = setting(
        None,
        "Time of the run in minutes. It ends when this time or `iterations` is reached; 0 learns nothing.",
        NOT_NEGATIVE,
    )
    learning_rate: float = setting(3e-4, "Learning rate after the warm-up.", NOT_NEGATIVE)
    warmup: int = setting(20, "Iterations in which the learning rate rises from 0.", NOT_NEGATIVE)
    ema: float = setting(0.99, "Share that the averaged weights keep at each iteration.", SHARE)
    validate_every: int = setting(100, "Iterations between validations.", COUNT)

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= MOST_STUDENT_STEPS or self.teacher_steps < self.steps:
            raise DataError(
                f"a student of {self.steps} steps and a teacher of {self.teacher_steps}",
                f"1 to {MOST_STUDENT_STEPS} steps, and a teacher of no fewer",
                "correct --steps or --teacher-steps",
            )
        check_limits(type(self), vars(self), "[distillation]")
