"""Weights half way between those a run began with and those it ended with.

A model that goes on learning on one kind of scan gets better there and forgets some of what it knew of others. The
straight line between the two sets of weights holds better ones for both (Wortsman et al., CVPR 2022, section 4).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

# The first weights of a run that is to be blended, and the result.
FIRST, BLENDED = "first.pt", "blended.pt"


@torch.no_grad()
def blend(net: nn.Module, first: Mapping[str, Tensor], share: float) -> None:
    """Move every weight of ``net`` by ``share`` of the way to ``first``, in place.

    Statistics of batch norms are no weights: they are to be settled afterwards (:mod:`verdiff.train.settling`).
    """
    for name, value in net.state_dict().items():
        if value.is_floating_point():
            value.lerp_(first[name].to(value), share)
