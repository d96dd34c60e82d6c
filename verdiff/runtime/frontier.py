"""The model's frontier: settings measured when it was exported, their Dice and their cost, to choose from by time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from verdiff.choices import WHOLE
from verdiff.errors import InputError

if TYPE_CHECKING:
    from verdiff.bundle import Manifest


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


@dataclass(frozen=True)
class Pace:
    """What a machine was seen to need: seconds a pixel (voxel) of one slice's (window's) pass, while all lanes work.

    Attributes:
        prior: Seconds of the prior.
        denoiser: Seconds of one denoiser step of one sample; 0 for a single-pass model.
    """

    prior: float
    denoiser: float


def settings_of(manifest: Manifest) -> tuple[Setting, ...]:
    """The settings on record, best Dice first; empty for a model without a frontier."""
    rows: list[dict[str, Any]] = manifest.frontier.get("settings", [])
    found = [Setting(r["steps"], r["samples"], r["policy"], r["dice"], r.get("name")) for r in rows]
    return tuple(sorted(found, key=lambda setting: -setting.dice))


def named_setting(manifest: Manifest, name: str) -> Setting:
    """The setting of this name.

    Raises:
        InputError: The model has none of that name.
    """
    settings = settings_of(manifest)
    for setting in settings:
        if setting.name == name:
            return setting
    known = ", ".join(setting.name for setting in settings if setting.name) or "none"
    raise InputError(
        f"the setting {name!r} of {manifest.model_id} {manifest.version}",
        f"a setting on its record (there: {known})",
        "name steps, samples and policy yourself, or export the model with a frontier (docs/runtime.md)",
    )


def best_within(
    settings: tuple[Setting, ...], seconds: float, cost: Callable[[Setting], float]
) -> tuple[Setting, float] | None:
    """The setting with the best Dice whose ``cost`` in seconds fits, the quicker of two that are as good.

    Returns:
        It and its predicted seconds; None where none fits.
    """
    fitting = [(setting, cost(setting)) for setting in settings]
    fitting = [(setting, needed) for setting, needed in fitting if needed <= seconds]
    return max(fitting, key=lambda pair: (pair[0].dice, -pair[1]), default=None)
