"""What rounding alone may do to a network's outputs: PyTorch against itself, in channels-last order and in float64.

Most networks notice little of either. One that takes the moments of whole slices in its norms, divides by the length of
a vector, or feeds its answer back for some steps can move a few pixels further than a tight limit allows, in PyTorch as
in any backend, while the mean over all pixels stays where it is. One that predicts noise divides by next to nothing at
the first of a thousand timesteps, and moves all pixels a little. So a backend may be as far from PyTorch, at its worst
pixel and in the mean, as PyTorch is from itself.

Float64 is for models of one pass: denoisers hold parts of themselves to float32, whatever surrounds them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from verdiff.diffusion.tables import SamplerTable
from verdiff.export.checks import MEAN_TOLERANCE, TOLERANCE, TOLERANCES, Check, mean_difference, probability_difference
from verdiff.export.golden import features_of, torch_reference
from verdiff.export.torch_graphs import PriorGraph
from verdiff.train.config import RunConfig
from verdiff.train.networks import SegmentationModel
from verdiff.train.prediction import X0Denoiser

Array = NDArray[np.float32]
# Two roundings are apart by up to the sum of what each is from the true value.
ALLOWANCE = 2.0
# A network whose own rounding moves a probability this far, or all of them so far in the mean, is no basis for a mask.
MOST, MOST_MEAN = 1e-2, 1e-4


@dataclass(frozen=True)
class Spread:
    """How far PyTorch is from itself at one stage, in probability: at the worst pixel, and in the mean over all."""

    worst: float
    mean: float

    @classmethod
    def of(cls, reference: Array, *others: NDArray[np.floating]) -> Spread:
        """The larger of the differences of ``others`` from ``reference``, all on [-1, 1]."""
        worst = max(probability_difference(other, reference) for other in others)
        return cls(worst, max(mean_difference(other, reference) for other in others))

    def allows(self, backend: str) -> float:
        """How far ``backend`` may be from PyTorch at its worst pixel, in probability."""
        return min(MOST, max(TOLERANCES.get(backend, TOLERANCE), ALLOWANCE * self.worst))

    @property
    def allows_mean(self) -> float:
        """How far any backend may be in the mean."""
        return min(MOST_MEAN, max(MEAN_TOLERANCE, ALLOWANCE * self.mean))


CALM = Spread(0.0, 0.0)


@torch.no_grad()
def rounding(
    net: SegmentationModel, config: RunConfig, table: SamplerTable | None, image: Array, reference: Mapping[str, Array]
) -> dict[str, Spread]:
    """How far PyTorch is from itself at each stage that is checked.

    Args:
        net: The network in evaluation mode.
        config: Its run's.
        table: Of the loop; None for a model of one pass.
        image: Slices [N, 1, H, W] in [-1, 1].
        reference: What :func:`verdiff.export.golden.torch_reference` gave for them.

    Returns:
        ``prior``, and with a table ``denoiser`` (one pass on the reference's own inputs) and ``loop``.
    """
    other = copy.deepcopy(net).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if table is None:
        exact = PriorGraph(copy.deepcopy(net).double()).eval()(torch.from_numpy(image).double())[0].numpy()
        turned = PriorGraph(other).eval()(torch.from_numpy(image))[0].numpy()
        return {"prior": Spread.of(reference["prior"], exact, turned)}
    found = torch_reference(other, config, table, image)
    step = X0Denoiser.of(other, config.process).eval()(
        torch.from_numpy(reference["x_start"]),
        torch.full((len(image),), float(table.timesteps[0])),
        torch.from_numpy(reference["prior"]),
        *map(torch.from_numpy, features_of(reference)),
    )
    last = f"x0hat_{len(table) - 1}"
    return {
        "prior": Spread.of(reference["prior"], found["prior"]),
        "denoiser": Spread.of(reference["x0hat_0"], step.numpy()),
        "loop": Spread.of(reference[last], found[last]),
    }


def within_rounding(backend: str, stage: str, ours: Array, theirs: Array, spread: Spread = CALM) -> list[Check]:
    """The checks of one stage against what rounding explains: its worst pixel, and the mean over all pixels."""
    return [
        Check(f"{backend} {stage}", probability_difference(ours, theirs), spread.allows(backend)),
        Check(f"{backend} {stage}, mean", mean_difference(ours, theirs), spread.allows_mean),
    ]
