"""Weights between those of several runs: half way back to those a run began with, or the mean of several runs'.

A model that goes on learning on one kind of scan gets better there and forgets some of what it knew of others. The
straight line between the two sets of weights holds better ones for both (Wortsman et al., CVPR 2022, section 4). So
does the mean of several runs that went on from the same weights (Wortsman et al., ICML 2022, section 2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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


def mean_of(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of each weight of several networks of the same shapes; what only counts is the first one's.

    Statistics of batch norms are no weights: their means are a beginning, to be settled afterwards.
    """
    first = states[0]
    return {
        name: torch.stack([state[name].float() for state in states]).mean(dim=0).to(value)
        if value.is_floating_point()
        else value
        for name, value in first.items()
    }
