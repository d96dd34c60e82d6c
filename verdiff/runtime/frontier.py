"""The model's frontier: settings measured when it was exported, their Dice and their cost, to choose from by time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from verdiff.errors import InputError

if TYPE_CHECKING:
    from verdiff.bundle import Manifest
    from verdiff.bundle.objects import Setting


@dataclass(frozen=True)
class Pace:
    """What a machine was seen to need: seconds a pixel (voxel) of one slice's (window's) pass, while all lanes work.

    Attributes:
        prior: Seconds of the prior.
        denoiser: Seconds of one denoiser step of one sample; 0 for a single-pass model.
    """

    prior: float
    denoiser: float


def named_setting(manifest: Manifest, name: str) -> Setting:
    """The setting of this name.

    Raises:
        InputError: The model has none of that name.
    """
    for setting in manifest.settings:
        if setting.name == name:
            return setting
    known = ", ".join(setting.name for setting in manifest.settings if setting.name) or "none"
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
