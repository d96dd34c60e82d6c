"""How far PyTorch is from itself: a model computed in channels-last order and in float64.

Float64 is for models of one pass: denoisers hold parts of themselves to float32, whatever surrounds them. A model that
predicts noise divides by next to nothing at the first of a thousand timesteps, and moves all pixels a little.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from verdiff.diffusion.tables import SamplerTable
from verdiff.export.golden import features_of, torch_reference
from verdiff.export.spread import Spread
from verdiff.export.torch_graphs import PriorGraph
from verdiff.train.config import RunConfig
from verdiff.train.networks import SegmentationModel
from verdiff.train.prediction import X0Denoiser

Array = NDArray[np.float32]


@torch.no_grad()
def rounding(
    net: SegmentationModel, config: RunConfig, table: SamplerTable | None, image: Array, reference: Mapping[str, Array]
) -> dict[str, Spread]:
    """How far PyTorch is from itself at each stage that is checked.

    Args:
        net: The network in evaluation mode.
        config: Its run's.
        table: Sampler table of the loop; None for a model of one pass.
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
