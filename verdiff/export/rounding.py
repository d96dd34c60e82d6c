"""What rounding alone may do to a network's outputs: PyTorch against itself, in channels-last order and in float64.

Most networks notice little of either. One that takes the moments of whole slices in its norms, divides by the length of
a vector, or feeds its answer back for some steps can move a few pixels further than a tight limit allows, in PyTorch as
in any backend, while the mean over all pixels stays where it is. So a backend may be as far from PyTorch at its worst
pixel as PyTorch is from itself, and the mean has no such allowance.

Float64 is for models of one pass: denoisers hold parts of themselves to float32, whatever surrounds them.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray

from verdiff.diffusion.tables import SamplerTable
from verdiff.export.checks import MEAN_TOLERANCE, TOLERANCE, TOLERANCES, Check, mean_difference, probability_difference
from verdiff.export.golden import torch_reference
from verdiff.export.torch_graphs import PriorGraph
from verdiff.train.config import RunConfig
from verdiff.train.networks import SegmentationModel
from verdiff.train.prediction import X0Denoiser

Array = NDArray[np.float32]
# Two roundings are apart by up to the sum of what each is from the true value.
ALLOWANCE = 2.0
# A network whose own rounding moves a probability this far is no basis for anything.
MOST = 1e-2


@torch.no_grad()
def rounding(
    net: SegmentationModel, config: RunConfig, table: SamplerTable | None, image: Array, reference: dict[str, Array]
) -> dict[str, float]:
    """The largest difference of PyTorch from itself, in probability, at each stage that is checked.

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
        return {"prior": max(probability_difference(found, reference["prior"]) for found in (exact, turned))}
    found = torch_reference(other, config, table, image)
    count = sum(key.startswith("feature_") for key in reference)
    step = X0Denoiser.of(other, config.process).eval()(
        torch.from_numpy(reference["x_start"]),
        torch.full((len(image),), float(table.timesteps[0])),
        torch.from_numpy(reference["prior"]),
        *(torch.from_numpy(reference[f"feature_{index}"]) for index in range(count)),
    )
    last = f"x0hat_{len(table) - 1}"
    return {
        "prior": probability_difference(found["prior"], reference["prior"]),
        "denoiser": probability_difference(step.numpy(), reference["x0hat_0"]),
        "loop": probability_difference(found[last], reference[last]),
    }


def allowed(backend: str, spread: float) -> float:
    """How far ``backend`` may be from PyTorch at its worst pixel, in probability.

    Args:
        backend: Such as ``"onnxruntime"``.
        spread: How far PyTorch is from itself there.
    """
    return min(MOST, max(TOLERANCES.get(backend, TOLERANCE), ALLOWANCE * spread))


def within_rounding(backend: str, stage: str, ours: Array, theirs: Array, spread: float) -> list[Check]:
    """The checks of one stage: its worst pixel against what rounding explains, and its mean over all pixels."""
    return [
        Check(f"{backend} {stage}", probability_difference(ours, theirs), allowed(backend, spread)),
        Check(f"{backend} {stage}, mean", mean_difference(ours, theirs), MEAN_TOLERANCE),
    ]
