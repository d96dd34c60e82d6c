"""Statistics of batch norms that belong to the averaged weights, counted anew before these are used.

While training, a norm's running statistics follow the last few batches of the weights as they are at each iteration.
Validation and export use averaged weights, whose activations are others. After averaging the statistics have to be
counted again (Izmailov et al., UAI 2018, section 3.2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

# Four crops a batch: some hundreds of crops, after which the mean of a channel no longer moves the mask.
BATCHES = 60


@torch.no_grad()
def settle_norms(net: nn.Module, forward: Callable[[int], object], fixed: Sequence[str] = ()) -> None:
    """Give every batch norm of ``net`` the plain mean of its statistics over :data:`BATCHES` batches.

    Args:
        net: The network, changed in place; all else about it stays.
        forward: Runs the network on the batch of that number, as in training.
        fixed: Parts of the network that do not learn; their statistics stay.
    """
    frozen = {id(module) for part in fixed for module in net.get_submodule(part).modules()}
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d) and id(module) not in frozen]
    if not norms:
        return
    kept = [(norm.momentum, norm.training) for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative mean
        norm.train()
    for number in range(BATCHES):
        forward(number)
    for norm, (momentum, training) in zip(norms, kept, strict=True):
        norm.momentum = momentum
        norm.train(training)
