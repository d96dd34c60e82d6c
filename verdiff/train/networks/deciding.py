"""The probability from which on a pixel counts as a structure's, moved to one half for good.

Every host of a model decides at one half. A structure that should be decided elsewhere gets its logits shifted, in the
bias of the layers that give them, so that no host has to know.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from verdiff.errors import DataError
from verdiff.train.networks.model import SegmentationModel

# Beyond these a structure would be nearly everywhere, or nowhere.
LEAST, MOST = 0.05, 0.95


@torch.no_grad()
def decide(net: SegmentationModel, structures: Sequence[str], probabilities: Mapping[str, float]) -> None:
    """Shift logits so that what had ``probabilities`` has one half; ``net`` is changed in place.

    Args:
        net: A network whose prior, and denoiser if it has one, end with a layer ``head`` that gives logits.
        structures: Names of its channels.
        probabilities: Name -> probability; structures that are not named stay as they are.

    Raises:
        DataError: An unknown structure, a probability out of range, or a network that ends otherwise.
    """
    for name, probability in probabilities.items():
        if name not in structures or not LEAST <= probability <= MOST:
            raise DataError(
                f"--decide {name}={probability:g}",
                f"{', '.join(structures)}, each with a probability from {LEAST} to {MOST}",
                "name a structure of the model and a probability in that range",
            )
    if not probabilities:
        return
    shift = torch.tensor([-_logit(probabilities.get(name, 0.5)) for name in structures])
    for part in (net.prior, net.denoiser):
        if part is None:
            continue
        head = getattr(part, "head", None)
        bias = head.bias if isinstance(head, nn.Conv2d) else None
        if bias is None or bias.shape != shift.shape:
            raise DataError(
                "--decide with a network whose last layer is not a convolution to its structures",
                "a system such as verdiff-net",
                "leave --decide out",
            )
        bias += shift.to(bias)


def _logit(probability: float) -> float:
    return math.log(probability / (1 - probability))
